# /// script
# requires-python = ">=3.11"
# dependencies = ["ibm-db>=3.3", "ibm-db-sa>=0.4.4", "sqlalchemy>=2.1"]
# ///
"""Use SQLAlchemy with Db2, and keep money exact.

IBM's dialect drops most options of a URL, and sends a Decimal as a float. Give the
engine a connection of your own, and tell the dialect that the driver takes Decimal. Use
this wherever an application reaches Db2 through SQLAlchemy.
"""

import os
import sys
from datetime import UTC, datetime
from decimal import Decimal

import ibm_db_dbi
from sqlalchemy import (
    DateTime,
    Dialect,
    Engine,
    Identity,
    Numeric,
    String,
    create_engine,
    select,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.types import TypeDecorator

NO_SERVER = (
    "Set DB2_DSN, for example DATABASE=COOKBOOK;HOSTNAME=127.0.0.1;PORT=15000;"
    "PROTOCOL=TCPIP;UID=db2inst1;PWD=cook;"
    " after `docker compose up -d --wait db2`"
)


# --8<-- [start:engine]
def make_engine(dsn: str) -> Engine:
    """Return an engine for a connection string: KEYWORD=value;KEYWORD=value;...

    Each keyword reaches the driver. Nothing is connected to yet.
    """
    limits = "CONNECTTIMEOUT=5;RECEIVETIMEOUT=60;"
    engine = create_engine(
        "db2+ibm_db://",  # the dialect of ibm-db-sa; the rest is the creator's
        creator=lambda: ibm_db_dbi.connect(limits + dsn, "", ""),
    )
    engine.dialect.supports_native_decimal = True  # or Numeric goes out as float
    return engine


# --8<-- [end:engine]


# --8<-- [start:model]
class UtcDateTime(TypeDecorator[datetime]):
    """An aware time, in a TIMESTAMP column that holds UTC."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        if value is None:
            return None
        if value.utcoffset() is None:
            raise ValueError(f"{value} has no time zone")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        return value and value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    owner: Mapped[str] = mapped_column(String(100))
    balance: Mapped[Decimal] = mapped_column(Numeric(18, 2))
    opened: Mapped[datetime] = mapped_column(UtcDateTime)


# --8<-- [end:model]


# --8<-- [start:lock]
def withdraw(session: Session, account_id: int, amount: Decimal) -> Decimal:
    """Take the amount from the account, whose row is locked; return what is left.

    Raises NoResultFound for an unknown account, ValueError for an overdraft or an
    amount that is not positive and in cents. The caller commits.
    """
    if not (amount.is_finite() and amount > 0 and amount == round(amount, 2)):
        raise ValueError(f"{amount} is no positive amount in cents")
    query = (
        select(Account)
        .where(Account.id == account_id)
        .suffix_with("WITH RS USE AND KEEP UPDATE LOCKS")  # with_for_update() fails
        .execution_options(populate_existing=True)
    )
    account = session.scalars(query).one()
    if amount > account.balance:
        raise ValueError(f"{amount} cannot be taken from {account.balance}")
    account.balance -= amount
    return account.balance


# --8<-- [end:lock]


def main() -> None:
    dsn = os.environ.get("DB2_DSN") or sys.exit(NO_SERVER)
    engine = make_engine(dsn)
    Base.metadata.create_all(engine)
    noon = datetime(2026, 1, 5, 12, tzinfo=UTC)
    with Session(engine) as session, session.begin():
        large = Decimal("9007199254740993.01")
        session.add(Account(owner="Ann", balance=large, opened=noon))
    with Session(engine) as session, session.begin():
        print("left:", withdraw(session, 1, Decimal("0.01")))
    with Session(engine) as session:
        for account in session.scalars(select(Account)):
            print(account.owner, account.balance, account.opened.isoformat())
    engine.dispose()


if __name__ == "__main__":
    main()
