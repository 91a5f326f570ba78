# /// script
# requires-python = ">=3.11"
# dependencies = ["mysql-connector-python>=9.4"]
# ///
"""Insert many rows with mysql-connector-python.

executemany makes one INSERT of many rows, which saves a round trip for each. Use it for
hundreds or thousands of rows, and LOAD DATA LOCAL for millions.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from urllib.parse import unquote, urlsplit

from mysql.connector import IntegrityError, MySQLConnection
from mysql.connector.abstracts import MySQLConnectionAbstract

SCHEMA = """
CREATE TABLE reading (
    id    BIGINT PRIMARY KEY,
    name  VARCHAR(100) NOT NULL,
    value DECIMAL(12, 2) NOT NULL,
    at    DATETIME(6) NOT NULL
) CHARACTER SET utf8mb4
"""
Row = tuple[int, str, Decimal, datetime]


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
        write_timeout=60,
    )


# --8<-- [start:insert]
INSERT = "INSERT INTO reading (id, name, value, at) VALUES (%s, %s, %s, %s)"


def insert_rows(conn: MySQLConnectionAbstract, rows: Iterable[Row]) -> int:
    """Insert all rows, or none, and commit; return how many.

    Raises what the driver raises. Then nothing is stored, and what else was pending on
    conn is rolled back too.
    """
    count = 0
    try:
        with conn.cursor() as cursor:
            for chunk in chunks(rows):
                cursor.executemany(INSERT, chunk)
                count += cursor.rowcount
        conn.commit()
    except BaseException:
        if conn.is_connected():
            conn.rollback()
        raise
    return count


def chunks(rows: Iterable[Row], size: int = 4_000_000) -> Iterator[list[Row]]:
    """Yield lists of rows whose INSERT has less than size bytes, if a row has less.

    The driver puts a whole list into one statement, which the server refuses above its
    max_allowed_packet.
    """
    chunk: list[Row] = []
    total = 0
    for row in rows:
        length = 4 * len(repr(row))  # at most, in UTF-8 and with escapes
        if chunk and total + length > size:
            yield chunk
            chunk, total = [], 0
        chunk.append(row)
        total += length
    if chunk:
        yield chunk


# --8<-- [end:insert]


def sample(count: int) -> Iterable[Row]:
    """Make rows, one at a time."""
    start = datetime(2026, 1, 1)  # noqa: DTZ001, a DATETIME column has no time zone
    for n in range(count):
        yield n, f"Sensor {n % 7}", Decimal(n) / 100, start + timedelta(seconds=n)


NO_SERVER = (
    "Set MYSQL_URL, for example mysql://cook:cook@127.0.0.1:13306/cookbook"
    " after `docker compose up -d --wait mysql`"
)


def main() -> None:
    url = os.environ.get("MYSQL_URL") or sys.exit(NO_SERVER)
    with connect(url) as conn, conn.cursor() as cursor:
        cursor.execute(SCHEMA)
        print("inserted:", insert_rows(conn, sample(2_500)))
        try:
            insert_rows(conn, sample(2_501))
        except IntegrityError:
            print("refused: some rows were there")
        cursor.execute("SELECT COUNT(*), SUM(value) FROM reading")
        print("in the table:", *cursor.fetchall()[0])


if __name__ == "__main__":
    main()
