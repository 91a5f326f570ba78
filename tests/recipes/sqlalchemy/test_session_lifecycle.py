"""session_lifecycle: all or nothing, and nothing is held."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import exc, select, update
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.orm.exc import DetachedInstanceError

from recipes.sqlalchemy.session_lifecycle import (
    Account,
    Base,
    count_visit,
    find,
    open_sessions,
    register,
)


@pytest.fixture
def sessions(database) -> Iterator[sessionmaker[Session]]:
    """With an empty table; at the end every connection has been given back."""
    sessions = open_sessions(database)
    engine = sessions.kw["bind"]
    Base.metadata.create_all(engine)
    yield sessions
    assert engine.pool.checkedout() == 0
    engine.dispose()


def owners(sessions) -> list[str]:
    with sessions() as session:
        return list(session.scalars(select(Account.owner).order_by(Account.id)))


def test_committed(sessions):
    """At the end of the block it is committed, and others see it."""
    register(sessions, "anna")
    assert owners(sessions) == ["anna"]


def test_usable_after_the_block(sessions):
    """The account can be read after its session is closed, id included, without a
    statement."""
    account = register(sessions, "anna")
    assert (account.id, account.owner, account.visits) == (1, "anna", 0)
    assert find(sessions, "anna").id == 1


def test_error_undoes_everything(sessions):
    """An error in the block reaches the caller, and nothing of the block stays."""

    def half_way() -> None:
        with sessions.begin() as session:
            session.add(Account(owner="anna"))
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half_way()
    assert owners(sessions) == []


def test_next_one_is_not_harmed(sessions):
    """A refused row is an error for its caller; the next session works."""
    register(sessions, "anna")
    with pytest.raises(exc.IntegrityError):
        register(sessions, "anna")
    register(sessions, "ben")
    assert owners(sessions) == ["anna", "ben"]


def test_nobody(sessions):
    """Nobody of that name: `find` gives None, `count_visit` an error."""
    assert find(sessions, "nobody") is None
    with pytest.raises(exc.NoResultFound):
        count_visit(sessions, "nobody")


def test_visits_at_the_same_time(sessions):
    """Four threads, each with its own sessions, count twenty visits: none is lost."""
    register(sessions, "anna")
    with ThreadPoolExecutor(4) as threads:
        counts = list(threads.map(lambda _: count_visit(sessions, "anna"), range(20)))
    assert max(counts) == 20
    assert find(sessions, "anna").visits == 20


def test_each_session_reads_anew(sessions):
    """A new session sees what others have committed since."""
    register(sessions, "anna")
    assert find(sessions, "anna").visits == 0
    count_visit(sessions, "anna")
    assert find(sessions, "anna").visits == 1


def test_one_object_for_a_row(sessions):
    """Inside a session, one row is one object, however often it is read."""
    register(sessions, "anna")
    with sessions() as session:
        query = select(Account)
        assert session.scalars(query).one() is session.scalars(query).one()


# --8<-- [start:wrong]
def register_as_often_copied(session, owner):  # one session for the whole program
    account = Account(owner=owner)
    session.add(account)
    session.commit()
    return account


def count_visit_as_often_copied(session, owner):
    account = session.scalars(select(Account).where(Account.owner == owner)).one()
    account.visits += 1
    session.commit()


# --8<-- [end:wrong]


@pytest.fixture
def everlasting(sessions) -> Iterator[Session]:
    """The session of a whole program."""
    with Session(sessions.kw["bind"]) as session:
        yield session


def test_often_copied_one_error_for_all(everlasting):
    """Often copied: after one refused row every caller gets PendingRollbackError."""
    register_as_often_copied(everlasting, "anna")
    with pytest.raises(exc.IntegrityError):
        register_as_often_copied(everlasting, "anna")
    with pytest.raises(exc.PendingRollbackError):
        register_as_often_copied(everlasting, "ben")


def test_often_copied_old_values(everlasting, sessions):
    """Often copied: what was read once stays, though others have changed it."""
    account = register_as_often_copied(everlasting, "anna")
    assert account.visits == 0
    count_visit(sessions, "anna")
    read = everlasting.scalars(select(Account)).one()
    assert read.visits == 0


def test_often_copied_holds_a_connection(everlasting, sessions):
    """Often copied: after a mere read it holds a connection, in an open transaction."""
    everlasting.scalars(select(Account)).all()
    assert sessions.kw["bind"].pool.checkedout() == 1


def test_often_copied_loses_a_visit(everlasting, sessions):
    """Often copied: `visits += 1` adds in Python; a visit counted meanwhile is lost."""
    register(sessions, "anna")
    account = everlasting.scalars(select(Account)).one()
    assert account.visits == 0
    with sessions.begin() as other:
        other.execute(update(Account).values(visits=5))
    count_visit_as_often_copied(everlasting, "anna")
    assert find(sessions, "anna").visits == 1


def test_often_copied_detached(sessions):
    """Often copied: with the default `expire_on_commit`, the object that a block leaves
    behind raises DetachedInstanceError."""
    usual = sessionmaker(sessions.kw["bind"])
    with usual.begin() as session:
        account = Account(owner="anna")
        session.add(account)
    with pytest.raises(DetachedInstanceError):
        print(account.id)
