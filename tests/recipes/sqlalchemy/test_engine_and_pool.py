"""engine_and_pool: every wait ends, every connection comes back."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier

import pytest
from sqlalchemy import Engine, create_engine, exc, text
from sqlalchemy.pool import NullPool, QueuePool

from recipes.sqlalchemy.engine_and_pool import Gauges, ask, double, open_engine


@pytest.fixture
def opened(database) -> Iterator[Callable[..., Engine]]:
    """Make engines for the empty database; disposed of after the test."""
    engines = []

    def make(**settings) -> Engine:
        engines.append(open_engine(database, **settings))
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


def test_threads_share_few_connections(opened):
    """Eight threads ask a hundred times over two connections; both come back."""
    engine = opened(size=2, extra=0)
    gauges = Gauges(engine)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: double(engine, n), range(100)))
    assert answers == list(range(0, 200, 2))
    assert gauges.borrowed == 100
    assert gauges.opened <= 2
    assert gauges.most_busy <= 2
    assert gauges.busy == engine.pool.checkedout() == 0


def test_limit(opened):
    """All connections are out: the next caller gets TimeoutError after `wait`, and a
    connection as soon as one is given back."""
    engine = opened(size=1, extra=1, wait=0.05)
    with engine.connect():
        with engine.connect():
            start = time.monotonic()
            with pytest.raises(exc.TimeoutError, match="size 1 overflow 1 reached"):
                double(engine, 1)
            assert time.monotonic() - start < 2
        assert double(engine, 1) == 2


def test_extra_ones_are_closed(opened):
    """Of five connections in use at once, `size` stay open and the rest are closed."""
    engine = opened(size=2, extra=3)
    for conn in [engine.connect() for _ in range(5)]:
        conn.close()
    assert engine.pool.checkedin() == 2


def test_error_gives_it_back(opened):
    """An error in the block reaches the caller, and the connection is free again."""
    engine = opened(size=1, extra=0, wait=0.05)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), engine.connect():
            raise ZeroDivisionError
    assert double(engine, 1) == 2


def test_what_is_not_committed_is_undone(opened):
    """What was not committed is undone when the connection is given back."""
    engine = opened(size=1, extra=0)
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE note (id int)"))
    with engine.connect() as conn:
        conn.execute(text("INSERT INTO note VALUES (1)"))
    with engine.connect() as conn:
        assert conn.execute(text("SELECT count(*) FROM note")).scalar_one() == 0


def test_old_connection_is_replaced(opened):
    """A connection that is older than `max_age` is replaced when it is lent."""
    engine = opened(max_age=0)
    gauges = Gauges(engine)
    double(engine, 1)
    before = gauges.opened
    double(engine, 1)
    assert gauges.opened > before


def test_young_connection_is_kept(opened):
    """A younger one serves one caller after the other."""
    engine = opened()
    gauges = Gauges(engine)
    double(engine, 1)
    double(engine, 1)
    assert gauges.opened == 1


def test_gauges(opened):
    """The gauges count what was opened and lent, how many at once, and how long."""
    engine = opened(size=2)
    gauges = Gauges(engine)
    with engine.connect(), engine.connect():
        assert (gauges.busy, gauges.most_busy) == (2, 2)
        time.sleep(0.02)
    double(engine, 1)
    assert (gauges.opened, gauges.borrowed) == (2, 3)
    assert (gauges.busy, gauges.most_busy) == (0, 2)
    assert 0.02 <= gauges.longest < 5


def test_gauge_of_a_broken_connection(opened):
    """A connection that its borrower gives up is counted as given back."""
    engine = opened(size=1)
    gauges = Gauges(engine)
    with engine.connect() as conn:
        conn.invalidate()
    assert gauges.busy == 0
    assert double(engine, 1) == 2
    assert (gauges.opened, gauges.busy) == (2, 0)


def test_another_backend():
    """A backend whose timeouts are not known is refused, not left without."""
    with pytest.raises(KeyError):
        open_engine("oracle+oracledb://app:x@db.example.com/shop")


# What differs from server to server.

WHO = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT connection_id()"}
KILL = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}
ALIVE = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE pid = {}",
    "mysql": "SELECT count(*) FROM information_schema.processlist WHERE id = {}",
}
SLOW = {"postgresql": "SELECT pg_sleep(20)", "mysql": "SELECT SLEEP(20)"}


def lose_idle(engine: Engine) -> None:
    """The server ends the connection that lies in the pool."""
    backend = engine.dialect.name
    with engine.connect() as conn:
        number = conn.execute(text(WHO[backend])).scalar_one()
    other = create_engine(engine.url, poolclass=NullPool)
    with other.connect() as conn:
        conn.execute(text(KILL[backend].format(number)))
        deadline = time.monotonic() + 10
        while conn.execute(text(ALIVE[backend].format(number))).scalar_one():
            assert time.monotonic() < deadline, "it never ended"


def test_lost_while_idle(opened):
    """PostgreSQL or MySQL ended the connection in the pool: the next caller gets a new
    one; SQLite has no connection to lose."""
    engine = opened()
    gauges = Gauges(engine)
    double(engine, 1)
    if engine.dialect.name in WHO:
        lose_idle(engine)
    assert double(engine, 1) == 2
    assert gauges.opened == 1 + (engine.dialect.name in WHO)


def test_statement_timeout(opened):
    """A statement that takes longer than `statement` is an error: PostgreSQL ends it,
    and PyMySQL gives up the connection; SQLite has no such limit."""
    engine = opened(statement=0.1)
    if engine.dialect.name == "sqlite":
        assert double(engine, 1) == 2
        return
    with engine.connect() as conn, pytest.raises(exc.OperationalError) as raised:
        conn.execute(text(SLOW[engine.dialect.name]))
    if engine.dialect.name == "postgresql":
        assert raised.value.orig.sqlstate == "57014"
    else:
        assert raised.value.orig.args[0] == 2013
        assert raised.value.connection_invalidated


def test_silent_server(database, fault_proxy):
    """A server that accepts the connection and then says nothing is an error: for
    PostgreSQL after `connect`, for PyMySQL after `statement` seconds."""
    if database.startswith("sqlite"):
        return
    proxy = fault_proxy(database)
    proxy.black_hole()
    short, long = (2, 30) if database.startswith("postgresql") else (60, 0.2)
    engine = open_engine(proxy.url, connect=short, statement=long)
    start = time.monotonic()
    with pytest.raises(exc.OperationalError):
        engine.connect()
    assert time.monotonic() - start < 10
    engine.dispose()


def test_sqlite_waits_for_the_writer(tmp_path):
    """SQLite waits for another writer, and no longer than `connect`."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("CREATE TABLE note (id int)")
        writer.execute("BEGIN IMMEDIATE")
        engine = open_engine(f"sqlite:///{path}", connect=0.1)
        with engine.connect() as conn, pytest.raises(exc.OperationalError) as raised:
            conn.execute(text("INSERT INTO note VALUES (1)"))
        assert "locked" in str(raised.value)
        engine.dispose()


