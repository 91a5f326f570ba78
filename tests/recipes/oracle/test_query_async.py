"""query_async: side by side, and no wait without an end."""

import asyncio
import time

import oracledb
import pytest

from recipes.oracle.query_async import count_all, count_orders, open_pool, stream

NUMBERS = "SELECT LEVEL AS n FROM dual CONNECT BY LEVEL <= :last"


@pytest.fixture
def shop(oracle, conn):
    """The address of a schema with three orders."""
    with conn.cursor() as cursor:
        cursor.execute("CREATE TABLE orders (customer NUMBER(9))")
        cursor.executemany("INSERT INTO orders VALUES (:1)", [(1,), (1,), (2,)])
    conn.commit()
    return oracle


def with_pool(dsn: str, use, **options):
    """What `use` returns when it is given an open pool."""

    async def run():
        async with open_pool(dsn, **options) as pool:
            return await use(pool)

    return asyncio.run(run())


# With a server.


def test_side_by_side(shop):
    """Forty counts share two connections; each gets its answer."""

    async def use(pool):
        counts = await count_all(pool, range(40))
        assert pool.opened == 2
        return counts

    counts = with_pool(shop, use, size=2, wait=30)
    assert [counts.pop(1), counts.pop(2)] == [2, 1]
    assert set(counts.values()) == {0}


def test_at_the_same_time(shop):
    """Four calls of half a second take less than two seconds together."""

    async def sleep(pool):
        async with pool.acquire() as conn:
            await conn.callproc("dbms_session.sleep", [0.5])

    async def use(pool):
        start = time.monotonic()
        await asyncio.gather(*(sleep(pool) for _ in range(4)))
        return time.monotonic() - start

    assert 0.5 <= with_pool(shop, use, size=4) < 2


def test_first_error_ends_the_others(oracle):
    """Without the table every count fails: an ExceptionGroup with the database's
    errors."""

    async def use(pool):
        await count_all(pool, range(3))

    with pytest.raises(ExceptionGroup) as caught:
        with_pool(oracle, use, size=2)
    assert caught.value.subgroup(oracledb.DatabaseError)


def test_stream(shop):
    """Ten thousand rows come one after the other."""

    async def use(pool):
        return sum([n async for (n,) in stream(pool, NUMBERS, last=10_000)])

    assert with_pool(shop, use) == 50_005_000


def test_stream_gives_the_connection_back(shop):
    """A stream that is left early gives its connection back."""

    async def use(pool):
        rows = stream(pool, NUMBERS, last=1_000_000)
        async for _ in rows:
            break
        await rows.aclose()
        return await count_orders(pool, 1)

    assert with_pool(shop, use, size=1, wait=1) == 2


def test_calls_are_limited(shop):
    """Each connection of the pool has a limit for a call."""

    async def use(pool):
        async with pool.acquire() as conn:
            return conn.call_timeout

    assert with_pool(shop, use, size=1) == 30_000


# Without one.


async def nothing(pool):
    raise AssertionError("it was lent")


def test_wrong_address_fails_early(closed_port):
    """A server that is not there: OperationalError, DPY-6005, before anything runs."""
    with pytest.raises(oracledb.OperationalError, match="DPY-6005"):
        with_pool(closed_port, nothing)


@pytest.mark.timeout(30)
def test_silent_server_is_not_waited_for(listener, monkeypatch):
    """A server that accepts and says nothing: DPY-4005 after the wait, and the close
    has a limit too. The synchronous driver would wait for ever."""
    real = asyncio.timeout
    monkeypatch.setattr(asyncio, "timeout", lambda seconds: real(seconds / 50))
    server = listener()
    server.silent = True
    with pytest.raises(oracledb.DatabaseError, match="DPY-4005"):
        with_pool(server.dsn, nothing, wait=0.1)
    assert server.connections >= 1


def test_single_login_is_bounded(listener):
    """`asyncio.timeout` ends a login at a server that says nothing."""
    server = listener()
    server.silent = True

    async def log_in():
        async with asyncio.timeout(0.1):
            await oracledb.connect_async(server.dsn)

    with pytest.raises(TimeoutError):
        asyncio.run(log_in())
    assert server.has_asked.is_set()


# --8<-- [start:wrong]
async def work_as_copied(dsn, calls):
    async with oracledb.connect_async(dsn) as conn:
        await asyncio.gather(*(conn.callproc(*call) for call in calls))


# --8<-- [end:wrong]


def test_often_copied_runs_in_turn(oracle):
    """Often copied: `gather` on one connection. Two calls of half a second take a full
    one: a connection does one thing at a time."""
    start = time.monotonic()
    asyncio.run(work_as_copied(oracle, [("dbms_session.sleep", [0.5])] * 2))
    assert time.monotonic() - start >= 1


def test_often_copied_waits_for_ever(listener):
    """Often copied: no limit. A server that says nothing is waited for until something
    else ends it."""
    server = listener()
    server.silent = True

    async def look() -> bool:
        task = asyncio.create_task(work_as_copied(server.dsn, []))
        await asyncio.to_thread(server.has_asked.wait, 5)
        done, _ = await asyncio.wait([task], timeout=0.3)
        task.cancel()
        return bool(done)

    assert not asyncio.run(look())
