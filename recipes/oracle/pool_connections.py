# /// script
# requires-python = ">=3.11"
# dependencies = ["oracledb>=3.4"]
# ///
"""Share connections in a pool.

A login costs the server a process, and the caller several round trips. A pool keeps a
few connections open, lends them, and ends the wait for a free one.
"""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import oracledb

NO_SERVER = (
    "Set ORACLE_DSN, for example cook/cook@127.0.0.1:11521/FREEPDB1"
    " after `docker compose up -d --wait oracle`"
)


# --8<-- [start:pool]
def open_pool(dsn: str, *, size: int = 4, wait: float = 5) -> oracledb.ConnectionPool:
    """Open a pool, one for each process; the caller closes it.

    A caller waits up to wait seconds for a connection: then DatabaseError (DPY-4005).
    Raises OperationalError (DPY-6005) when the server cannot be reached.
    """
    if size < 1 or wait < 0.001:
        raise ValueError(f"a pool of {size} that is waited for {wait} s lends nothing")
    pool = oracledb.create_pool(
        dsn,
        min=size,  # a pool that grows under load sends a storm of logins
        max=size,
        getmode=oracledb.POOL_GETMODE_TIMEDWAIT,
        wait_timeout=round(wait * 1000),
        max_lifetime_session=30 * 60,  # seconds
        ping_interval=60,  # seconds that one may be idle, then it is tried before use
        ping_timeout=5000,
        tcp_connect_timeout=5,
        session_callback=prepare,
    )
    try:
        pool.acquire().close()  # a wrong address fails here, not later
    except BaseException:
        pool.close()
        raise
    return pool


def prepare(conn: oracledb.Connection, tag: str | None) -> None:
    """Called once for each new connection, before it is lent."""
    conn.call_timeout = 30_000  # milliseconds


@contextmanager
def transaction(pool: oracledb.ConnectionPool) -> Iterator[oracledb.Connection]:
    """Lend a connection: its work is committed at the end, undone on an error."""
    with pool.acquire() as conn:  # given back in any case, and rolled back
        yield conn
        conn.commit()


# --8<-- [end:pool]


def count_orders(pool: oracledb.ConnectionPool, customer: int) -> int:
    """Return how many orders a customer has."""
    with pool.acquire() as conn, conn.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM orders WHERE customer = :1", [customer])
        return int(cursor.fetchone()[0])


def main() -> None:
    dsn = os.environ.get("ORACLE_DSN") or sys.exit(NO_SERVER)
    with closing(open_pool(dsn, size=2)) as pool:
        with transaction(pool) as conn, conn.cursor() as cursor:
            cursor.execute("CREATE TABLE orders (customer NUMBER(9))")
            customers = [(n % 4,) for n in range(40)]
            cursor.executemany("INSERT INTO orders VALUES (:1)", customers)
        with ThreadPoolExecutor(8) as threads:
            counts = threads.map(lambda n: count_orders(pool, n % 4), range(40))
            print("orders counted by 8 threads:", sum(counts))
        print("connections open:", pool.opened)
        print("connections lent:", pool.busy)


if __name__ == "__main__":
    main()
