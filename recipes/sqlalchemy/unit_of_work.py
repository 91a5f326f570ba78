# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Let the session write in the right order.

Change objects, and the session finds the statements: parents before children, only the
columns that changed. A version column refuses to overwrite what somebody else wrote.
"""

import os
import sys
from collections.abc import Mapping

from sqlalchemy import ForeignKey, String, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.orm.attributes import flag_modified
from sqlalchemy.orm.exc import StaleDataError


# --8<-- [start:models]
class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str] = mapped_column(String(100))
    version: Mapped[int] = mapped_column()
    lines: Mapped[list["Line"]] = relationship(
        cascade="all, delete-orphan", order_by="Line.product"
    )

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


class Line(Base):
    __tablename__ = "order_line"

    order_id: Mapped[int] = mapped_column(ForeignKey(Order.id), primary_key=True)
    product: Mapped[str] = mapped_column(String(100), primary_key=True)
    quantity: Mapped[int]


# --8<-- [end:models]


# --8<-- [start:work]
def place(session: Session, customer: str, basket: Mapping[str, int]) -> int:
    """Add an order with its lines; return its number. The caller commits."""
    order = Order(customer=customer)
    order.lines = [Line(product=p, quantity=q) for p, q in basket.items()]
    session.add(order)  # the lines come with it
    session.flush()  # the number is known from here on
    return order.id


def change(session: Session, number: int, basket: Mapping[str, int], seen: int) -> int:
    """Make the order hold the basket: lines are added, changed, deleted. Return its
    new version; `seen` is the version that the user was shown. The caller commits.

    Raises NoResultFound; StaleDataError where somebody else has changed the order.
    """
    order = session.get_one(Order, number)
    if order.version != seen:
        raise StaleDataError(f"order {number} is at {order.version}, not at {seen}")
    flag_modified(order, "customer")  # a new version, even if only lines change
    kept = {line.product: line for line in order.lines if line.product in basket}
    for product, quantity in basket.items():
        line = kept.setdefault(product, Line(product=product))
        line.quantity = quantity
    order.lines = list(kept.values())  # the others are orphans, and deleted
    session.flush()
    return order.version


# --8<-- [end:work]

NO_SERVER = (
    "Set DATABASE_URL, for example postgresql+psycopg://cook:cook@127.0.0.1:15432"
    "/cookbook or sqlite:///app.db"
)


def main() -> None:
    engine = create_engine(os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER))
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        number = place(session, "anna", {"bread": 1, "salt": 2})
    with Session(engine) as session, session.begin():
        version = change(session, number, {"bread": 3, "tea": 1}, seen=1)
        print(f"order {number} is at version {version}")
    with Session(engine) as session:
        for line in session.get_one(Order, number).lines:
            print(f"{line.quantity} x {line.product}")
        try:
            change(session, number, {}, seen=1)
        except StaleDataError as error:
            print("refused:", error)
    engine.dispose()


if __name__ == "__main__":
    main()
