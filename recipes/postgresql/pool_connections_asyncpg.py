# /// script
# requires-python = ">=3.11"
# dependencies = ["asyncpg>=0.30"]
# ///
"""Share connections in a pool, with asyncpg.

One process, one event loop, one pool: tasks wait for a free connection, and those that
have died are replaced.
"""

import asyncio
import os
import sys

import asyncpg

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


# --8<-- [start:pool]
def make_pool(url: str, *, size: int = 10) -> asyncpg.Pool:
    """Make a pool; open it with `async with`, in the loop that uses it."""
    return asyncpg.create_pool(
        url,
        min_size=1,
        max_size=size,
        max_inactive_connection_lifetime=300,  # seconds without use, then closed
        max_queries=50_000,  # then replaced
        timeout=5,  # of connecting; a statement has command_timeout
        command_timeout=30,
    )


async def count_orders(pool: asyncpg.Pool, customer: int, wait: float = 5) -> int:
    """Borrow a connection for a transaction.

    Raises TimeoutError when none is free for wait seconds.
    """
    query = "SELECT count(*) FROM orders WHERE customer = $1"
    async with pool.acquire(timeout=wait) as conn, conn.transaction():
        return int(await conn.fetchval(query, customer))


# --8<-- [end:pool]


async def run(url: str) -> None:
    async with make_pool(url, size=2) as pool:
        await pool.execute("CREATE TABLE orders (customer int)")
        await pool.execute(
            "INSERT INTO orders SELECT n % 4 FROM generate_series(1, 40) n"
        )
        counts = await asyncio.gather(*(count_orders(pool, n % 4) for n in range(20)))
        print("orders counted by 20 tasks:", sum(counts))
        print("connections allowed:", pool.get_max_size())


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    asyncio.run(run(url))


if __name__ == "__main__":
    main()
