"""rollback_fixture: whatever a test commits is gone after it."""

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, exc, func, make_url, select, text, update
from sqlalchemy.orm import Session, sessionmaker

from recipes.testing.rollback_fixture import (
    Base,
    Member,
    count_members,
    make_tables,
    open_engine,
    rolled_back,
    sign_up,
)
from tests.recipes.testing.conftest import run_pytest

ANNA, BEN = "anna@example.com", "ben@example.com"


@pytest.fixture
def engine(database) -> Iterator[Engine]:
    engine = open_engine(database)
    make_tables(engine)
    yield engine
    engine.dispose()


def count(engine) -> int:
    """As another program counts them."""
    return count_members(sessionmaker(engine))


def test_undoes_a_commit(engine):
    """The code under test commits: its own next session sees the row, and after the
    test there is none."""
    with rolled_back(engine) as sessions:
        sign_up(sessions, ANNA)
        assert count_members(sessions) == 1
    assert count(engine) == 0


def test_undoes_all_sessions(engine):
    """Two sessions commit, one after the other, and a statement on a connection of the
    session as well: nothing is left."""
    with rolled_back(engine) as sessions:
        sign_up(sessions, ANNA)
        sign_up(sessions, BEN)
        with sessions.begin() as session:
            session.connection().execute(
                update(Member).values(email=func.upper(Member.email))
            )
        assert count_members(sessions) == 2
    assert count(engine) == 0


def test_a_rollback_undoes_its_own_session_alone(engine):
    """The code under test rolls back, after an error or by itself: what was committed
    before stays for the rest of the test, as in production."""
    with rolled_back(engine) as sessions:
        sign_up(sessions, ANNA)
        with pytest.raises(exc.IntegrityError):
            sign_up(sessions, ANNA)
        with sessions() as session:
            session.add(Member(email=BEN))
            session.flush()
            session.rollback()
            assert session.scalars(select(Member.email)).all() == [ANNA]
        sign_up(sessions, BEN)
        assert count_members(sessions) == 2
    assert count(engine) == 0


def test_undone_when_the_test_fails(engine):
    """The test fails, in the middle of a session: nothing is left, and the failure is
    the one that is seen."""
    with pytest.raises(AssertionError, match="as it should"):
        fail_in_the_middle(engine)
    assert count(engine) == 0


def fail_in_the_middle(engine):
    with rolled_back(engine) as sessions, sessions() as session:
        sign_up(sessions, ANNA)
        session.add(Member(email=BEN))
        session.flush()
        raise AssertionError("as it should")


def test_no_other_connection_sees_it(engine):
    """Another connection sees nothing of it: a test with several connections needs a
    database of its own."""
    with rolled_back(engine) as sessions:
        sign_up(sessions, ANNA)
        with engine.connect() as other:
            assert other.scalars(select(Member.email)).all() == []


def test_counters_are_not_undone(postgresql):
    """PostgreSQL does not take ids back: no test may expect the id 1."""
    engine = open_engine(make_url(postgresql).set(drivername="postgresql+psycopg"))
    make_tables(engine)
    ids = []
    for _ in range(2):
        with rolled_back(engine) as sessions:
            sign_up(sessions, ANNA)
            with sessions() as session:
                ids.append(session.scalar(select(Member.id)))
    engine.dispose()
    assert ids == [1, 2]


def test_deferred_constraints_are_not_checked(postgresql):
    """What PostgreSQL checks at COMMIT is not checked: a deferred constraint needs a
    test that commits for real."""
    engine = open_engine(make_url(postgresql).set(drivername="postgresql+psycopg"))
    with engine.begin() as conn:
        conn.execute(
            text("CREATE TABLE one (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        )
    twice = text("INSERT INTO one VALUES (1), (1)")
    with rolled_back(engine) as sessions, sessions.begin() as session:
        session.execute(twice)
    with pytest.raises(exc.IntegrityError), engine.begin() as conn:
        conn.execute(twice)
    engine.dispose()


def test_ddl_commits_on_mysql(engine):
    """CREATE TABLE in the code under test commits on MySQL and MariaDB: what came
    before it stays. PostgreSQL and SQLite undo both."""
    with rolled_back(engine) as sessions:
        sign_up(sessions, ANNA)
        sessions.kw["bind"].execute(text("CREATE TABLE other (id int)"))
    assert count(engine) == (1 if engine.dialect.name in ("mysql", "mariadb") else 0)


def test_refuses_a_database_with_data(engine):
    """A database whose tables hold rows is refused, with its rows untouched."""
    sign_up(sessionmaker(engine), ANNA)
    with pytest.raises(ValueError, match="member holds rows"):
        make_tables(engine)
    assert count(engine) == 1


def test_tables_follow_the_models(engine):
    """Empty tables of an older schema are made anew."""
    Base.metadata.drop_all(engine)
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE member (id int, name varchar(10))"))
    make_tables(engine)
    sign_up(sessionmaker(engine), ANNA)
    assert count(engine) == 1


TESTS = """
import pytest
from rollback_fixture import count_members, sign_up

@pytest.mark.parametrize("n", range(3))
def test_starts_empty(sessions, n):
    sign_up(sessions, "anna@example.com")
    assert count_members(sessions) == 1
"""


def test_as_fixtures(database, tmp_path):
    """Used as fixtures of pytest: three tests sign up the same address and pass, and
    the database is empty afterwards."""
    env = {"TEST_DATABASE_URL": str(database), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    plugin = ("-p", "rollback_fixture", "-p", "no:cacheprovider")
    done = run_pytest(tmp_path, *plugin, env=env, test_members=TESTS)
    assert "3 passed" in done.stdout, done.stdout + done.stderr
    engine = create_engine(database)
    assert count(engine) == 0
    engine.dispose()


# --8<-- [start:wrong]
def session_as_often_copied(engine):
    session = Session(engine)
    yield session
    session.rollback()
    session.close()


# --8<-- [end:wrong]


# --8<-- [start:also_wrong]
def session_in_a_transaction_as_often_copied(engine):
    connection = engine.connect()
    transaction = connection.begin()
    session = Session(bind=connection)
    yield session
    session.close()
    transaction.rollback()
    connection.close()


# --8<-- [end:also_wrong]


def add(session, email) -> None:
    session.add(Member(email=email))
    session.commit()


def test_often_copied_leaves_what_was_committed(engine):
    """Often copied: after a commit there is nothing to roll back. The next test finds
    the row, and fails."""
    for session in session_as_often_copied(engine):
        add(session, ANNA)
    assert count(engine) == 1
    for session in session_as_often_copied(engine):
        with pytest.raises(exc.IntegrityError):
            add(session, ANNA)


def test_often_copied_rollback_undoes_the_whole_test(engine):
    """Often copied, without the join mode: a rollback in the code under test undoes
    what was committed before it, too."""
    with pytest.warns(exc.SAWarning, match="already deassociated"):
        assert commit_and_roll_back(engine) == []


def commit_and_roll_back(engine) -> list[str]:
    for session in session_in_a_transaction_as_often_copied(engine):
        add(session, ANNA)
        session.add(Member(email=BEN))
        session.flush()
        session.rollback()
        found = list(session.scalars(select(Member.email)))
    return found


def test_often_copied_memory_is_empty_in_another_thread():
    """Often copied: `sqlite://` in memory has no tables in another thread, where the
    code under test may run."""
    engine = create_engine("sqlite:///:memory:")
    Base.metadata.create_all(engine)
    errors: list[Exception] = []

    def work() -> None:
        try:
            count(engine)
        except exc.OperationalError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    engine.dispose()
    assert "no such table" in str(errors[0])
