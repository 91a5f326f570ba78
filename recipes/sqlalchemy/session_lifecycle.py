# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Open a session for each unit of work.

One engine and one factory for the process; one short session for each request or job.
It commits at the end of its block, or undoes everything, and gives back its connection.
"""

import os
import sys

from sqlalchemy import String, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "account"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(String(100), unique=True)
    visits: Mapped[int] = mapped_column(default=0)


# --8<-- [start:factory]
def open_sessions(address: str) -> sessionmaker[Session]:
    """The factory of sessions, one for each process, made when it starts."""
    engine = create_engine(address, pool_pre_ping=True)
    # What was loaded stays readable after the commit, when the session is closed.
    return sessionmaker(engine, expire_on_commit=False)


# --8<-- [end:factory]


# --8<-- [start:use]
def register(sessions: sessionmaker[Session], owner: str) -> Account:
    """Add an account; return it with its id. Raises IntegrityError (name is taken)."""
    with sessions.begin() as session:
        account = Account(owner=owner)
        session.add(account)
    return account  # committed: before this line nobody may be told


def find(sessions: sessionmaker[Session], owner: str) -> Account | None:
    """Read only: no commit, and the end of the block ends the transaction."""
    with sessions() as session:
        query = select(Account).where(Account.owner == owner)
        return session.scalars(query).one_or_none()


def count_visit(sessions: sessionmaker[Session], owner: str) -> int:
    """Count one more; return how many. Raises NoResultFound (no such account)."""
    with sessions.begin() as session:
        query = select(Account).where(Account.owner == owner)
        account = session.scalars(query).one()
        account.visits = Account.visits + 1  # the database adds: two at once are two
        session.flush()
        return account.visits


# --8<-- [end:use]

NO_SERVER = (
    "Set DATABASE_URL, for example postgresql+psycopg://cook:cook@127.0.0.1:15432"
    "/cookbook or sqlite:///app.db"
)


def main() -> None:
    sessions = open_sessions(os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER))
    engine = sessions.kw["bind"]
    Base.metadata.create_all(engine)
    anna = register(sessions, "anna")
    print(f"{anna.owner} has the number {anna.id}")
    for _ in range(2):
        print("visits:", count_visit(sessions, "anna"))
    print("ben:", find(sessions, "ben"))
    engine.dispose()


if __name__ == "__main__":
    main()
