# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Make test data with plain functions.

A test names the values that it is about, and the function fills in the rest: valid for
every constraint, and never the same twice. Nothing to install, and types are checked.
"""

import os
import sys
from decimal import Decimal
from itertools import count

from sqlalchemy import CheckConstraint, ForeignKey, Numeric, String, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship


# What the tests are about.
class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(100), unique=True)
    country: Mapped[str] = mapped_column(String(2))


class Order(Base):
    __tablename__ = "orders"
    __table_args__ = (CheckConstraint("total > 0"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey(Customer.id))
    customer: Mapped[Customer] = relationship()
    total: Mapped[Decimal] = mapped_column(Numeric(10, 2))


# --8<-- [start:factories]
NUMBERS = count()


def make_customer(
    session: Session, *, email: str | None = None, country: str = "CH"
) -> Customer:
    """Add a customer, with an address that no other has. Flushed, not committed."""
    email = email or f"customer{next(NUMBERS)}@example.com"
    customer = Customer(email=email, country=country)
    session.add(customer)
    session.flush()
    return customer


def make_order(
    session: Session,
    *,
    customer: Customer | None = None,
    total: Decimal = Decimal("10.00"),
) -> Order:
    """Add an order, of a new customer unless one is given. Flushed, not committed."""
    order = Order(customer=customer or make_customer(session), total=total)
    session.add(order)
    session.flush()
    return order


# --8<-- [end:factories]

NO_SERVER = (
    "Set DATABASE_URL, for example postgresql+psycopg://cook:cook@127.0.0.1:15432"
    "/cookbook or sqlite:///app.db"
)


def main() -> None:
    engine = create_engine(os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER))
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        one, two = make_order(session), make_order(session)
        large = make_order(session, total=Decimal("9999.99"), customer=one.customer)
        print("the test chose:", large.total)
        print("the rest:", two.total, two.customer.country)
        print("one address each:", one.customer.email != two.customer.email)
        print("customers:", session.query(Customer).count())
    engine.dispose()


if __name__ == "__main__":
    main()
