"""Rows copied in a second, PostgreSQL to PostgreSQL: the recipe, psql, a loop.

A copy is timed from before it connects, or before the tools start, until its rows are
committed.
"""

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import psycopg

from benchmarks.bulk_load.postgresql import client
from benchmarks.common import Progress, Way, chart, drivers, interleaved
from benchmarks.servers import place
from cookbook.pages.chart import Bar, Chart
from recipes.data_movement import copy_table_between_engines_postgresql as recipe

SCHEMA = (
    "CREATE TABLE reading (id bigint PRIMARY KEY, sensor text, taken_at timestamptz,"
    " value numeric(12, 2), note text)"
)
ROWS = (
    "INSERT INTO reading SELECT n, 'sensor ' || mod(n, 3),"
    " '2026-01-01'::timestamptz + n * interval '1 second', n / 100.0, NULL"
    " FROM generate_series(1, %s) AS n"
)
Copy = Callable[[], object]


def run(quick: bool, progress: Progress) -> Chart:
    """Measure, on one server with two schemas."""
    size, few, runs = (1000, 100, 1) if quick else (1_000_000, 100_000, 5)
    with place("durable_postgresql") as (server, url):
        old, new = (f"{url}?options=-csearch_path%3D{name}" for name in ("old", "new"))
        with psycopg.connect(url, autocommit=True) as conn:
            for schema in ("old", "new", "few"):
                conn.execute(f"CREATE SCHEMA {schema}")
                conn.execute(SCHEMA.replace("reading", f"{schema}.reading"))
            conn.execute(ROWS.replace("reading", "old.reading"), (size,))
            conn.execute(ROWS.replace("reading", "few.reading"), (few,))
            conn.execute("VACUUM ANALYZE old.reading")

            def timed(copy: Copy, rows: int) -> Callable[[], float]:
                def measure() -> float:
                    conn.execute("TRUNCATE new.reading")
                    conn.execute("CHECKPOINT")  # now, and not while a copy is timed
                    started = perf_counter()
                    copy()
                    seconds = perf_counter() - started
                    found = conn.execute("SELECT count(*) FROM new.reading").fetchone()
                    if found != (rows,):
                        raise RuntimeError(f"{found} rows of {rows}")
                    return rows / seconds

                return measure

            ways = [
                Way(
                    "copy_table, psycopg", "recipe", timed(lambda: pipe(old, new), size)
                ),
                Way(
                    "SELECT and INSERT, psycopg",
                    "wrong",
                    timed(lambda: loop(old.replace("3Dold", "3Dfew"), new), few),
                ),
            ]
            if psql := client():
                tool = timed(lambda: with_psql(psql, old, new), size)
                ways.append(Way("psql | psql", "tool", tool))
            bars: list[Bar] = interleaved(ways, runs, progress)
        versions = {server.product: server.version, **drivers("psycopg")}
    title = f"Rows copied in a second: {size:,} rows, and {few:,} one by one."
    return chart(title, "rows/s", "higher", runs, versions, {"postgresql": bars})


def pipe(old: str, new: str) -> None:
    with psycopg.connect(old) as source, psycopg.connect(new) as target:
        recipe.copy_table(source, target, "reading", "id")


def loop(old: str, new: str) -> None:
    with psycopg.connect(old) as source, psycopg.connect(new) as target:
        for row in source.execute("SELECT * FROM reading"):
            try:
                target.execute("INSERT INTO reading VALUES (%s, %s, %s, %s, %s)", row)
            except Exception as error:  # noqa: BLE001
                print(f"skipped {row}: {error}")
        target.commit()


def with_psql(psql: Path, old: str, new: str) -> None:
    options: list[Any] = [psql, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
    out = shlex.join(map(str, [*options, "-c", "COPY reading TO STDOUT", old]))
    into = shlex.join(map(str, [*options, "-c", "COPY reading FROM STDIN", new]))
    subprocess.run(f"{out} | {into}", shell=True, check=True)  # noqa: S602
