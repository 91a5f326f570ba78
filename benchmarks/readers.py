"""`python -m benchmarks.readers READER ROWS`: read them from the address in ADDRESS.

Each reader imports what it needs when it is called, so that the peak of its process is
that of the recipe and its driver. Ends with an error if the rows are not all there.
"""

import os
import sqlite3
import sys
from collections.abc import Iterable, Sized
from contextlib import closing

POSTGRESQL = "SELECT n, repeat('x', 100) FROM generate_series(1, %s) AS n"
MYSQL = (
    "SELECT a.n, REPEAT('x', 100) FROM digit AS a, digit AS b, digit AS c, digit AS d,"
    " digit AS e, digit AS f, digit AS g LIMIT %s"
)
SQLITE = "SELECT id, sensor, value FROM reading ORDER BY id"


def postgresql_stream(url: str, rows: int) -> int:
    import psycopg

    from recipes.postgresql.stream_large_result import stream_rows

    with psycopg.connect(url) as conn:
        return count(stream_rows(conn, POSTGRESQL, (rows,)))


def postgresql_fetchall(url: str, rows: int) -> int:
    import psycopg

    with psycopg.connect(url) as conn:
        return size(conn.execute(POSTGRESQL, (rows,)).fetchall())


def mysql_stream(url: str, rows: int) -> int:
    from recipes.mysql.stream_large_result import stream

    with stream(url, MYSQL, [rows]) as found:
        return count(found)


def mysql_stream_connector(url: str, rows: int) -> int:
    from recipes.mysql.stream_large_result_connector import stream

    with stream(url, MYSQL, [rows]) as found:
        return count(found)


def mysql_fetchall(url: str, rows: int) -> int:
    from recipes.mysql.stream_large_result import connect

    with connect(url) as conn, conn.cursor() as cursor:
        cursor.execute(MYSQL, [rows])
        return size(cursor.fetchall())


def mysql_fetchall_connector(url: str, rows: int) -> int:
    from recipes.mysql.stream_large_result_connector import connect

    with connect(url) as conn, conn.cursor() as cursor:
        cursor.execute(MYSQL, [rows])
        return size(cursor.fetchall())


def sqlite_stream(path: str, rows: int) -> int:
    from recipes.sqlite.stream_large_result import stream_rows

    return count(stream_rows(path))


def sqlite_batches(path: str, rows: int) -> int:
    from recipes.sqlite.stream_large_result import stream_batches

    return sum(map(len, stream_batches(path)))


def sqlite_fetchall(path: str, rows: int) -> int:
    with closing(sqlite3.connect(path)) as conn:
        return size(conn.execute(SQLITE).fetchall())


def count(rows: Iterable[object]) -> int:
    return sum(1 for _ in rows)


def size(rows: Sized) -> int:
    return len(rows)


READERS = {
    reader.__name__: reader
    for reader in (
        postgresql_stream,
        postgresql_fetchall,
        mysql_stream,
        mysql_stream_connector,
        mysql_fetchall,
        mysql_fetchall_connector,
        sqlite_stream,
        sqlite_batches,
        sqlite_fetchall,
    )
}


def main(reader: str, rows: int) -> None:
    found = READERS[reader](os.environ["ADDRESS"], rows)
    if found != rows:
        sys.exit(f"{reader}: {found} rows of {rows}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
