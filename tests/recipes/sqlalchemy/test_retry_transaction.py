import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, event, func, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Session

from recipes.sqlalchemy.retry_transaction import Account, Base, Done, deposit, run_once


@pytest.fixture
def engine(database):
    """Two accounts: 100 and 100 cents."""
    engine = create_engine(database)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all([Account(id=1, cents=100), Account(id=2, cents=100)])
    yield engine
    engine.dispose()


def cents(engine):
    with Session(engine) as session:
        return list(session.scalars(select(Account.cents).order_by(Account.id)))


def add(session, account, amount):
    more = Account.cents + amount
    session.execute(update(Account).filter_by(id=account).values(cents=more))


class Line:
    """An engine whose line to the server can be cut; SQLite has none to cut."""

    def __init__(self, url, fault_proxy):
        self.proxy = None if url.startswith("sqlite") else fault_proxy(url)
        self.engine = create_engine(self.proxy.url if self.proxy else url)

    def cut_answer_to(self, request):
        if self.proxy:
            self.proxy.cut_answer_to(request)

    def cut_before(self, request):
        if self.proxy:
            self.proxy.cut_before(request)

    def was_cut(self):
        return not self.proxy or self.proxy.was_cut.is_set()


@pytest.fixture
def line(database, engine, fault_proxy):
    line = Line(database, fault_proxy)
    yield line
    line.engine.dispose()


def test_same_key_once(engine):
    """The same key again changes nothing, and returns what the first call returned."""
    key = uuid4()
    assert [deposit(engine, key, 1, 50) for _ in range(2)] == [150, 150]
    assert cents(engine) == [150, 100]


def test_other_key(engine):
    """Another key is another unit of work."""
    assert [deposit(engine, uuid4(), 1, 50) for _ in range(2)] == [150, 200]


def test_lost_answer_to_commit(line, engine):
    """The answer to COMMIT is lost: the work is found done, and is not done again."""
    runs = []

    def work(session):
        runs.append(1)
        add(session, 1, 50)
        line.cut_answer_to(b"COMMIT")
        return "paid"

    key = uuid4()
    assert run_once(line.engine, key, work, pause=0.01) == "paid"
    assert line.was_cut()
    assert run_once(line.engine, key, work) == "paid"  # as a new process would
    assert (runs, cents(engine)) == ([1], [150, 100])


@pytest.mark.parametrize("request_", [b"UPDATE account", b"COMMIT"])
def test_lost_request(line, engine, request_):
    """The line is cut before a statement or before COMMIT: the work runs again, on a
    new connection, and is done once."""
    runs = []

    def work(session):
        if not runs:
            line.cut_before(request_)
        runs.append(1)
        add(session, 1, 50)

    run_once(line.engine, uuid4(), work, pause=0.01)
    assert line.was_cut()
    assert len(runs) == (2 if line.proxy else 1)
    assert cents(engine) == [150, 100]


def test_same_key_at_the_same_time(engine):
    """Two threads with the same key at the same moment: one does it, both get its
    result."""
    key, meet, runs = uuid4(), threading.Barrier(2), []

    def work(session):
        runs.append(1)
        add(session, 1, 50)
        return "paid"

    def run(_):
        meet.wait(10)
        return run_once(engine, key, work, pause=0.01)

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(run, range(2))) == ["paid", "paid"]
    assert (runs, cents(engine)) == ([1], [150, 100])


def test_taken_after_the_look(engine):
    """Somebody else commits the key after the first look: their result is found."""
    key, looked = uuid4(), []

    @event.listens_for(engine, "before_cursor_execute")
    def other_is_faster(conn, cursor, statement, *_):
        if statement.startswith("INSERT INTO done") and not looked:
            looked.append(1)
            with engine.begin() as other:
                other.execute(insert(Done).values(key=key, result="theirs"))

    assert run_once(engine, key, lambda session: "ours", pause=0.01) == "theirs"
    assert looked


def test_deadlock(engine):
    """Two units that take the same two rows in opposite order both get done."""
    if_both_hold_one = threading.Barrier(2)
    runs = []

    def move(payer, payee):
        first = True

        def work(session):
            nonlocal first
            runs.append(payer)
            add(session, payer, -10)
            if first and engine.dialect.name != "sqlite":  # which has one writer
                first = False
                if_both_hold_one.wait(10)
            add(session, payee, 10)

        return run_once(engine, uuid4(), work)

    with ThreadPoolExecutor() as pool:
        list(pool.map(move, (1, 2), (2, 1)))
    assert len(runs) == (2 if engine.dialect.name == "sqlite" else 3)
    assert cents(engine) == [100, 100]


