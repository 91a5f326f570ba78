# /// script
# requires-python = ">=3.11"
# dependencies = ["oracledb>=26"]
# ///
"""Fetch many rows in few round trips.

The driver fetches 100 rows at a time, so a million rows are ten thousand waits for the
network. Two numbers, set before the statement runs, decide how many there are.
"""

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import oracledb

NO_SERVER = (
    "Set ORACLE_DSN, for example cook/cook@127.0.0.1:11521/FREEPDB1"
    " after `docker compose up -d --wait oracle`"
)


# --8<-- [start:read]
def read_many(
    conn: oracledb.Connection, query: str, *, at_a_time: int = 1000, **binds: Any
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a large result; memory holds at_a_time of them."""
    with conn.cursor() as cursor:
        cursor.arraysize = at_a_time  # before execute, which allocates the buffers
        cursor.execute(query, binds)
        yield from cursor


def read_page(
    conn: oracledb.Connection, query: str, *, size: int, **binds: Any
) -> list[tuple[Any, ...]]:
    """Return the first size rows, in one round trip. A bind is not to be named
    page_size."""
    with conn.cursor() as cursor:
        cursor.arraysize = size
        cursor.prefetchrows = size + 1  # one more: that there is no more is known too
        limited = f"{query} FETCH FIRST :page_size ROWS ONLY"
        cursor.execute(limited, {**binds, "page_size": size})
        return list(cursor)


# --8<-- [end:read]


# --8<-- [start:count]
T = TypeVar("T")


def count_round_trips(
    conn: oracledb.Connection, work: Callable[[], T]
) -> tuple[int, T]:
    """Return how often the driver waited for the server in work(), and its value."""
    trips = 0

    def count(*_: object) -> None:
        nonlocal trips
        trips += 1

    conn.round_trip_callback = count  # thin mode, from version 26 on
    try:
        result = work()
    finally:
        conn.round_trip_callback = None
    return trips, result


# --8<-- [end:count]


def main() -> None:
    dsn = os.environ.get("ORACLE_DSN") or sys.exit(NO_SERVER)
    numbers = "SELECT LEVEL FROM dual CONNECT BY LEVEL <= :last"
    with oracledb.connect(dsn, tcp_connect_timeout=5) as conn:
        conn.call_timeout = 30_000  # milliseconds
        for size in (10, 100, 1000):

            def read(size: int = size) -> int:
                rows = read_many(conn, numbers, at_a_time=size, last=10_000)
                return sum(1 for _ in rows)

            trips, count = count_round_trips(conn, read)
            print(f"{count} rows, {size:4} at a time: {trips} round trips")
        trips, page = count_round_trips(
            conn, lambda: read_page(conn, numbers, size=20, last=10_000)
        )
        print(f"a page of {len(page)} rows: {trips} round trip")


if __name__ == "__main__":
    main()
