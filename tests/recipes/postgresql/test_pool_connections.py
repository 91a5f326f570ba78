"""pool_connections: few connections, shared, and only live ones."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import psycopg
import pytest
from psycopg import errors
from psycopg_pool import ConnectionPool, PoolTimeout, TooManyRequests

from recipes.postgresql.pool_connections import count_orders, open_pool
from recipes.postgresql.pool_connections_asyncpg import (
    count_orders as count_orders_asyncpg,
)
from recipes.postgresql.pool_connections_asyncpg import make_pool as make_asyncpg_pool


@pytest.fixture
def shop(postgresql: str) -> Iterator[psycopg.Connection]:
    """A connection outside the pool, to a database with three orders."""
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute("CREATE TABLE orders (customer int)")
        conn.execute("INSERT INTO orders VALUES (1), (1), (2)")
        yield conn


def pid_of(pool: ConnectionPool) -> int:
    with pool.connection() as conn:
        return conn.info.backend_pid


def kill_others(shop: psycopg.Connection) -> int:
    """End every other session of the database, as an administrator would."""
    query = """
        SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
    """
    return len(shop.execute(query).fetchall())


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline


def borrow_all(pool: ConnectionPool, count: int) -> None:
    """Have that many connections open at the same time, then give them back."""
    together = threading.Barrier(count)

    def borrow(_: int) -> None:
        with pool.connection():
            together.wait(timeout=5)

    with ThreadPoolExecutor(count) as threads:
        list(threads.map(borrow, range(count)))


def test_many_callers_few_connections(postgresql, shop):
    """20 threads share 2 connections; each gets its answer."""
    with open_pool(postgresql, size=2) as pool:
        with ThreadPoolExecutor(20) as threads:
            counts = list(threads.map(lambda _: count_orders(pool, 1), range(40)))
        assert counts == [2] * 40
        assert pool.get_stats()["pool_size"] <= 2


def test_connection_is_reused(postgresql, shop):
    """The next caller gets the same connection, not a new one."""
    with open_pool(postgresql) as pool:
        assert len({pid_of(pool) for _ in range(5)}) == 1


def test_waits_for_a_free_one(postgresql, shop):
    """When all are lent, a caller waits until one comes back."""
    with open_pool(postgresql, size=1) as pool, ThreadPoolExecutor() as threads:
        with pool.connection():
            waiting = threads.submit(count_orders, pool, 1)
            wait_until(lambda: pool.get_stats().get("requests_waiting") == 1)
        assert waiting.result() == 2


def test_waits_so_long(postgresql, shop):
    """The wait has an end: PoolTimeout, and the count of errors says so."""
    with open_pool(postgresql, size=1) as pool, pool.connection():
        with pytest.raises(PoolTimeout), pool.connection(timeout=0.02):
            pass
        assert pool.get_stats()["requests_errors"] == 1


def test_queue_has_an_end(postgresql, shop):
    """When too many wait already, the next is refused at once: TooManyRequests."""
    with (
        open_pool(postgresql, size=1, max_waiting=1) as pool,
        ThreadPoolExecutor() as threads,
        pool.connection(),
    ):
        threads.submit(count_orders, pool, 1)
        wait_until(lambda: pool.get_stats().get("requests_waiting") == 1)
        with pytest.raises(TooManyRequests):
            count_orders(pool, 1)


def test_killed_connections_are_replaced(postgresql, shop):
    """All connections are killed by the server: no caller sees an error."""
    with open_pool(postgresql, size=5) as pool:
        borrow_all(pool, 5)
        assert kill_others(shop) == 5
        assert [count_orders(pool, 1) for _ in range(5)] == [2] * 5


def test_comes_back_after_an_outage(postgresql, shop, fault_proxy):
    """While the server is away callers get PoolTimeout; then the pool works again."""
    proxy = fault_proxy(postgresql)
    with open_pool(proxy.url) as pool:
        proxy.refuse()
        proxy.reset_all()
        with pytest.raises(PoolTimeout), pool.connection(timeout=0.05):
            pass
        proxy.refuse(False)
        assert count_orders(pool, 1) == 2


def test_lost_while_in_use(postgresql, shop):
    """A connection lost while in use is that caller's error, and nobody else's."""
    with open_pool(postgresql, size=1) as pool:
        with pytest.raises(errors.AdminShutdown), pool.connection() as conn:
            conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        assert count_orders(pool, 1) == 2


def test_old_connections_are_replaced(postgresql, shop):
    """A connection older than max_lifetime is closed when it comes back."""
    with open_pool(postgresql, size=1, max_lifetime=0.01) as pool:
        first = pid_of(pool)
        wait_until(lambda: pid_of(pool) != first)


def test_committed_or_undone(postgresql, shop):
    """The block's work is committed at its end, undone on an error."""
    with open_pool(postgresql, size=1) as pool:
        with pool.connection() as conn:
            conn.execute("INSERT INTO orders VALUES (3)")
        with pytest.raises(ZeroDivisionError), pool.connection() as conn:
            conn.execute("INSERT INTO orders VALUES (3)").rowcount / 0
        assert count_orders(pool, 3) == 1


def test_failed_transaction_does_not_stay(postgresql, shop):
    """A caller's SQL error does not reach the next one, who gets the connection."""
    with open_pool(postgresql, size=1) as pool:
        before = pid_of(pool)
        with pytest.raises(errors.UndefinedTable), pool.connection() as conn:
            conn.execute("SELECT FROM nowhere")
        assert (count_orders(pool, 1), pid_of(pool)) == (2, before)


