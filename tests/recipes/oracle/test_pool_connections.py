"""pool_connections: few connections, shared, and no wait without an end."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import oracledb
import pytest

from recipes.oracle.pool_connections import count_orders, open_pool, transaction


@pytest.fixture
def shop(oracle, conn):
    """The address of a schema with three orders."""
    with conn.cursor() as cursor:
        cursor.execute("CREATE TABLE orders (customer NUMBER(9))")
        cursor.executemany("INSERT INTO orders VALUES (:1)", [(1,), (1,), (2,)])
    conn.commit()
    return oracle


# With a server.


def test_many_callers_few_connections(shop):
    """20 threads share 2 connections; each gets its answer."""
    with closing(open_pool(shop, size=2, wait=30)) as pool:
        with ThreadPoolExecutor(20) as threads:
            counts = list(threads.map(lambda _: count_orders(pool, 1), range(40)))
        assert counts == [2] * 40
        assert (pool.opened, pool.busy) == (2, 0)


def test_waits_so_long(shop):
    """All are lent: the wait for one ends with DPY-4005."""
    with closing(open_pool(shop, size=1, wait=0.1)) as pool:
        with pool.acquire(), pytest.raises(oracledb.DatabaseError, match="DPY-4005"):
            count_orders(pool, 1)
        assert count_orders(pool, 1) == 2


def test_committed_or_undone(shop):
    """The block's work is committed at its end, undone on an error."""
    with closing(open_pool(shop, size=1)) as pool:
        with transaction(pool) as conn:
            conn.cursor().execute("INSERT INTO orders VALUES (3)")
        with pytest.raises(ZeroDivisionError), transaction(pool) as conn:
            conn.cursor().execute("INSERT INTO orders VALUES (3)").rowcount / 0
        assert count_orders(pool, 3) == 1
        assert pool.busy == 0


def test_calls_are_limited(shop):
    """Each connection of the pool has a limit for a call."""
    with closing(open_pool(shop, size=1)) as pool, pool.acquire() as conn:
        assert conn.call_timeout == 30_000


def test_comes_back_after_a_reset(shop, through):
    """All connections are reset: no more callers than connections see DPY-4011, then
    the pool works again."""
    proxy, dsn = through(shop)
    with closing(open_pool(dsn, size=2)) as pool:
        proxy.reset_all()
        errors = []
        for _ in range(3):
            try:
                assert count_orders(pool, 1) == 2
                break
            except oracledb.DatabaseError as error:
                errors.append(error.args[0].full_code)
        else:
            pytest.fail(f"it never came back: {errors}")
        assert errors in ([], ["DPY-4011"], ["DPY-4011", "DPY-4011"])


def test_session_settings_stay(shop):
    """A session keeps what a caller set: the next caller gets that date format."""
    with closing(open_pool(shop, size=1)) as pool:
        with pool.acquire() as conn:
            conn.cursor().execute("ALTER SESSION SET NLS_DATE_FORMAT = 'YYYY'")
        with pool.acquire() as conn, conn.cursor() as cursor:
            cursor.execute("SELECT LENGTH(TO_CHAR(SYSDATE)) FROM dual")
            assert cursor.fetchone() == (4,)


# Without one.


def test_wrong_address_fails_early(closed_port):
    """A server that is not there fails the start: DPY-6005, and no thread stays."""
    with pytest.raises(oracledb.OperationalError, match="DPY-6005"):
        open_pool(closed_port)
    assert not any("_bg_task_func" in thread.name for thread in threading.enumerate())


def test_silent_server_and_a_caller(listener):
    """A server that accepts a login and says nothing: with `POOL_GETMODE_TIMEDWAIT` a
    caller gets DPY-4005 in time."""
    server = listener()
    server.silent = True
    timed = oracledb.POOL_GETMODE_TIMEDWAIT
    pool = oracledb.create_pool(server.dsn, getmode=timed, wait_timeout=100)
    with pytest.raises(oracledb.DatabaseError, match="DPY-4005"):
        pool.acquire()
    server.close()  # or the close of the pool would wait
    pool.close()


def test_silent_server_at_the_start(listener):
    """The close of a pool has no limit: it waits for a login under way. So a server
    that says nothing from the start holds up `open_pool`."""
    server = listener()
    server.silent = True
    with ThreadPoolExecutor() as threads:
        start = threads.submit(open_pool, server.dsn, size=1, wait=0.05)
        assert server.has_asked.wait(5)
        with pytest.raises(TimeoutError):
            start.exception(timeout=0.5)  # ten times the wait
        server.close()
        assert "DPY-4005" in str(start.exception(timeout=10))


@pytest.mark.parametrize(("size", "wait"), [(0, 5), (-1, 5), (2, 0)])
def test_sizes_are_checked(size, wait):
    """A pool that can lend nothing is refused: ValueError."""
    with pytest.raises(ValueError, match="lends nothing"):
        open_pool("u/p@host.invalid/shop", size=size, wait=wait)


# --8<-- [start:wrong]
def open_pool_as_copied(dsn):
    return oracledb.create_pool(dsn, min=1, max=5, increment=1)


def insert_as_copied(pool, customer):
    with pool.acquire() as conn:
        conn.cursor().execute("INSERT INTO orders VALUES (:1)", [customer])


# --8<-- [end:wrong]


def test_often_copied_starts_without_a_server(closed_port):
    """Often copied: `create_pool` succeeds at an address where nothing listens. The
    first caller gets the error."""
    with closing(open_pool_as_copied(closed_port)) as pool:
        assert pool.opened == 0
        with pytest.raises(oracledb.OperationalError, match="DPY-6005"):
            pool.acquire()


def test_often_copied_waits_for_ever():
    """Often copied: by default a caller waits for a connection without an end, since
    `wait_timeout` counts only with `POOL_GETMODE_TIMEDWAIT`."""
    params = oracledb.PoolParams(min=1, max=5, increment=1, wait_timeout=100)
    assert params.getmode == oracledb.POOL_GETMODE_WAIT


def test_often_copied_hangs(listener):
    """Often copied: a server that says nothing is waited for, as long as it likes."""
    server = listener()
    server.silent = True
    pool = open_pool_as_copied(f"{server.dsn}?transport_connect_timeout=0.05")
    ended = threading.Event()

    def borrow() -> None:
        with pytest.raises(oracledb.DatabaseError):
            pool.acquire()
        ended.set()

    thread = threading.Thread(target=borrow)
    thread.start()
    assert server.has_asked.wait(5)
    assert not ended.wait(0.5)
    server.close()
    thread.join(10)
    pool.close()
    assert ended.is_set()


def test_often_copied_loses_writes(shop):
    """Often copied: an INSERT without a commit is undone when its connection goes
    back, and nobody hears of it."""
    with closing(open_pool_as_copied(shop)) as pool:
        insert_as_copied(pool, 9)
        assert count_orders(pool, 9) == 0
