# /// script
# requires-python = ">=3.11"
# dependencies = ["sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Update many rows.

Either each row gets a value of its own, in one batch; or one rule changes them all, in
short transactions. A job that may be run again must not change a row twice.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Engine,
    String,
    create_engine,
    insert,
    inspect,
    select,
    true,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase): ...


class Product(Base):
    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    cents: Mapped[int] = mapped_column(BigInteger)
    price_list: Mapped[int] = mapped_column(default=1)  # that its price comes from


# --8<-- [start:own]
def update_rows(
    session: Session, model: type[DeclarativeBase], rows: Sequence[dict[str, Any]]
) -> None:
    """Give each row its own values: {"id": 1, "cents": 250}, found by primary key.

    Part of the session's transaction. Raises ValueError for a name that the model
    lacks; StaleDataError where a row is not there: then roll back.
    """
    attributes = set(inspect(model).column_attrs.keys())
    if unknown := {name for row in rows for name in row} - attributes:
        raise ValueError(f"{model.__name__} has no {sorted(unknown)}")
    if rows:
        session.execute(update(model), rows)


# --8<-- [end:own]


# --8<-- [start:rule]
def raise_prices(
    engine: Engine, percent: int, price_list: int, *, batch: int = 1000
) -> int:
    """Move every product to the price list, dearer by so many percent, rounded to the
    cent. Return how many prices this call changed.

    Each batch is a transaction of its own. When it fails half way, call it again.
    Raises ValueError where percent or batch is below 1.
    """
    if percent < 1 or batch < 1:
        raise ValueError("percent and batch must be 1 or more")
    dearer = (Product.cents * (100 + percent) + 50) // 100
    old = Product.price_list < price_list
    rest: ColumnElement[bool] = true()
    total = 0
    while True:
        with Session(engine) as session, session.begin():
            ids = select(Product.id).where(old, rest).order_by(Product.id)
            found = session.scalars(ids.limit(batch).with_for_update()).all()
            if not found:
                return total
            change = update(Product).where(Product.id.in_(found), old)
            change = change.values(cents=dearer, price_list=price_list)
            total += session.connection().execute(change).rowcount
            rest = Product.id > found[-1]


# --8<-- [end:rule]

NO_SERVER = (
    "Set DATABASE_URL, for example"
    " postgresql+psycopg://cook:cook@127.0.0.1:15432/cookbook or sqlite:///app.db"
)


def main() -> None:
    url = os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER)
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    names = ("bread", "milk", "tea")
    products = [{"id": n, "name": it, "cents": 100} for n, it in enumerate(names, 1)]
    with Session(engine) as session, session.begin():
        session.execute(insert(Product), products)
        update_rows(
            session, Product, [{"id": 1, "cents": 119}, {"id": 2, "cents": 250}]
        )
    print("raised:", raise_prices(engine, 10, price_list=2))
    print("raised when run again:", raise_prices(engine, 10, price_list=2))
    with Session(engine) as session:
        for product in session.scalars(select(Product).order_by(Product.id)):
            print(product.name, product.cents)
    engine.dispose()


if __name__ == "__main__":
    main()
