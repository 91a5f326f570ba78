"""One transaction, a new file without a journal, and the shell's import."""

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.bulk_load import Load, Target, write_csv
from cookbook.engines.base import program
from recipes.sqlite import bulk_insert

Rows = Sequence[Any]


@contextmanager
def target(size: int, folder: str) -> Iterator[Target]:
    """A file in folder, and the ways to load into it."""
    rows = list(bulk_insert.readings(1, size))
    csv = write_csv(Path(folder, "reading.csv"), ("sensor", "second", "value"), rows)
    path = Path(folder, "reading.db")

    def empty() -> None:
        path.unlink(missing_ok=True)

    def count() -> int:
        with closing(sqlite3.connect(path)) as conn:
            found = conn.execute("SELECT count(*) FROM reading").fetchone()
        return int(found[0])

    versions = {"SQLite": sqlite3.sqlite_version}
    found = loads(path)
    shell = program(Path(shutil.which("sqlite3") or "sqlite3"))
    if shell:
        versions["sqlite3 shell"] = shell.version.split()[0]
        found.append(
            Load("sqlite3 .import", "tool", lambda _: load(shell.path, path, csv))
        )
    yield Target(rows, found, empty, count, versions)


def loads(path: Path) -> list[Load]:
    """The recipes, and the loop."""

    def insert(rows: Rows) -> None:
        with closing(new_file(path)) as conn:
            bulk_insert.insert_rows(conn, rows)

    def commit_each(rows: Rows) -> None:
        with closing(new_file(path)) as conn:
            for row in rows:
                conn.execute("INSERT INTO reading VALUES (?, ?, ?)", row)
                conn.commit()

    return [
        Load("insert_rows", "recipe", insert),
        Load("build", "recipe", lambda rows: bulk_insert.build(path, rows)),
        Load("INSERT and commit for each row", "wrong", commit_each),
    ]


def new_file(path: Path) -> sqlite3.Connection:
    conn = sqlite3.connect(path)
    conn.execute(bulk_insert.SCHEMA)
    return conn


def load(shell: Path, path: Path, csv: Path) -> None:
    subprocess.run(
        [shell, path, bulk_insert.SCHEMA, f".import --csv --skip 1 {csv} reading"],
        check=True,
    )
