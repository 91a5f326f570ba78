# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Open an SQLite file, and close it.

Rows by name, foreign keys enforced, a wait for locks, and no empty database where the
path was mistyped. Use it wherever a program opens an SQLite file.
"""

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

SCHEMA = """
CREATE TABLE author (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE book (
    title     TEXT NOT NULL,
    author_id INTEGER NOT NULL REFERENCES author
);
"""


# --8<-- [start:connect]
@contextmanager
def connect(
    path: str | Path,
    mode: Literal["ro", "rw", "rwc"] = "rw",
    timeout: float = 5,
) -> Iterator[sqlite3.Connection]:
    """Give an open connection; close it at the end of the block.

    mode: ro reads, rw also writes, rwc also creates a missing file. A lock is waited
    for timeout seconds. Raises OperationalError where the file cannot be opened.
    """
    uri = f"{Path(path).absolute().as_uri()}?mode={mode}"
    with closing(sqlite3.connect(uri, timeout=timeout, uri=True)) as conn:
        conn.row_factory = sqlite3.Row
        conn.execute("PRAGMA foreign_keys = ON")  # off by default, in every connection
        yield conn


# --8<-- [end:connect]


# --8<-- [start:use]
def titles(path: str | Path) -> list[str]:
    """Return every title with its author's name."""
    with connect(path, "ro") as conn:
        rows = conn.execute(
            "SELECT title, name FROM book JOIN author ON author.id = author_id"
        )
        return [f"{row['title']} by {row['name']}" for row in rows]


def add_author(path: str | Path, name: str) -> int:
    """Add an author; return the new id."""
    with connect(path) as conn, conn:  # the second one commits, or rolls back
        added = conn.execute(
            "INSERT INTO author (name) VALUES (?) RETURNING id", (name,)
        )
        return int(added.fetchone()["id"])


# --8<-- [end:use]

NO_SERVER = "Set SQLITE_PATH to a file to create, for example cookbook.db"


def main() -> None:
    path = os.environ.get("SQLITE_PATH") or sys.exit(NO_SERVER)
    with connect(path, "rwc") as conn:
        conn.executescript(SCHEMA)
    author = add_author(path, "Ursula K. Le Guin")
    with connect(path) as conn, conn:
        conn.execute("INSERT INTO book VALUES (?, ?)", ("The Dispossessed", author))
    print(*titles(path), sep="\n")
    with connect(path) as conn:
        try:
            conn.execute("INSERT INTO book VALUES (?, ?)", ("No author", 99))
        except sqlite3.IntegrityError as error:
            print(f"a book of an unknown author: {error}")


if __name__ == "__main__":
    main()