# --8<-- [start:wrong]
def ask_as_often_copied(engine):
    conn = engine.connect()
    return conn.execute(text("SELECT 21"))


# --8<-- [end:wrong]


# --8<-- [start:wrong_nested]
def double_as_often_copied(engine, number):
    with engine.connect() as conn:
        conn.execute(text("SELECT 1"))
        return double(engine, number)


# --8<-- [end:wrong_nested]


def test_often_copied_leaks(opened):
    """Often copied: a result that is kept keeps its connection; the pool is empty after
    `size + extra` calls."""
    engine = opened(size=1, extra=1, wait=0.05)
    kept = [ask_as_often_copied(engine) for _ in range(2)]
    with pytest.raises(exc.TimeoutError, match="QueuePool limit"):
        ask_as_often_copied(engine)
    for result in kept:
        result.connection.close()
    assert double(engine, 1) == 2


def test_often_copied_two_at_once(opened):
    """Often copied: two threads hold one connection each and ask for a second one of a
    pool of two: both fail. With the connection passed on, both succeed."""
    engine = opened(size=2, extra=0, wait=0.1)
    both = Barrier(2)

    def nested(call: Callable) -> object:
        with engine.connect() as conn:
            both.wait(10)
            try:
                return call(conn)
            except exc.TimeoutError as error:
                return type(error)
            finally:
                both.wait(10)

    def run(call: Callable) -> list:
        with ThreadPoolExecutor(2) as threads:
            return [f.result() for f in [threads.submit(nested, call) for _ in "ab"]]

    assert run(lambda conn: double(engine, 1)) == [exc.TimeoutError] * 2
    assert run(lambda conn: ask(conn, 1) * 2) == [2, 2]


def test_often_copied_nested(opened):
    """Often copied: with a pool of one, a function that borrows twice never ends well;
    its own first connection is what it waits for."""
    engine = opened(size=1, extra=0, wait=0.05)
    with pytest.raises(exc.TimeoutError):
        double_as_often_copied(engine, 1)


def test_often_copied_no_ping(postgresql):
    """Often copied: without `pool_pre_ping`, the first caller after a restart of the
    server gets the error of a dead connection."""
    engine = create_engine(postgresql.replace(":", "+psycopg:", 1))
    lose_idle(engine)
    with pytest.raises(exc.OperationalError) as raised:
        double(engine, 1)
    assert raised.value.connection_invalidated
    engine.dispose()


def test_often_copied_engine_for_each_call(database):
    """Often copied: an engine for each call opens a connection for each call."""
    engines = [create_engine(database, poolclass=QueuePool) for _ in range(5)]
    gauges = [Gauges(engine) for engine in engines]
    for engine in engines:
        double(engine, 1)
    assert sum(gauge.opened for gauge in gauges) == 5
    for engine in engines:
        engine.dispose()


def test_often_copied_overflow(opened):
    """Often copied: `pool.overflow()` as a gauge of errors; it is -5 on a new pool of
    five, and counts up to 0 while the pool fills."""
    pool = opened(size=5, extra=2).pool
    assert pool.overflow() == -5
    assert pool.checkedout() == 0
