# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Skip a bad row with a savepoint.

One refused row must not undo the good ones of the same transaction. Add and flush it
inside `begin_nested()`, and catch the error outside of that block.
"""

import os
import sys
from collections.abc import Iterable

from sqlalchemy import Engine, String, create_engine, event, exc, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Member(Base):
    __tablename__ = "member"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(100), unique=True)


# --8<-- [start:engine]
def open_engine(address: str) -> Engine:
    """An engine; with SQLite, one whose transactions begin where they begin here."""
    engine = create_engine(address, pool_pre_ping=True)
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


# --8<-- [start:add]
def add_members(session: Session, emails: Iterable[str]) -> list[str]:
    """Add those that are new; return those that were refused. The caller commits.

    Only a refused row is skipped. Any other error ends it all, and is raised.
    """
    refused = []
    for email in emails:
        try:
            with session.begin_nested():  # flushes at its end, inside the `try`
                session.add(Member(email=email))
        except exc.IntegrityError:
            refused.append(email)
    return refused


# --8<-- [end:add]

NO_SERVER = (
    "Set DATABASE_URL, for example postgresql+psycopg://cook:cook@127.0.0.1:15432"
    "/cookbook or sqlite:///app.db"
)


def main() -> None:
    engine = open_engine(os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER))
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        emails = ["anna@example.com", "ben@example.com", "anna@example.com"]
        print("refused:", add_members(session, emails))
    with Session(engine) as session:
        print("members:", session.scalar(select(func.count()).select_from(Member)))
    engine.dispose()


if __name__ == "__main__":
    main()