def test_wrong_address_fails_early(postgresql, fault_proxy):
    """A server that is not there fails the start, and leaves no thread behind."""
    proxy = fault_proxy(postgresql)
    proxy.refuse()
    before = threading.active_count()
    with pytest.raises(PoolTimeout):
        open_pool(proxy.url, wait=0.05)
    wait_until(lambda: threading.active_count() <= before)


def test_statements_are_limited(postgresql):
    """Every connection of the pool has a statement timeout."""
    with open_pool(postgresql) as pool, pool.connection() as conn:
        assert conn.execute("SHOW statement_timeout").fetchone() == ("30s",)


def test_check_connection_alone(postgresql, shop):
    """check=ConnectionPool.check_connection alone: with 3 of 3 dead, a caller who would
    wait for 1.5 s gets PoolTimeout, though the server is up."""
    check = ConnectionPool.check_connection
    with ConnectionPool(
        postgresql, min_size=3, timeout=1.5, check=check, open=True
    ) as pool:
        pool.wait()
        assert kill_others(shop) == 3
        with pytest.raises(PoolTimeout):
            count_orders(pool, 1)


# The same, with asyncpg.


def with_asyncpg(url: str, size: int, use: Callable[[asyncpg.Pool], Coroutine]) -> Any:
    """Return what `use` returns when it is given an open pool."""

    async def run() -> Any:
        async with make_asyncpg_pool(url, size=size) as pool:
            return await use(pool)

    return asyncio.run(run())


def test_asyncpg_many_callers_few_connections(postgresql, shop):
    """asyncpg: 40 tasks share 2 connections; each gets its answer."""

    async def use(pool: asyncpg.Pool) -> list[int]:
        tasks = [count_orders_asyncpg(pool, 1, wait=30) for _ in range(40)]
        counts = await asyncio.gather(*tasks)
        assert pool.get_size() <= 2
        return counts

    assert with_asyncpg(postgresql, 2, use) == [2] * 40


def test_asyncpg_waits_so_long(postgresql, shop):
    """asyncpg: the wait for a free connection ends with TimeoutError."""

    async def use(pool: asyncpg.Pool) -> None:
        async with pool.acquire():
            with pytest.raises(TimeoutError):
                await count_orders_asyncpg(pool, 1, wait=0.02)

    with_asyncpg(postgresql, 1, use)


def test_asyncpg_killed_connections_are_replaced(postgresql, shop):
    """asyncpg: idle connections that the server killed are replaced, unseen."""

    async def use(pool: asyncpg.Pool) -> int:
        heard = asyncio.Event()
        async with pool.acquire() as conn:
            conn.add_termination_listener(lambda _: heard.set())
        assert await asyncio.to_thread(kill_others, shop) == 1
        await asyncio.wait_for(heard.wait(), 5)
        return await count_orders_asyncpg(pool, 1)

    assert with_asyncpg(postgresql, 1, use) == 2


def test_asyncpg_undone_and_clean(postgresql, shop):
    """asyncpg: after an error the next caller finds no trace of it."""

    async def use(pool: asyncpg.Pool) -> int:
        async with pool.acquire() as conn:
            await conn.execute("SET search_path = nowhere")
            with pytest.raises(asyncpg.UndefinedTableError):
                await conn.execute("BEGIN; SELECT FROM orders")
        return await count_orders_asyncpg(pool, 1)

    assert with_asyncpg(postgresql, 1, use) == 2


def test_asyncpg_statements_are_limited(postgresql):
    """asyncpg: a statement of the pool ends after 30 seconds."""

    async def use(pool: asyncpg.Pool) -> float:
        async with pool.acquire() as conn:
            return conn._config.command_timeout

    assert with_asyncpg(postgresql, 1, use) == 30


# --8<-- [start:wrong]
def open_pool_as_copied(url):
    return ConnectionPool(url, min_size=2, max_size=2, open=True)


def run_as_copied(pool, query):
    conn = pool.getconn()
    cursor = conn.execute(query)
    rows = cursor.fetchall() if cursor.description else []
    pool.putconn(conn)
    return rows


# --8<-- [end:wrong]


def test_often_copied_leaks(postgresql, shop):
    """Often copied: two typos, and the pool of two is empty for everyone."""
    with open_pool_as_copied(postgresql) as pool:
        for _ in range(2):
            with pytest.raises(errors.UndefinedTable):
                run_as_copied(pool, "SELECT FROM nowhere")
        pool.timeout = 0.05  # in place of 30 seconds
        with pytest.raises(PoolTimeout):
            run_as_copied(pool, "SELECT 1")


def test_often_copied_hands_out_the_dead(postgresql, shop):
    """Often copied: after a restart of the server, callers get dead connections."""
    with open_pool_as_copied(postgresql) as pool:
        pool.wait()
        assert kill_others(shop) == 2
        with pytest.raises(psycopg.OperationalError):
            run_as_copied(pool, "SELECT 1")


def test_often_copied_loses_writes(postgresql, shop):
    """Often copied: an INSERT is undone when its connection goes back."""
    with open_pool_as_copied(postgresql) as pool:
        run_as_copied(pool, "INSERT INTO orders VALUES (9)")
        query = "SELECT count(*) FROM orders WHERE customer = 9"
        assert run_as_copied(pool, query) == [(0,)]
