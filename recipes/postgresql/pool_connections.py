# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary,pool]>=3.2"]
# ///
"""Share connections in a pool.

Connecting costs more than most queries, and a server takes only so many. A pool keeps a
few open, lets callers wait for a free one, and replaces those that have died.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg
from psycopg_pool import ConnectionPool

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


# --8<-- [start:pool]
def open_pool(
    url: str,
    *,
    size: int = 10,
    wait: float = 5,
    max_waiting: int = 100,
    max_lifetime: float = 30 * 60,
) -> ConnectionPool:
    """Open a pool, one for each process; close it, or use it in a `with`. In seconds:
    how long a caller waits for a free connection, how old a connection gets.

    Raises PoolTimeout when the server cannot be reached within wait.
    """

    def check(conn: psycopg.Connection) -> None:
        try:
            ConnectionPool.check_connection(conn)  # a round trip
        except psycopg.Error:
            pool.check()  # one is dead: replace all that are, not one for each wait
            raise

    pool = ConnectionPool(
        url,
        min_size=1,  # more are opened as callers wait, and closed when idle
        max_size=size,
        timeout=wait,  # then the caller gets PoolTimeout
        max_waiting=max_waiting,  # then the next caller gets TooManyRequests at once
        max_lifetime=max_lifetime,
        check=check,  # before it is lent
        kwargs={"connect_timeout": 5, "options": "-c statement_timeout=30s"},
        open=False,
    )
    try:
        pool.open(wait=True, timeout=wait)  # a wrong address fails here, not later
    except BaseException:
        pool.close()
        raise
    return pool


def count_orders(pool: ConnectionPool, customer: int) -> int:
    """Borrow a connection: committed and given back at the end, undone on an error."""
    query = "SELECT count(*) FROM orders WHERE customer = %s"
    with pool.connection() as conn:
        row = conn.execute(query, (customer,)).fetchone()
    return row[0] if row else 0


# --8<-- [end:pool]


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    with open_pool(url, size=2) as pool:
        with pool.connection() as conn:
            conn.execute("CREATE TABLE orders (customer int)")
            conn.execute(
                "INSERT INTO orders SELECT n % 4 FROM generate_series(1, 40) n"
            )
        with ThreadPoolExecutor(8) as threads:
            counts = threads.map(lambda n: count_orders(pool, n % 4), range(100))
            print("orders counted by 8 threads:", sum(counts))
        stats = pool.get_stats()
        print("connections allowed:", stats["pool_max"])
        print("times one was borrowed:", stats["requests_num"])
        print("errors:", stats.get("requests_errors", 0))


if __name__ == "__main__":
    main()
