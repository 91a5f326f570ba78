# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Change several rows, all or nothing.

BEGIN IMMEDIATE for work that reads and then writes, and a savepoint for a part that may
fail alone. Use it when a change needs more than one statement, or depends on a read.
"""

import os
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

SCHEMA = """
CREATE TABLE stock (
    item     TEXT PRIMARY KEY,
    quantity INTEGER NOT NULL CHECK (quantity >= 0)
)
"""


# --8<-- [start:transaction]
def connect(path: str | Path, timeout: float = 5) -> sqlite3.Connection:
    """Open the file; each statement outside transaction() commits itself."""
    return sqlite3.connect(path, timeout=timeout, isolation_level=None)


@contextmanager
def transaction(conn: sqlite3.Connection) -> Iterator[None]:
    """Commit at the end of the block; after an error roll back and raise it.

    Raises OperationalError (database is locked) if the wait for others was too long.
    """
    with conn:  # commits, or rolls back
        conn.execute("BEGIN IMMEDIATE")  # the write lock now, before we read
        yield


@contextmanager
def savepoint(conn: sqlite3.Connection) -> Iterator[None]:
    """Inside a transaction: after an error undo this block alone, and raise it."""
    conn.execute("SAVEPOINT part")
    try:
        yield
    except BaseException:
        if conn.in_transaction:  # some errors have ended all of it
            conn.execute("ROLLBACK TO part")
            conn.execute("RELEASE part")
        raise
    conn.execute("RELEASE part")


# --8<-- [end:transaction]


# --8<-- [start:use]
def take(conn: sqlite3.Connection, item: str, quantity: int) -> int:
    """Take from the stock; return what is left. Raises LookupError, IntegrityError."""
    with transaction(conn):
        row = conn.execute(
            "SELECT quantity FROM stock WHERE item = ?", (item,)
        ).fetchone()
        if row is None:
            raise LookupError(item)
        left = int(row[0]) - quantity
        conn.execute("UPDATE stock SET quantity = ? WHERE item = ?", (left, item))
    return left


def deliver(
    conn: sqlite3.Connection, parcels: Iterable[tuple[str, int]]
) -> list[tuple[str, int]]:
    """Add new items in one transaction; return the parcels that were refused."""
    refused = []
    with transaction(conn):
        for parcel in parcels:
            try:
                with savepoint(conn):
                    conn.execute("INSERT INTO stock VALUES (?, ?)", parcel)
            except sqlite3.IntegrityError:
                refused.append(parcel)
    return refused


# --8<-- [end:use]

NO_SERVER = "Set SQLITE_PATH to a file to create, for example cookbook.db"


def main() -> None:
    path = os.environ.get("SQLITE_PATH") or sys.exit(NO_SERVER)
    with closing(connect(path)) as conn:
        conn.execute(SCHEMA)
        print("refused:", deliver(conn, [("tea", 10), ("tea", 5), ("salt", -1)]))
        print("left after taking 3:", take(conn, "tea", 3))
        try:
            take(conn, "tea", 100)
        except sqlite3.IntegrityError as error:
            print("taking 100:", error)
        print(conn.execute("SELECT item, quantity FROM stock").fetchall())


if __name__ == "__main__":
    main()
