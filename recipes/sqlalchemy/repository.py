# /// script
# requires-python = ">=3.11"
# dependencies = ["sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Keep queries in one place: a repository.

The program asks for unpaid orders and knows no SQL. The class that answers never
commits: whoever calls it decides what belongs to one transaction.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any, Protocol, cast

from sqlalchemy import CursorResult, String, create_engine, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase): ...


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str] = mapped_column(String(100), index=True)
    cents: Mapped[int]
    paid: Mapped[bool] = mapped_column(default=False)


# --8<-- [start:protocol]
class Orders(Protocol):
    """What the program knows of the place where orders are kept."""

    def add(self, order: Order) -> int:
        """Keep the order, and return its number."""

    def get(self, number: int) -> Order:
        """The order of that number. Raises LookupError."""

    def unpaid(self, customer: str) -> Sequence[Order]:
        """The customer's unpaid orders, the oldest first."""

    def mark_paid(self, number: int) -> bool:
        """Mark it paid; False where it is paid already, or not there."""


# --8<-- [end:protocol]


# --8<-- [start:repository]
class SqlOrders:
    """Orders in a database, in the caller's session. It flushes, and never commits."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, order: Order) -> int:
        self._session.add(order)
        self._session.flush()  # before it, the number is None
        return order.id

    def get(self, number: int) -> Order:
        if order := self._session.get(Order, number):
            return order
        raise LookupError(f"there is no order {number}")

    def unpaid(self, customer: str) -> Sequence[Order]:
        query = select(Order).where(Order.customer == customer, ~Order.paid)
        query = query.order_by(Order.id).with_for_update()  # until the commit
        fresh = query.execution_options(populate_existing=True)
        return self._session.scalars(fresh).all()

    def mark_paid(self, number: int) -> bool:
        pay = update(Order).where(Order.id == number, ~Order.paid).values(paid=True)
        result = cast(CursorResult[Any], self._session.execute(pay))
        return result.rowcount == 1


# --8<-- [end:repository]


# --8<-- [start:service]
def settle(orders: Orders, customer: str, cents: int) -> int:
    """Pay the customer's oldest orders from that sum; return the cents left over."""
    for number, price in [(it.id, it.cents) for it in orders.unpaid(customer)]:
        if price <= cents and orders.mark_paid(number):
            cents -= price
    return cents


# --8<-- [end:service]

NO_SERVER = (
    "Set DATABASE_URL, for example"
    " postgresql+psycopg://cook:cook@127.0.0.1:15432/cookbook or sqlite:///app.db"
)


def main() -> None:
    url = os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER)
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        orders = SqlOrders(session)
        for cents in (1500, 9000, 400):
            print("new order:", orders.add(Order(customer="ann", cents=cents)))
    with Session(engine) as session, session.begin():  # both writes, or none
        orders = SqlOrders(session)
        print("left over:", settle(orders, "ann", 2000))
        print("still unpaid:", [order.id for order in orders.unpaid("ann")])
    engine.dispose()


if __name__ == "__main__":
    main()
