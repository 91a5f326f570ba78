# /// script
# requires-python = ">=3.11"
# dependencies = ["factory-boy>=3.3.3", "psycopg[binary]>=3.2", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Make test data with factory-boy.

A test names the values that it is about, and the factory fills in the rest: valid for
every constraint, and never the same twice. Here on SQLAlchemy.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from decimal import Decimal

from factory.alchemy import SQLAlchemyModelFactory
from factory.declarations import Sequence, SubFactory
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
SESSION: ContextVar[Session] = ContextVar("the session of the test")


class Saved(SQLAlchemyModelFactory):
    """Adds what it makes to the session of the test. Flushed, and never committed."""

    class Meta:
        abstract = True
        sqlalchemy_session_factory = SESSION.get
        sqlalchemy_session_persistence = "flush"


class CustomerFactory(Saved):
    class Meta:
        model = Customer

    email = Sequence("customer{}@example.com".format)
    country = "CH"


class OrderFactory(Saved):
    class Meta:
        model = Order

    customer = SubFactory(CustomerFactory)
    total = Decimal("10.00")


@contextmanager
def saved_in(session: Session) -> Iterator[None]:
    """Inside of this block the factories use that session; for a fixture of yours."""
    token = SESSION.set(session)
    try:
        yield
    finally:
        SESSION.reset(token)


# --8<-- [end:factories]

NO_SERVER = (
    "Set DATABASE_URL, for example postgresql+psycopg://cook:cook@127.0.0.1:15432"
    "/cookbook or sqlite:///app.db"
)


def main() -> None:
    engine = create_engine(os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER))
    Base.metadata.create_all(engine)
    with Session(engine) as session, saved_in(session):
        orders = OrderFactory.create_batch(2)
        large = OrderFactory.create(
            total=Decimal("9999.99"), customer=orders[0].customer
        )
        print("the test chose:", large.total)
        print("the rest:", orders[1].total, orders[1].customer.country)
        print("one address each:", orders[0].customer.email != orders[1].customer.email)
        print("customers:", session.query(Customer).count())
    engine.dispose()


if __name__ == "__main__":
    main()
