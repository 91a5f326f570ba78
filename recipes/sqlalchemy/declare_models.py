# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Declare models whose rules the database keeps.

A rule that only Python knows is broken by the next program. Put lengths, checks,
defaults and foreign keys into the tables, and give each a name a migration can drop.
"""

import os
import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import sqlalchemy as sa
from sqlalchemy.dialects.mysql import DATETIME
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship


# --8<-- [start:time]
class UtcDateTime(sa.TypeDecorator[datetime]):
    """Aware datetimes, kept in UTC where the database knows no time zones."""

    impl = sa.DateTime(timezone=True).with_variant(DATETIME(fsp=6), "mysql", "mariadb")
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _: Any) -> datetime | None:
        if value and value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _: Any) -> datetime | None:
        if value and value.tzinfo is None:
            return value.replace(tzinfo=UTC)
        return value and value.astimezone(UTC)


class utc_now(sa.sql.functions.FunctionElement[datetime]):
    """The server's clock. MySQL's CURRENT_TIMESTAMP is in the session's time zone."""

    type = UtcDateTime()
    inherit_cache = True


@compiles(utc_now)
def _(element: utc_now, compiler: Any, **_: Any) -> str:
    mysql = compiler.dialect.name in ("mysql", "mariadb")
    return "(UTC_TIMESTAMP(6))" if mysql else "CURRENT_TIMESTAMP"


# --8<-- [end:time]

# --8<-- [start:models]
Name = Annotated[str, mapped_column(sa.String(100))]


class Base(DeclarativeBase):
    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Timestamps:
    """A mixin: when the row was made, and when a model last changed it."""

    made_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=utc_now())
    changed_at: Mapped[datetime | None] = mapped_column(UtcDateTime, onupdate=utc_now())


class Customer(Timestamps, Base):
    __tablename__ = "customer"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[Name] = mapped_column(unique=True)
    orders: Mapped[list["Order"]] = relationship(
        back_populates="customer", passive_deletes="all"
    )


class Order(Timestamps, Base):
    __tablename__ = "orders"
    __table_args__ = (sa.CheckConstraint("quantity > 0", name="quantity"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customer.id"), index=True)
    quantity: Mapped[int] = mapped_column(server_default="1")
    note: Mapped[Name | None]
    customer: Mapped[Customer] = relationship(back_populates="orders")


# --8<-- [end:models]


# --8<-- [start:engine]
def open_engine(address: str) -> sa.Engine:
    """An engine; with SQLite, one that keeps foreign keys. It does not by itself."""
    engine = sa.create_engine(address, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        sa.event.listen(
            engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys = ON")
        )
    return engine


# --8<-- [end:engine]

NO_SERVER = (
    "Set DATABASE_URL, for example postgresql+psycopg://cook:cook@127.0.0.1:15432"
    "/cookbook or sqlite:///app.db"
)


def main() -> None:
    engine = open_engine(os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER))
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        order = Order(customer=Customer(email="anna@example.com"))
        session.add(order)
        session.flush()
        print(f"quantity {order.quantity}, made in {order.made_at.tzname()}")
    inspector = sa.inspect(engine)
    print("key:", inspector.get_foreign_keys("orders")[0]["name"])
    print("check:", inspector.get_check_constraints("orders")[0]["name"])
    engine.dispose()


if __name__ == "__main__":
    main()
