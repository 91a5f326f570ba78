# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "pytest>=9", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Undo what a test did with a rollback.

The code under test opens its own sessions, commits and rolls back. A transaction around
the test undoes it all, so the next test finds the database as it was.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, String, create_engine, event, func, inspect, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker


# The code under test.
class Base(DeclarativeBase):
    pass


class Member(Base):
    __tablename__ = "member"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(100), unique=True)


def sign_up(sessions: sessionmaker[Session], email: str) -> None:
    """Add a member, and commit. Raises IntegrityError if the address is taken."""
    with sessions.begin() as session:
        session.add(Member(email=email))


def count_members(sessions: sessionmaker[Session]) -> int:
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(Member)) or 0


# --8<-- [start:engine]
def open_engine(url: str) -> Engine:
    """An engine; with SQLite, one whose transactions begin where they begin here."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        # By itself, sqlite3 begins before the first change: after the savepoint.
        @event.listens_for(engine, "connect")
        def leave_it_to_us(raw, _):  # type: ignore[no-untyped-def]
            raw.isolation_level = None

        @event.listens_for(engine, "begin")
        def begin(conn):  # type: ignore[no-untyped-def]
            conn.exec_driver_sql("BEGIN")

    return engine


# --8<-- [end:engine]


# --8<-- [start:fixture]
@contextmanager
def rolled_back(engine: Engine) -> Iterator[sessionmaker[Session]]:
    """Sessions whose commits are seen by each other, and undone at the end."""
    with engine.connect() as conn:
        transaction = conn.begin()
        try:
            yield sessionmaker(conn, join_transaction_mode="create_savepoint")
        finally:
            transaction.rollback()


def make_tables(engine: Engine) -> None:
    """Make the tables anew. Raises ValueError if one holds rows: no test left them."""
    there = inspect(engine).get_table_names()
    with engine.connect() as conn:
        for table in Base.metadata.sorted_tables:
            row = select(text("1")).select_from(table).limit(1)
            if table.name in there and conn.scalar(row):
                raise ValueError(f"{table.name} holds rows: is this a test database?")
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The test database, with empty tables."""
    engine = open_engine(os.environ["TEST_DATABASE_URL"])
    make_tables(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def sessions(engine: Engine) -> Iterator[sessionmaker[Session]]:
    """What the code under test takes in place of its own sessionmaker."""
    with rolled_back(engine) as sessions:
        yield sessions


# --8<-- [end:fixture]

NO_SERVER = (
    "Set DATABASE_URL, for example postgresql+psycopg://cook:cook@127.0.0.1:15432"
    "/cookbook or sqlite:///app.db"
)


def main() -> None:
    engine = open_engine(os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER))
    make_tables(engine)
    for test in ("first", "second"):
        with rolled_back(engine) as sessions:
            sign_up(sessions, "anna@example.com")  # commits
            print(f"members in the {test} test:", count_members(sessions))
    print("members afterwards:", count_members(sessionmaker(engine)))
    engine.dispose()


if __name__ == "__main__":
    main()
