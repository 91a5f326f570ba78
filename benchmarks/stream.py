"""Peak memory of a process that reads a result: the recipes, and fetchall."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import peak
from benchmarks.common import Kind, Progress, Way, chart, drivers, interleaved
from benchmarks.servers import place
from cookbook.errors import UnavailableError
from cookbook.pages.chart import Bar, Chart
from cookbook.paths import ROOT
from recipes.mysql import stream_large_result as mysql_recipe
from recipes.sqlite import stream_large_result as sqlite_recipe


@dataclass(frozen=True)
class Sizes:
    """How many rows are read."""

    many: int
    few: int
    fits: int  # into memory, by fetchall


@dataclass(frozen=True)
class Source:
    """Where the rows are: an address for each size."""

    address: Callable[[int], str]
    versions: Mapping[str, str]


@contextmanager
def postgresql(_: Sizes) -> Iterator[Source]:
    with place("postgresql") as (server, url):
        versions = {server.product: server.version, **drivers("psycopg")}
        yield Source(lambda rows: url, versions)


@contextmanager
def mysql(_: Sizes) -> Iterator[Source]:
    with place("mysql") as (server, url):
        with mysql_recipe.connect(url) as conn, conn.cursor() as cursor:
            cursor.execute("CREATE TABLE digit (n INT PRIMARY KEY)")
            cursor.executemany(
                "INSERT INTO digit VALUES (%s)", [(n,) for n in range(10)]
            )
            conn.commit()
        stand_in = " (a stand-in for MySQL)" if server.stand_in_for else ""
        versions = {server.product + stand_in: server.version}
        yield Source(
            lambda rows: url, versions | drivers("PyMySQL", "mysql-connector-python")
        )


@contextmanager
def sqlite(sizes: Sizes) -> Iterator[Source]:
    with TemporaryDirectory() as folder:
        for rows in {sizes.many, sizes.few, sizes.fits}:
            with closing(sqlite3.connect(Path(folder, str(rows)))) as conn, conn:
                conn.execute(sqlite_recipe.SCHEMA)
                conn.executemany(
                    "INSERT INTO reading VALUES (?, ?, ?)",
                    ((n, f"sensor {n % 10}", n / 2) for n in range(rows)),
                )
        yield Source(
            lambda rows: str(Path(folder, str(rows))),
            {"SQLite": sqlite3.sqlite_version},
        )


# The recipe's label and reader, then those of fetchall.
SOURCES = {
    "postgresql": (
        postgresql,
        {"stream_rows, psycopg": "postgresql_stream"},
        {"fetchall, psycopg": "postgresql_fetchall"},
    ),
    "mysql": (
        mysql,
        {
            "stream, PyMySQL": "mysql_stream",
            "stream, mysql-connector": "mysql_stream_connector",
        },
        {
            "fetchall, PyMySQL": "mysql_fetchall",
            "fetchall, mysql-connector": "mysql_fetchall_connector",
        },
    ),
    "sqlite": (
        sqlite,
        {"stream_rows": "sqlite_stream", "stream_batches": "sqlite_batches"},
        {"fetchall": "sqlite_fetchall"},
    ),
}


def run(quick: bool, progress: Progress) -> Chart:
    """Measure the engines that are here."""
    sizes = Sizes(1000, 10, 100) if quick else Sizes(10_000_000, 10_000, 1_000_000)
    runs = 1 if quick else 3
    groups: dict[str, list[Bar]] = {}
    versions: dict[str, str] = {}
    for name, (open_source, recipes, wrongs) in SOURCES.items():
        progress(f"{name} starts")
        try:
            with open_source(sizes) as source:
                versions |= source.versions
                ways = [
                    *_ways(source, "recipe", recipes, sizes.few, sizes.many),
                    *_ways(source, "wrong", wrongs, sizes.fits),
                ]
                groups[name] = interleaved(ways, runs, progress)
        except UnavailableError as error:
            progress(str(error))
    title = "Peak memory of the whole process that reads a result."
    return chart(title, "MiB", "lower", runs, versions, groups)


def _ways(
    source: Source, kind: Kind, readers: Mapping[str, str], *sizes: int
) -> Iterator[Way]:
    for label, reader in readers.items():
        for rows in sizes:
            yield Way(f"{label}, {rows:,} rows", kind, _peak(source, reader, rows))


def _peak(source: Source, reader: str, rows: int) -> Callable[[], float]:
    command = [sys.executable, "-m", "benchmarks.readers", reader, str(rows)]

    def measure() -> float:
        done = subprocess.run(
            [sys.executable, peak.__file__, *command],
            cwd=ROOT,
            env={**os.environ, "ADDRESS": source.address(rows)},
            stdout=subprocess.PIPE,
            check=True,
        )
        return int(done.stdout) / 2**20

    return measure