def test_serialization_failure(postgresql):
    """PostgreSQL, SERIALIZABLE: of two that read before they write, one runs again."""
    url = postgresql.replace("postgresql:", "postgresql+psycopg:", 1)
    engine = create_engine(url, isolation_level="SERIALIZABLE")
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Account(id=1, cents=100))
    meet, runs = threading.Barrier(2), []

    def double(_):
        first = True

        def work(session):
            nonlocal first
            runs.append(1)
            read = session.get_one(Account, 1).cents
            if first:
                first = False
                meet.wait(10)
            session.execute(update(Account).values(cents=read * 2))

        run_once(engine, uuid4(), work, pause=0.01)

    with ThreadPoolExecutor() as pool:
        list(pool.map(double, range(2)))
    assert (len(runs), cents(engine)) == (3, [400])
    engine.dispose()


def test_lock_comes_late(database, engine):
    """A lock that did not come in time (SQLite, MySQL): it runs again, and succeeds."""
    waits = {
        "sqlite": {"timeout": 0.05},
        "mysql": {"init_command": "SET SESSION innodb_lock_wait_timeout = 1"},
        "postgresql": {},  # waits, unless told otherwise
    }[engine.dialect.name]
    waiting = create_engine(database, connect_args=waits)
    failures, runs = [], []
    with engine.connect() as other:
        if waits:
            other.execute(update(Account).values(cents=0))

        @event.listens_for(waiting, "handle_error")
        def let_go(context):
            failures.append(context)
            other.rollback()

        def work(session):
            runs.append(1)
            add(session, 1, 50)

        run_once(waiting, uuid4(), work, pause=0.01)
    assert len(failures) == len(waits)
    assert cents(engine) == [150, 100]
    waiting.dispose()


def test_a_refusal_is_not_retried(engine):
    """A constraint that refuses is an answer: it reaches the caller at once, nothing is
    stored, and the key stays free."""
    key, runs = uuid4(), []

    def work(session):
        runs.append(1)
        add(session, 1, 50)
        session.execute(insert(Account).values(id=1, cents=0))

    with pytest.raises(IntegrityError):
        run_once(engine, key, work)
    assert (runs, cents(engine)) == ([1], [100, 100])
    assert deposit(engine, key, 1, 50) == 150


def test_own_errors(engine):
    """An error of your own ends it, and rolls back."""

    def work(session):
        add(session, 1, 50)
        raise KeyError("ours")

    with pytest.raises(KeyError):
        run_once(engine, uuid4(), work)
    assert cents(engine) == [100, 100]


def test_gives_up(line, engine):
    """After the last attempt the error reaches the caller; it may be called again."""
    runs = []

    def work(session):
        runs.append(1)
        if not line.proxy:
            raise OperationalError("", {}, Exception(1213))
        line.cut_before(b"UPDATE account")
        add(session, 1, 50)

    with pytest.raises(DBAPIError):
        run_once(line.engine, uuid4(), work, attempts=3, pause=0)
    assert (len(runs), cents(engine)) == (3, [100, 100])


def test_no_attempts(engine):
    """No attempt at all is a mistake of the caller's, not a silent None."""
    with pytest.raises(ValueError, match="1 or more"):
        run_once(engine, uuid4(), lambda session: None, attempts=0)


def test_session_is_left_alone(engine):
    """Every key that is done has one row, and no more."""
    for key in (uuid4(), uuid4()):
        deposit(engine, key, 1, 1)
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Done)) == 2


# --8<-- [start:wrong]
def retry_as_often_copied(max_retries=3):
    def decorate(func):
        def wrapper(*args):
            for attempt in range(max_retries):
                try:
                    return func(*args)
                except OperationalError:
                    if attempt == max_retries - 1:
                        raise
            return None

        return wrapper

    return decorate


@retry_as_often_copied()
def deposit_as_often_copied(engine, work):
    with Session(engine) as session, session.begin():
        work(session)


# --8<-- [end:wrong]


def test_often_copied_pays_three_times(line, engine):
    """Often copied: the answer to COMMIT is lost twice, and the money comes 3 times."""
    runs = []

    def work(session):
        runs.append(1)
        add(session, 1, 50)
        if len(runs) < 3 and line.proxy:
            line.cut_answer_to(b"COMMIT")

    deposit_as_often_copied(line.engine, work)
    assert cents(engine)[0] == (250 if line.proxy else 150)


def test_often_copied_does_nothing(engine):
    """Often copied: with no retries it does nothing, and returns None."""
    deposit_once = retry_as_often_copied(max_retries=0)(deposit)
    assert deposit_once(engine, uuid4(), 1, 50) is None
    assert cents(engine) == [100, 100]
