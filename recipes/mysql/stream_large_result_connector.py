# /// script
# requires-python = ">=3.11"
# dependencies = ["mysql-connector-python>=9.4"]
# ///
"""Read a result of any size in constant memory with mysql-connector-python.

Its cursors do not buffer unless told to; rows are fetched a thousand at a time. Use
this for exports and for rows that are worked on one after the other.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

from mysql.connector import MySQLConnection
from mysql.connector.abstracts import MySQLConnectionAbstract


def connect(url: str) -> MySQLConnectionAbstract:
    """Open mysql://user:password@host:port/database; the caller closes it."""
    parts = urlsplit(url)
    return MySQLConnection(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=unquote(parts.path[1:]),
        connection_timeout=5,
        read_timeout=60,
    )


# --8<-- [start:stream]
@contextmanager
def stream(
    url: str, sql: str, args: Sequence[Any] | None = None
) -> Iterator[Iterator[tuple[Any, ...]]]:
    """Give an iterator over the rows of a query; it ends with the block.

    Leaving the block early ends the query. Raises mysql.connector.Error, also between
    rows.
    """

    def rows() -> Iterator[Any]:
        while chunk := cursor.fetchmany(1_000):  # row by row is slower
            yield from chunk

    with connect(url) as conn:  # of its own: it is busy until the last row
        cursor = conn.cursor(buffered=False)
        cursor.execute("SET SESSION net_write_timeout = 600")  # for a slow reader
        cursor.execute(sql, tuple(args) if args is not None else ())
        yield rows()  # closing the connection drops what is left


# --8<-- [end:stream]

TABLES = "FROM digit AS a, digit AS b, digit AS c, digit AS d, digit AS e"
NO_SERVER = (
    "Set MYSQL_URL, for example mysql://cook:cook@127.0.0.1:13306/cookbook"
    " after `docker compose up -d --wait mysql`"
)


def main() -> None:
    url = os.environ.get("MYSQL_URL") or sys.exit(NO_SERVER)
    with connect(url) as conn, conn.cursor() as cursor:
        cursor.execute("CREATE TABLE digit (n INT PRIMARY KEY)")
        cursor.executemany("INSERT INTO digit VALUES (%s)", [(n,) for n in range(6)])
        conn.commit()
    with stream(url, f"SELECT 1, REPEAT('x', 100) {TABLES}") as rows:
        print("rows:", sum(one for one, _text in rows))
    with stream(url, f"SELECT a.n {TABLES} WHERE a.n > %s", [3]) as rows:
        print("the first is greater than 3:", next(rows)[0] > 3)


if __name__ == "__main__":
    main()
