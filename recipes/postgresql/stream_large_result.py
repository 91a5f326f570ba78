# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
# ///
"""Read a result of any size in constant memory.

A server-side cursor keeps the result on the server and sends it in batches. Use it when
the rows may not fit into memory, or when the first ones are wanted soon.
"""

import os
import sys
from collections.abc import Generator
from contextlib import closing
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.abc import Params, Query


# --8<-- [start:stream]
def stream_rows(
    conn: psycopg.Connection,
    query: Query,
    params: Params | None = None,
    *,
    batch: int = 2000,
) -> Generator[tuple[Any, ...], None, None]:
    """Yield the rows of the query; at most `batch` of them are in memory.

    Needs the transaction that psycopg opens by itself: NoActiveSqlTransaction if conn
    is in autocommit mode, InvalidCursorName if you commit before the last row.
    """
    with conn.cursor(name=f"stream_{uuid4().hex}") as cur:  # a name: on the server
        cur.itersize = batch
        cur.execute(query, params)
        yield from cur


# --8<-- [end:stream]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    query = "SELECT generate_series(1, %s) * 0.01"
    with psycopg.connect(url, connect_timeout=5) as conn:
        # --8<-- [start:use]
        total = sum(amount for (amount,) in stream_rows(conn, query, (100_000,)))
        print("sum of 100,000 rows:", total)

        # Leaving early: closing() frees the cursor at once, not when Python gets to it.
        with closing(stream_rows(conn, query, (10**9,))) as rows:
            print("first row of a thousand million:", *next(rows))
        # --8<-- [end:use]


if __name__ == "__main__":
    main()
