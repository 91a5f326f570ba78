# /// script
# requires-python = ">=3.11"
# dependencies = ["oracledb>=3.4"]
# ///
"""Query from asyncio, with a pool and a limit on every wait.

Thin mode speaks asyncio by itself. One connection does one thing at a time, so what
runs side by side needs a pool; and here the login has a limit too.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import oracledb

NO_SERVER = (
    "Set ORACLE_DSN, for example cook/cook@127.0.0.1:11521/FREEPDB1"
    " after `docker compose up -d --wait oracle`"
)


# --8<-- [start:pool]
@asynccontextmanager
async def open_pool(
    dsn: str, *, size: int = 4, wait: float = 5
) -> AsyncIterator[oracledb.AsyncConnectionPool]:
    """Lend a pool, and close it at the end.

    Raises OperationalError (DPY-6005) when the server cannot be reached, DatabaseError
    (DPY-4005) when it says nothing within wait, in seconds.
    """
    pool = oracledb.create_pool_async(
        dsn,
        min=size,
        max=size,
        getmode=oracledb.POOL_GETMODE_TIMEDWAIT,
        wait_timeout=max(1, round(wait * 1000)),  # 0 would be no limit
        tcp_connect_timeout=5,
        session_callback=prepare,
    )
    try:
        async with pool.acquire():  # a wrong address fails here, not later
            pass
        yield pool
    finally:
        try:
            async with asyncio.timeout(5):  # or a login under way holds up the close
                await pool.close(force=True)
        except TimeoutError:
            pass  # the event loop cancels what is left


async def prepare(conn: oracledb.AsyncConnection, tag: str | None) -> None:
    """Called once for each new connection, before it is lent."""
    conn.call_timeout = 30_000  # milliseconds


# --8<-- [end:pool]


# --8<-- [start:query]
async def count_orders(pool: oracledb.AsyncConnectionPool, customer: int) -> int:
    """Return how many orders a customer has."""
    query = "SELECT COUNT(*) FROM orders WHERE customer = :customer"
    async with pool.acquire() as conn:
        row = await conn.fetchone(query, {"customer": customer})
    return int(row[0])


async def count_all(
    pool: oracledb.AsyncConnectionPool, customers: Iterable[int]
) -> dict[int, int]:
    """Count side by side, as many as the pool has connections.

    The first error ends the others, and is in an ExceptionGroup.
    """
    async with asyncio.TaskGroup() as group:
        tasks = {c: group.create_task(count_orders(pool, c)) for c in customers}
    return {customer: task.result() for customer, task in tasks.items()}


async def stream(
    pool: oracledb.AsyncConnectionPool, query: str, **binds: Any
) -> AsyncIterator[tuple[Any, ...]]:
    """Yield the rows of a large result. Memory holds 1000 of them."""
    async with pool.acquire() as conn:
        with conn.cursor() as cursor:
            cursor.arraysize = 1000
            await cursor.execute(query, binds)
            async for row in cursor:
                yield row


# --8<-- [end:query]


async def run(dsn: str) -> None:
    async with open_pool(dsn, size=2, wait=30) as pool:
        async with pool.acquire() as conn:
            await conn.execute("CREATE TABLE orders (customer NUMBER(9))")
            rows = [(n % 4,) for n in range(40)]
            await conn.executemany("INSERT INTO orders VALUES (:1)", rows)
            await conn.commit()
        print("orders:", await count_all(pool, range(4)))
        query = "SELECT customer FROM orders WHERE customer < :n"
        print("rows:", len([row async for row in stream(pool, query, n=2)]))


def main() -> None:
    dsn = os.environ.get("ORACLE_DSN") or sys.exit(NO_SERVER)
    asyncio.run(run(dsn))


if __name__ == "__main__":
    main()
