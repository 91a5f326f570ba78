# /// script
# requires-python = ">=3.11"
# dependencies = ["sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Write one model for many engines.

The same column type keeps different things on different engines: cents, time zones,
microseconds and capital letters get lost on some. These types keep them on all.
"""

import os
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    DateTime,
    Dialect,
    Engine,
    Integer,
    String,
    TypeDecorator,
    create_engine,
    select,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


# --8<-- [start:types]
class Cents(TypeDecorator[Decimal]):
    """Money with two decimals, stored as a whole number: SQLite has no decimals."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        cents = value * 100
        if cents != int(cents):
            raise ValueError(f"{value} has a fraction of a cent")
        return int(cents)

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value).scaleb(-2)


class Moment(TypeDecorator[datetime]):
    """An aware datetime, stored in UTC: SQLite and MySQL keep no zone."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        if dialect.name in ("mysql", "mariadb"):
            return mysql.DATETIME(fsp=6)  # or the microseconds are lost
        return DateTime(timezone=True)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        in_utc = value.astimezone(UTC)
        return in_utc if dialect.name == "postgresql" else in_utc.replace(tzinfo=None)

    def process_result_value(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        if value is None:
            return None
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)


BIG_ID = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers INTEGER alone
EXACT = String(50).with_variant(
    mysql.VARCHAR(50, collation="utf8mb4_bin"), "mysql", "mariadb"
)  # elsewhere 'a' is not 'A' anyway
# --8<-- [end:types]


# --8<-- [start:model]
class Base(DeclarativeBase):
    type_annotation_map: ClassVar[dict[Any, Any]] = {Decimal: Cents, datetime: Moment}


class Payment(Base):
    __tablename__ = "payment"
    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True)
    code: Mapped[str] = mapped_column(EXACT, unique=True)
    amount: Mapped[Decimal | None]
    paid_at: Mapped[datetime | None]
    order: Mapped[UUID]


# --8<-- [end:model]


def store(engine: Engine, payment: Payment) -> int:
    """Store the payment, and return its id."""
    with Session(engine) as session, session.begin():
        session.add(payment)
        session.flush()
        return payment.id


NO_SERVER = (
    "Set DATABASE_URL, for example"
    " postgresql+psycopg://cook:cook@127.0.0.1:15432/cookbook or sqlite:///app.db"
)


def main() -> None:
    url = os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER)
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    moment = datetime(2026, 3, 1, 12, 0, 0, 123456, UTC)
    for code, amount in (("a1", "0.10"), ("A1", "90071992547409.93")):
        payment = Payment(
            code=code, amount=Decimal(amount), paid_at=moment, order=uuid4()
        )
        store(engine, payment)
    with Session(engine) as session:
        for payment in session.scalars(select(Payment).order_by(Payment.id)):
            print(payment.id, payment.code, payment.amount, payment.paid_at)
    engine.dispose()


if __name__ == "__main__":
    main()
