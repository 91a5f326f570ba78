# /// script
# requires-python = ">=3.11"
# dependencies = ["sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Map database errors to the errors of your application.

A duplicate is an answer to the user, not a fault. Tell it from the others by the code
that the server sends: its text differs from engine to engine, and by language.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import CheckConstraint, Engine, ForeignKey, String, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


# --8<-- [start:map]
class RefusedError(Exception):
    """A constraint refused the data. The cause is the error of the driver."""


class DuplicateError(RefusedError): ...


class BrokenReferenceError(RefusedError): ...


class MissingValueError(RefusedError): ...


class CheckError(RefusedError): ...


MEANING: dict[object, type[RefusedError]] = {
    # PostgreSQL: the SQLSTATE of standard SQL.
    "23505": DuplicateError,
    "23503": BrokenReferenceError,
    "23502": MissingValueError,
    "23514": CheckError,
    # MySQL and MariaDB: their numbers. Their SQLSTATE, 23000, is one for nearly all.
    1062: DuplicateError,
    1451: BrokenReferenceError,  # of a row that is to go
    1452: BrokenReferenceError,
    1048: MissingValueError,
    1364: MissingValueError,  # left out, and no default
    3819: CheckError,  # MySQL
    4025: CheckError,  # MariaDB
    # SQLite: the name of the extended code.
    "SQLITE_CONSTRAINT_UNIQUE": DuplicateError,
    "SQLITE_CONSTRAINT_PRIMARYKEY": DuplicateError,
    "SQLITE_CONSTRAINT_FOREIGNKEY": BrokenReferenceError,
    "SQLITE_CONSTRAINT_NOTNULL": MissingValueError,
    "SQLITE_CONSTRAINT_CHECK": CheckError,
}


def error_code(error: DBAPIError) -> object:
    """MySQL's number, SQLSTATE or SQLite's name; the first that the driver gives."""
    arguments = getattr(error.orig, "args", ())
    if arguments and isinstance(arguments[0], int):
        return arguments[0]
    name = getattr(error.orig, "sqlite_errorname", None)
    return getattr(error.orig, "sqlstate", name)


@contextmanager
def known_errors() -> Iterator[None]:
    """Raise a RefusedError where a constraint refused; let all other errors pass."""
    try:
        yield
    except DBAPIError as error:  # PyMySQL: a check is no IntegrityError on MySQL
        if meaning := MEANING.get(error_code(error)):
            raise meaning(str(error.orig)) from error
        raise


# --8<-- [end:map]


class Base(DeclarativeBase): ...


class Team(Base):
    __tablename__ = "team"
    id: Mapped[int] = mapped_column(primary_key=True)


class Member(Base):
    __tablename__ = "member"
    __table_args__ = (CheckConstraint("age >= 0", name="age"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(100), unique=True)
    age: Mapped[int]
    team_id: Mapped[int] = mapped_column(ForeignKey("team.id"))


# --8<-- [start:use]
def add_member(engine: Engine, email: str, age: int, team: int) -> int:
    """Store a member and return the id. Raises RefusedError; then nothing is stored."""
    with known_errors(), Session(engine) as session, session.begin():
        member = Member(email=email, age=age, team_id=team)
        session.add(member)
        session.flush()  # without it there is no id yet
        return member.id


# --8<-- [end:use]

PRAGMA = "PRAGMA foreign_keys = ON"
NO_SERVER = (
    "Set DATABASE_URL, for example"
    " postgresql+psycopg://cook:cook@127.0.0.1:15432/cookbook or sqlite:///app.db"
)


def main() -> None:
    url = os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER)
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":  # which checks no foreign key unless told
        event.listen(engine, "connect", lambda c, _: c.execute(PRAGMA).close())
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Team(id=1))
    for person in (("ann@x.example", 30, 1), ("ann@x.example", 9, 1), ("bob", 4, 9)):
        try:
            print("stored with id", add_member(engine, *person))
        except RefusedError as error:
            print(f"{person[0]}: {type(error).__name__}")
    engine.dispose()


if __name__ == "__main__":
    main()
