# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Load many rows.

All rows in one transaction, from an iterator, without a list of them in memory. Where
the file can be made again, a second way also leaves out the journal.
"""

import os
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS reading (
    sensor INTEGER NOT NULL,
    second INTEGER NOT NULL,
    value  REAL NOT NULL,
    PRIMARY KEY (sensor, second)
)
"""
Reading = tuple[int, int, float]  # sensor, second, value


# --8<-- [start:insert]
def insert_rows(conn: sqlite3.Connection, rows: Iterable[Reading]) -> int:
    """Insert all rows or none; return how many.

    Errors, of the database as well as of the iterator, reach the caller. Raises
    OperationalError where conn is in a transaction already.
    """
    conn.execute("BEGIN IMMEDIATE")  # whatever isolation_level says
    with conn:  # commits once, or rolls back
        inserted = conn.executemany("INSERT INTO reading VALUES (?, ?, ?)", rows)
    return inserted.rowcount


# --8<-- [end:insert]


# --8<-- [start:build]
def build(path: str | Path, rows: Iterable[Reading]) -> int:
    """Make a new file of these rows, without a journal; return how many.

    The file appears when it is whole. Raises FileExistsError if it is there already.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(path)
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)  # what a crash left behind
    with closing(sqlite3.connect(part)) as conn:
        # Nothing to roll back with: after an error the part is worth nothing.
        conn.execute("PRAGMA journal_mode = OFF")
        conn.execute("PRAGMA synchronous = OFF")
        conn.execute(SCHEMA)
        count = insert_rows(conn, rows)
    with part.open("rb+") as file:
        os.fsync(file.fileno())  # once, in place of after each commit
    part.rename(path)
    return count


# --8<-- [end:build]

NO_SERVER = "Set SQLITE_PATH to a file to create, for example cookbook.db"


def readings(sensor: int, count: int) -> Iterator[Reading]:
    for second in range(count):
        yield sensor, second, second / 8


def main() -> None:
    path = os.environ.get("SQLITE_PATH") or sys.exit(NO_SERVER)
    print("built:", build(path, readings(1, 10_000)))
    with closing(sqlite3.connect(path, timeout=5)) as conn:
        print("inserted:", insert_rows(conn, readings(2, 10_000)))
        try:
            insert_rows(conn, readings(1, 12_000))  # 10 000 of them are known
        except sqlite3.IntegrityError as error:
            print("refused:", error)
        print("rows:", conn.execute("SELECT count(*) FROM reading").fetchone()[0])


if __name__ == "__main__":
    main()
