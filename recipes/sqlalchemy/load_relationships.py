# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Load related rows in two statements, not in fifty-one.

A lazy relationship asks the database once for each parent. Say in the query what comes
along, and let a relationship that was forgotten raise.
"""

import os
import sys
from collections.abc import Sequence

from sqlalchemy import ForeignKey, String, create_engine, event, func, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)


# --8<-- [start:models]
class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    orders: Mapped[list["Order"]] = relationship(
        back_populates="customer", lazy="raise", order_by="Order.id"
    )


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey(Customer.id), index=True)
    total: Mapped[int]  # cents
    customer: Mapped[Customer] = relationship(back_populates="orders", lazy="raise")


# --8<-- [end:models]


# --8<-- [start:load]
def customers_with_orders(session: Session, limit: int = 100) -> Sequence[Customer]:
    """A list below each parent: a second statement fetches them all."""
    query = select(Customer).options(selectinload(Customer.orders))
    return session.scalars(query.order_by(Customer.id).limit(limit)).all()


def orders_with_customer(session: Session, limit: int = 100) -> Sequence[Order]:
    """One parent for each row: a join in the same statement."""
    query = select(Order).options(joinedload(Order.customer, innerjoin=True))
    return session.scalars(query.order_by(Order.id).limit(limit)).all()


def spent(session: Session) -> dict[str, int]:
    """Only a number is needed: let the database add, and load no objects. In cents."""
    query = (
        select(Customer.name, func.coalesce(func.sum(Order.total), 0))
        .outerjoin(Order)  # customers without an order too
        .group_by(Customer.id, Customer.name)
        .order_by(Customer.id)
    )
    return {name: int(cents) for name, cents in session.execute(query)}


# --8<-- [end:load]

NO_SERVER = (
    "Set DATABASE_URL, for example postgresql+psycopg://cook:cook@127.0.0.1:15432"
    "/cookbook or sqlite:///app.db"
)


def main() -> None:
    engine = create_engine(os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER))
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        for n in range(50):
            orders = [Order(total=n), Order(total=100)]
            session.add(Customer(name=f"customer {n}", orders=orders))
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    with Session(engine) as session:
        count = sum(len(one.orders) for one in customers_with_orders(session))
        print(f"{count} orders of 50 customers: {len(sent)} statements")
        sent.clear()
        names = {order.customer.name for order in orders_with_customer(session)}
        print(f"100 orders of {len(names)} customers: {len(sent)} statement")
        print(f"customer 7 has spent {spent(session)['customer 7']}")
    engine.dispose()


if __name__ == "__main__":
    main()
