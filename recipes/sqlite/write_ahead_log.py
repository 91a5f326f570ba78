# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Read while another connection writes.

A write-ahead log lets readers go on during a write, and the writer during a read. Use
it when several threads or processes of one machine share a file.
"""

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import NamedTuple


# --8<-- [start:use_wal]
def use_wal(path: str | Path, timeout: float = 5) -> None:
    """Switch the file to a write-ahead log; it stays so for every later connection.

    Raises OperationalError where another connection is in a transaction for timeout
    seconds, and where there cannot be a log (a database in memory).
    """
    with closing(sqlite3.connect(path, timeout=timeout)) as conn:
        (mode,) = conn.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise sqlite3.OperationalError(f"journal_mode is still {mode}")


def connect(path: str | Path, timeout: float = 5) -> sqlite3.Connection:
    """Open the file; a write waits up to timeout seconds for the one before it."""
    conn = sqlite3.connect(path, timeout=timeout, isolation_level=None)
    # A power cut may undo the last commits, and never harms the file. FULL keeps them.
    conn.execute("PRAGMA synchronous = NORMAL")
    return conn


# --8<-- [end:use_wal]


# --8<-- [start:add]
def add(conn: sqlite3.Connection, amount: int) -> int:
    """Add to the counter; return its new value."""
    with conn:
        conn.execute("BEGIN IMMEDIATE")  # before the read, or it may fail at once
        (value,) = conn.execute("SELECT value FROM counter").fetchone()
        conn.execute("UPDATE counter SET value = ?", (value + amount,))
    return int(value + amount)


# --8<-- [end:add]


# --8<-- [start:checkpoint]
class Checkpoint(NamedTuple):
    complete: bool  # False: a reader still needs the log
    frames: int  # pages left in the log
    copied: int  # of these, pages that are in the database file too


def checkpoint(conn: sqlite3.Connection) -> Checkpoint:
    """Copy the log into the database file and empty it, unless readers need it."""
    busy, frames, copied = conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return Checkpoint(not busy, frames, copied)


# --8<-- [end:checkpoint]

NO_SERVER = "Set SQLITE_PATH to a file to create, for example cookbook.db"


def main() -> None:
    path = os.environ.get("SQLITE_PATH") or sys.exit(NO_SERVER)
    use_wal(path)
    with closing(connect(path)) as writer, closing(connect(path)) as reader:
        writer.execute("CREATE TABLE counter (value INTEGER NOT NULL)")
        writer.execute("INSERT INTO counter VALUES (1)")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE counter SET value = 2")
        query = "SELECT value FROM counter"
        print("read during a write:", reader.execute(query).fetchone()[0])
        writer.execute("COMMIT")
        print("read after it:", reader.execute(query).fetchone()[0])
        print("after one more:", add(writer, 1))
        print("log emptied:", checkpoint(writer).complete)


if __name__ == "__main__":
    main()
