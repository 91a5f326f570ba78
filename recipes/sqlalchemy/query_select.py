# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Join, add up and rank with select().

Let the database count: a join to two lists doubles a sum, and NOT IN finds nothing when
there is a NULL. Sums in subqueries, EXISTS and window functions are right everywhere.
"""

import os
import sys

from sqlalchemy import ForeignKey, String, create_engine, exists, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    # None: sold over the counter
    customer_id: Mapped[int | None] = mapped_column(ForeignKey(Customer.id), index=True)
    cents: Mapped[int]


class Payment(Base):
    __tablename__ = "payment"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey(Customer.id), index=True)
    cents: Mapped[int]


# --8<-- [start:sums]
def owed(session: Session, at_least: int = 1) -> dict[str, int]:
    """What customers have ordered and not paid, in cents, the largest debt first."""
    ordered = (
        select(Order.customer_id, func.sum(Order.cents).label("cents"))
        .group_by(Order.customer_id)
        .subquery()
    )
    paid = (
        select(Payment.customer_id, func.sum(Payment.cents).label("cents"))
        .group_by(Payment.customer_id)
        .subquery()
    )
    # One row for each customer on both sides: nothing is counted twice.
    debt = ordered.c.cents - func.coalesce(paid.c.cents, 0)
    query = (
        select(Customer.name, debt)
        .join(ordered, ordered.c.customer_id == Customer.id)
        .outerjoin(paid, paid.c.customer_id == Customer.id)
        .where(debt >= at_least)
        .order_by(debt.desc(), Customer.id)
    )
    return {name: int(cents) for name, cents in session.execute(query)}


# --8<-- [end:sums]


# --8<-- [start:exists]
def without_orders(session: Session) -> list[str]:
    """The names of customers who have never ordered."""
    has_ordered = exists().where(Order.customer_id == Customer.id)
    query = select(Customer.name).where(~has_ordered).order_by(Customer.id)
    return list(session.scalars(query))


# --8<-- [end:exists]


# --8<-- [start:window]
def largest_orders(session: Session, each: int = 1) -> list[tuple[str, int]]:
    """For each customer the name and the cents of the largest orders."""
    place = func.row_number().over(
        partition_by=Order.customer_id, order_by=(Order.cents.desc(), Order.id)
    )
    ranked = select(Order.customer_id, Order.cents, place.label("place")).subquery()
    query = (
        select(Customer.name, ranked.c.cents)
        .join(ranked, ranked.c.customer_id == Customer.id)
        .where(ranked.c.place <= each)
        .order_by(Customer.id, ranked.c.place)
    )
    return [(name, cents) for name, cents in session.execute(query)]


# --8<-- [end:window]

NO_SERVER = (
    "Set DATABASE_URL, for example postgresql+psycopg://cook:cook@127.0.0.1:15432"
    "/cookbook or sqlite:///app.db"
)


def main() -> None:
    engine = create_engine(os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER))
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        names = ["anna", "ben", "carl"]
        session.add_all(Customer(id=n, name=name) for n, name in enumerate(names, 1))
        session.flush()
        orders = [(1, 500), (1, 700), (2, 100), (None, 300)]
        session.add_all(Order(customer_id=who, cents=cents) for who, cents in orders)
        session.add_all(Payment(customer_id=1, cents=cents) for cents in (200, 300))
        session.flush()
        print("owed:", owed(session))
        print("without orders:", without_orders(session))
        print("largest:", largest_orders(session))
    engine.dispose()


if __name__ == "__main__":
    main()
