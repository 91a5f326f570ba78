# /// script
# requires-python = ">=3.11"
# dependencies = ["sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Insert many rows.

One statement with a list of rows is sent in the driver's batches: no object for each
row, and no statement for each. Rows that differ in shape would undo that, silently.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import String, create_engine, func, insert, inspect, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase): ...


class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(100), unique=True)
    phone: Mapped[str | None] = mapped_column(String(30))
    language: Mapped[str] = mapped_column(String(2), default="en")
    level: Mapped[int] = mapped_column(server_default=text("1"))


# --8<-- [start:rows]
def insert_rows(
    session: Session,
    model: type[DeclarativeBase],
    rows: Iterable[dict[str, Any]],
    *,
    batch: int = 1000,
) -> int:
    """Insert the rows (attribute name to value), and return how many there were.

    Holds one batch in memory. Part of the session's transaction. Raises ValueError
    where a row has a name that the model lacks, or other names than the first row.
    """
    if batch < 1:
        raise ValueError("batch must be 1 or more")
    attributes = set(inspect(model).column_attrs.keys())
    names, total, waiting = None, 0, iter(rows)
    while chunk := list(islice(waiting, batch)):
        names = names or chunk[0].keys()
        if unknown := names - attributes:
            raise ValueError(f"{model.__name__} has no {sorted(unknown)}")
        for row in chunk:
            if row.keys() != names:
                raise ValueError(f"not the names of the first row: {sorted(row)}")
        # Without it, rows with a None and rows without are statements apart.
        session.execute(insert(model).execution_options(render_nulls=True), chunk)
        total += len(chunk)
    return total


# --8<-- [end:rows]


# --8<-- [start:ids]
def insert_objects(session: Session, customers: Sequence[Customer]) -> list[int]:
    """Insert the objects, and return their new ids, in the same order.

    Part of the session's transaction.
    """
    session.add_all(customers)
    session.flush()
    return [customer.id for customer in customers]


# --8<-- [end:ids]

NO_SERVER = (
    "Set DATABASE_URL, for example"
    " postgresql+psycopg://cook:cook@127.0.0.1:15432/cookbook or sqlite:///app.db"
)


def main() -> None:
    url = os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER)
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    rows = ({"email": f"c{n}@example.com", "phone": None} for n in range(2500))
    with Session(engine) as session, session.begin():
        print("inserted:", insert_rows(session, Customer, rows))
        three = [Customer(email=f"new{n}@example.com") for n in range(3)]
        ids = insert_objects(session, three)
        print("ids in order:", ids == sorted(ids))
    with Session(engine) as session:
        query = select(Customer.language, Customer.level, func.count())
        for row in session.execute(query.group_by(Customer.language, Customer.level)):
            print("language, level, rows:", *row)
    engine.dispose()


if __name__ == "__main__":
    main()
