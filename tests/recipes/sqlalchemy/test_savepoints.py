"""savepoints: the bad rows go, the good ones stay."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, event, exc, select
from sqlalchemy.orm import Session

from recipes.sqlalchemy.savepoints import Base, Member, add_members, open_engine


@pytest.fixture
def engine(database) -> Iterator[Engine]:
    """With an empty table."""
    engine = open_engine(database)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def members(engine) -> list[str]:
    with Session(engine) as session:
        return list(session.scalars(select(Member.email).order_by(Member.id)))


def test_good_ones_stay(engine):
    """Of five rows the second and the fourth are refused: three are committed."""
    with Session(engine) as session, session.begin():
        assert add_members(session, ["a", "a", "b", "b", "c"]) == ["a", "b"]
    assert members(engine) == ["a", "b", "c"]


def test_refused_by_an_older_row(engine):
    """A row that was committed before is refused as well."""
    with Session(engine) as session, session.begin():
        add_members(session, ["a"])
    with Session(engine) as session, session.begin():
        assert add_members(session, ["a", "b"]) == ["a"]
    assert members(engine) == ["a", "b"]


def test_session_goes_on(engine):
    """After a refused row the session works on, and finds what it has added."""
    with Session(engine) as session, session.begin():
        add_members(session, ["a", "a"])
        assert session.scalars(select(Member.email)).all() == ["a"]
        session.add(Member(email="z"))
    assert members(engine) == ["a", "z"]


def test_all_or_nothing_for_the_caller(engine):
    """The savepoints are part of the caller's transaction: undone, nothing stays."""
    with Session(engine) as session:
        add_members(session, ["a", "a", "b"])
        session.rollback()
    assert members(engine) == []


def test_other_errors_are_raised(engine):
    """An error that is no refusal ends the whole transaction."""

    def broken() -> Iterator[str]:
        yield "a"
        raise ZeroDivisionError

    def add_all() -> None:
        with Session(engine) as session, session.begin():
            add_members(session, broken())

    with pytest.raises(ZeroDivisionError):
        add_all()
    assert members(engine) == []


def test_statements(engine):
    """The database sees a savepoint for each row; it is released, or rolled back to."""
    said = []
    for name in ("savepoint", "release_savepoint", "rollback_savepoint"):
        event.listen(engine, name, lambda *_, name=name: said.append(name))
    with Session(engine) as session, session.begin():
        add_members(session, ["a", "a"])
    assert said == ["savepoint", "release_savepoint", "savepoint", "rollback_savepoint"]


# --8<-- [start:wrong]
def add_as_often_copied(session, emails):
    for email in emails:
        nested = session.begin_nested()
        try:
            session.add(Member(email=email))
        except exc.IntegrityError:
            nested.rollback()
    session.commit()


# --8<-- [end:wrong]


# --8<-- [start:wrong_rollback]
def add_with_rollback(session, emails):
    for email in emails:
        try:
            session.add(Member(email=email))
            session.flush()
        except exc.IntegrityError:
            session.rollback()
    session.commit()


# --8<-- [end:wrong_rollback]


def test_often_copied_catches_nothing(engine):
    """Often copied: `add` sends nothing, so the row is refused outside of the `try`,
    and all rows are gone."""
    with Session(engine) as session, pytest.raises(exc.IntegrityError):
        add_as_often_copied(session, ["a", "b", "b"])
    assert members(engine) == []


def test_often_copied_rollback(engine):
    """Often copied: `session.rollback()` undoes the good rows too, without an error."""
    with Session(engine) as session:
        add_with_rollback(session, ["a", "b", "b", "c"])
    assert members(engine) == ["c"]


def test_often_copied_sqlite(tmp_path):
    """Often copied: SQLite as it is begins no transaction before a savepoint; what was
    released is committed, and the caller's rollback does not undo it."""
    engine = create_engine(f"sqlite:///{tmp_path}/app.db")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        add_members(session, ["a"])
        session.rollback()
    assert members(engine) == ["a"]
    engine.dispose()
