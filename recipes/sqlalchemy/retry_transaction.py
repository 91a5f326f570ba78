# /// script
# requires-python = ">=3.11"
# dependencies = ["sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Retry a transaction without doing it twice.

Deadlocks, serialization failures and lost lines go away when it runs again. But after a
lost answer to COMMIT nobody knows whether it happened, unless the transaction leaves a
mark of its own in the database.
"""

import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import JSON, Engine, create_engine, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase): ...


# --8<-- [start:retry]
class Done(Base):
    """One row for each unit of work that is committed. Delete old ones now and then."""

    __tablename__ = "done"
    key: Mapped[UUID] = mapped_column(primary_key=True)
    result: Mapped[Any] = mapped_column(JSON, nullable=True)


# The server has rolled back and says so.
ROLLED_BACK = {
    "40001",  # PostgreSQL: serialization failure
    "40P01",  # PostgreSQL: deadlock
    1213,  # MySQL and MariaDB: deadlock
    1205,  # MySQL and MariaDB: waited too long for a lock
    1020,  # MariaDB: the row has changed since the snapshot
    "SQLITE_BUSY",
    "SQLITE_BUSY_SNAPSHOT",
}


def is_passing(error: DBAPIError) -> bool:
    """Whether the same transaction may succeed when it runs again."""
    codes = [getattr(error.orig, name, 0) for name in ("sqlstate", "sqlite_errorname")]
    codes += getattr(error.orig, "args", ())[:1]
    return error.connection_invalidated or not ROLLED_BACK.isdisjoint(codes)


def run_once(
    engine: Engine,
    key: UUID,
    work: Callable[[Session], Any],
    *,
    attempts: int = 5,
    pause: float = 0.05,
) -> Any:
    """Commit work(session) once for that key; return its result (what JSON can hold).

    A key that is done returns its stored result. work may run up to `attempts` times,
    after random pauses of up to `pause` seconds, doubled each time: nothing but SQL in
    it. Raises the last error; then call again, with the same key.
    """
    if attempts < 1:
        raise ValueError("attempts must be 1 or more")
    attempt = 0
    while True:
        attempt += 1
        claimed = False
        try:
            with Session(engine) as session, session.begin():
                if done := session.get(Done, key):
                    return done.result
                session.add(done := Done(key=key))
                session.flush()  # waits for whoever does the same at this moment
                claimed = True
                done.result = work(session)
                return done.result  # and the commit
        except DBAPIError as error:
            is_taken = isinstance(error, IntegrityError) and not claimed
            if attempt == attempts or not (is_taken or is_passing(error)):
                raise
        time.sleep(random.uniform(0, pause * 2**attempt))


# --8<-- [end:retry]


class Account(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    cents: Mapped[int]


# --8<-- [start:use]
def deposit(engine: Engine, key: UUID, account: int, cents: int) -> int:
    """Add to the account once for that key; return the balance after it."""

    def work(session: Session) -> int:
        more = Account.cents + cents
        session.execute(update(Account).filter_by(id=account).values(cents=more))
        return session.get_one(Account, account).cents

    return int(run_once(engine, key, work))


# --8<-- [end:use]

NO_SERVER = (
    "Set DATABASE_URL, for example"
    " postgresql+psycopg://cook:cook@127.0.0.1:15432/cookbook or sqlite:///app.db"
)


def main() -> None:
    url = os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER)
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Account(id=1, cents=100))
    key = uuid4()  # made with the order that it pays, and kept with it
    print("first call:", deposit(engine, key, 1, 50))
    print("same key again:", deposit(engine, key, 1, 50))
    print("another key:", deposit(engine, uuid4(), 1, 50))
    engine.dispose()


if __name__ == "__main__":
    main()
