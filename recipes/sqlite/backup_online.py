# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Back up a database in use.

A copy of one moment, made while others read and write, checked before it counts, with
its progress told. And the way back. Use it in place of copying the file.
"""

import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path


# --8<-- [start:backup]
def backup(
    source: str | Path,
    target: str | Path,
    progress: Callable[[float], object] = lambda done: None,
    steps: int = 100,
) -> dict[str, int]:
    """Copy the database at source to the file target; return its rows by table.

    progress hears the part that is done, from 0 to 1. The target is replaced when the
    copy is whole and sound, and kept as it was after an error.
    """
    target = Path(target)
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)  # what a crash left behind
    with closing(_open(source)) as src, closing(sqlite3.connect(part)) as dst:
        src.execute("BEGIN")  # one view until the end, so the copy never starts again
        (pages,) = src.execute("SELECT page_count FROM pragma_page_count").fetchone()
        src.backup(
            dst,
            pages=pages // steps + 1,
            progress=lambda _, remaining, total: progress(1 - remaining / total),
        )
        dst.execute("PRAGMA journal_mode = DELETE")  # so that it is a single file
    counts = check(part)
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(target)
    return counts


# --8<-- [end:backup]


# --8<-- [start:restore]
def check(path: str | Path) -> dict[str, int]:
    """Return the number of rows of each table. Raises DatabaseError where damaged."""
    with closing(_open(path)) as conn:
        found = conn.execute("PRAGMA integrity_check").fetchall()
        if found != [("ok",)]:
            raise sqlite3.DatabaseError(f"{path}: {found[0][0]}")
        tables = conn.execute(
            "SELECT name FROM sqlite_schema"
            " WHERE type = 'table' AND name NOT GLOB 'sqlite_*' ORDER BY name"
        ).fetchall()
        quoted = {name: name.replace('"', '""') for (name,) in tables}
        return {
            name: conn.execute(f'SELECT count(*) FROM "{ident}"').fetchone()[0]
            for name, ident in quoted.items()
        }


def restore(backup: str | Path, path: str | Path, timeout: float = 5) -> dict[str, int]:
    """Put a sound backup in the place of the database at path; return rows by table.

    Connections that are open see it from their next transaction on. Raises
    OperationalError where the file stays locked for timeout seconds.
    """
    counts = check(backup)
    with (
        closing(_open(backup)) as src,
        closing(sqlite3.connect(path, timeout=timeout)) as dst,
    ):
        src.backup(dst, progress=_give_up)
    return counts


def _give_up(status: int, remaining: int, total: int) -> None:
    if status == sqlite3.SQLITE_BUSY:  # or backup() would try for ever
        raise sqlite3.OperationalError("database is locked")


def _open(path: str | Path) -> sqlite3.Connection:
    uri = f"{Path(path).absolute().as_uri()}?mode=ro"  # never creates a file
    return sqlite3.connect(uri, uri=True, timeout=5, isolation_level=None)


# --8<-- [end:restore]

NO_SERVER = "Set SQLITE_PATH to a file to create, for example cookbook.db"


def main() -> None:
    path = os.environ.get("SQLITE_PATH") or sys.exit(NO_SERVER)
    copy = f"{path}.backup"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
        conn.execute("CREATE TABLE photo (id INTEGER PRIMARY KEY, data BLOB)")
        with conn:
            conn.executemany(
                "INSERT INTO photo (data) VALUES (zeroblob(?))", [(100_000,)] * 40
            )

        def bar(done: float) -> None:
            print(f"[{'#' * round(20 * done):20}] {done:4.0%}")

        print("saved:", backup(path, copy, bar, steps=4))
        with conn:
            conn.execute("DELETE FROM photo")
        print("restored:", restore(copy, path))
        print("photos:", conn.execute("SELECT count(*) FROM photo").fetchone()[0])
    Path(copy).unlink()


if __name__ == "__main__":
    main()
