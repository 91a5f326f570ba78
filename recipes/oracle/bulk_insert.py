# /// script
# requires-python = ">=3.11"
# dependencies = ["oracledb>=3.4"]
# ///
"""Insert many rows, all of them or the good ones, and count what the server took.

executemany sends thousands of rows in one round trip. It stops at the first bad row, or
goes on and keeps a list of the bad ones, which has to be read.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import NamedTuple

import oracledb

SCHEMA = """
CREATE TABLE reading (
    id       NUMBER(12) PRIMARY KEY,
    name     VARCHAR2(100) NOT NULL,
    value    NUMBER(12, 2) NOT NULL,
    taken_at TIMESTAMP(6) NOT NULL
)
"""
NO_SERVER = (
    "Set ORACLE_DSN, for example cook/cook@127.0.0.1:11521/FREEPDB1"
    " after `docker compose up -d --wait oracle`"
)

# --8<-- [start:all]
Row = tuple[int, str, Decimal, datetime]
INSERT = "INSERT INTO reading (id, name, value, taken_at) VALUES (:1, :2, :3, :4)"
# What each column holds, or the first row decides: None there means a text of length 1.
TYPES = (int, 100, Decimal, oracledb.DB_TYPE_TIMESTAMP)


def insert_all(conn: oracledb.Connection, rows: Iterable[Row]) -> int:
    """Insert all rows, or none, and commit; return how many.

    Raises what the driver raises, with a note of how many rows were good. Then what
    else was pending on conn is rolled back too.
    """
    count = 0
    try:
        with conn.cursor() as cursor:
            for batch in batches(rows):
                cursor.setinputsizes(*TYPES)
                try:
                    cursor.executemany(INSERT, batch)
                except oracledb.DatabaseError as error:
                    error.add_note(f"after {count + max(cursor.rowcount, 0)} good rows")
                    raise
                count += cursor.rowcount
        conn.commit()
    except BaseException:
        if conn.is_healthy():
            conn.rollback()
        raise
    return count


def batches(rows: Iterable[Row], size: int = 10_000) -> Iterator[list[Row]]:
    """Yield the rows in lists of size; a list of errors takes no more than 65535."""
    if not 1 <= size <= 65_535:
        raise ValueError(f"a batch of {size} rows")
    rows = iter(rows)
    while batch := list(islice(rows, size)):
        yield batch


# --8<-- [end:all]


# --8<-- [start:good]
class Rejected(NamedTuple):
    row: Row
    code: int  # 1 is ORA-00001, a key that is there already
    message: str


def insert_good(
    conn: oracledb.Connection, rows: Iterable[Row]
) -> tuple[int, list[Rejected]]:
    """Insert the rows that can be inserted, and commit after each batch.

    Return how many the server took, and the others with their reasons. An error that is
    not about a row is raised; the batches before it stay.
    """
    count = 0
    rejected = []
    with conn.cursor() as cursor:
        for batch in batches(rows):
            cursor.setinputsizes(*TYPES)
            cursor.executemany(INSERT, batch, batcherrors=True, arraydmlrowcounts=True)
            for error in cursor.getbatcherrors():
                reason = error.message.partition("\n")[0]
                rejected.append(Rejected(batch[error.offset], error.code, reason))
            count += sum(cursor.getarraydmlrowcounts())
            conn.commit()
    return count, rejected


# --8<-- [end:good]


def sample(start: int, count: int) -> Iterable[Row]:
    """Make rows, one at a time."""
    first = datetime(2026, 1, 1)  # noqa: DTZ001, a TIMESTAMP has no time zone
    for n in range(start, start + count):
        yield n, f"Sensor {n % 7}", Decimal(n) / 100, first + timedelta(seconds=n)


def main() -> None:
    dsn = os.environ.get("ORACLE_DSN") or sys.exit(NO_SERVER)
    with oracledb.connect(dsn, tcp_connect_timeout=5) as conn, conn.cursor() as cursor:
        conn.call_timeout = 60_000  # milliseconds
        cursor.execute(SCHEMA)
        print("all or none:", insert_all(conn, sample(0, 2_500)))
        try:
            insert_all(conn, sample(2_400, 200))
        except oracledb.IntegrityError as error:
            print("all or none:", error.args[0].full_code)
        count, rejected = insert_good(conn, sample(2_400, 200))
        print(f"the good ones: {count}, and {len(rejected)} were refused")
        print("the first of these:", rejected[0].row[0], f"ORA-{rejected[0].code:05}")
        cursor.execute("SELECT COUNT(*) FROM reading")
        print("in the table:", *cursor.fetchone())


if __name__ == "__main__":
    main()
