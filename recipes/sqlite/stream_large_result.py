# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Read a result that is larger than memory.

Row by row from one moment, or in batches that let go of the file in between. Use the
first for an export, the second for work on each row that takes long.
"""

import os
import sqlite3
import sys
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

SCHEMA = "CREATE TABLE reading (id INTEGER PRIMARY KEY, sensor TEXT, value REAL)"
Reading = tuple[int, str, float]  # id, sensor, value


# --8<-- [start:stream]
def stream_rows(path: str | Path) -> Generator[Reading, None, None]:
    """Give all rows in the order of id, one by one, as they were when it began.

    Close it, or read to its end: until then it holds its view of the file.
    """
    with closing(_open(path)) as conn:
        yield from conn.execute("SELECT id, sensor, value FROM reading ORDER BY id")


# --8<-- [end:stream]


# --8<-- [start:batches]
def stream_batches(
    path: str | Path, size: int = 1000
) -> Generator[list[Reading], None, None]:
    """Give all rows in batches of up to size; between them the file is free.

    Rows that others add or change meanwhile may be seen. Raises ValueError for size 0.
    """
    if size < 1:
        raise ValueError(f"size is {size}")
    with closing(_open(path)) as conn:
        last = float("-inf")  # below every id
        while batch := conn.execute(
            "SELECT id, sensor, value FROM reading WHERE id > ? ORDER BY id LIMIT ?",
            (last, size),
        ).fetchall():
            yield batch
            last = batch[-1][0]


# --8<-- [end:batches]


def _open(path: str | Path) -> sqlite3.Connection:
    uri = f"{Path(path).absolute().as_uri()}?mode=ro"  # never creates a file
    return sqlite3.connect(uri, uri=True, timeout=5)


NO_SERVER = "Set SQLITE_PATH to a file to create, for example cookbook.db"


def main() -> None:
    path = os.environ.get("SQLITE_PATH") or sys.exit(NO_SERVER)
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute(SCHEMA)
        conn.executemany(
            "INSERT INTO reading VALUES (?, ?, ?)",
            ((n, f"sensor {n % 10}", n / 2) for n in range(20_000)),
        )
    with closing(stream_rows(path)) as rows:
        print("sum of the stream:", sum(value for _, _, value in rows))
    with closing(stream_batches(path, 6_000)) as batches:
        print("batches:", [len(batch) for batch in batches])


if __name__ == "__main__":
    main()
