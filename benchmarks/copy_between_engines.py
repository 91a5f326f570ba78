"""Rows copied in a second, in every direction between SQLite, PostgreSQL and MySQL.

They are of every common type. A copy is a process of its own, with its progress bar,
timed from before it connects until all is committed. Nothing may be refused, the memory
may not grow with the rows, and at the target the count has to be that of the rows that
were made; in the first run also the checksum.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import permutations
from sqlite3 import sqlite_version
from tempfile import TemporaryDirectory

from benchmarks import peak
from benchmarks.common import Progress, Way, chart, drivers, interleaved
from benchmarks.servers import place
from cookbook import places
from cookbook.pages.chart import Chart
from cookbook.paths import ROOT
from recipes.data_movement.copy_table_between_engines_read import checksum, read_rows
from tests.recipes.support.every_type import (
    FORMS,
    TYPES,
    create,
    engine_for,
    fill,
    many,
)

MORE = 16 * 2**20  # bytes that the many rows may take beyond the few


def run(quick: bool, progress: Progress) -> Chart:
    """Measure, with two databases of each engine: one to copy from, one to copy to."""
    few, size, runs = (500, 2000, 1) if quick else (20_000, 1_000_000, 3)
    peaks: list[int] = []
    with (
        TemporaryDirectory() as folder,
        place("durable_postgresql") as (postgresql, old_postgresql),
        places.place("durable_postgresql", postgresql) as new_postgresql,
        place("durable_mysql") as (mysql, old_mysql),
        places.place("durable_mysql", mysql) as new_mysql,
    ):
        ends = {
            "SQLite": (f"{folder}/old.db", f"{folder}/new.db"),
            postgresql.product: (old_postgresql, new_postgresql),
            mysql.product: (old_mysql, new_mysql),
        }
        progress(f"{size:,} rows are made")
        made = (dict(zip(TYPES, row, strict=True)) for row in many(size))
        expected = checksum(made, FORMS)
        for old, new in ends.values():
            for table, rows in (("few", few), ("thing", size)):
                create(engine_for(old), table)
                create(engine_for(new), table)
                fill(engine_for(old), many(rows), table)

        def timed(source: str, target: str) -> Callable[[], float]:
            addresses = ends[source][0], ends[target][1]
            engine = engine_for(addresses[1])
            proved: list[str] = []

            def measure() -> float:
                _, least = copied(*addresses, "few")
                seconds, most = copied(*addresses, "thing")
                with engine.connect() as conn:
                    count = conn.exec_driver_sql("SELECT count(*) FROM thing").scalar()
                if count != size or most - least > MORE:
                    raise RuntimeError(f"{count} rows, {most - least:,} bytes more")
                if (
                    not proved
                    and checksum(read_rows(engine, "thing"), FORMS) != expected
                ):
                    raise RuntimeError(f"{source} to {target} is not equal")
                proved.append(target)
                peaks.append(most)
                for table in ("few", "thing"):
                    with engine.begin() as conn:
                        conn.exec_driver_sql(f"DROP TABLE {table}")
                    create(engine, table)
                return size / seconds

            return measure

        ways = [
            Way(f"{source} to {target}", "recipe", timed(source, target))
            for source, target in permutations(ends, 2)
        ]
        bars = interleaved(ways, runs, progress)
    stand_in = " (a stand-in for MySQL)" if mysql.stand_in_for else ""
    versions = {
        "SQLite": sqlite_version,
        postgresql.product: postgresql.version,
        mysql.product + stand_in: mysql.version,
        **drivers("SQLAlchemy", "psycopg", "PyMySQL"),
    }
    title = (
        f"Rows copied in a second: {size:,} rows of every type, equal by count and"
        f" checksum, in at most {max(peaks) / 2**20:.0f} MiB of memory."
    )
    return chart(title, "rows/s", "higher", runs, versions, {"directions": bars})


def copied(source: str, target: str, table: str) -> tuple[float, int]:
    """Copy in a process of its own; return the seconds, and its peak in bytes."""
    command = [sys.executable, "-m", "benchmarks.copier", table]
    done = subprocess.run(
        [sys.executable, peak.__file__, *command],
        cwd=ROOT,
        env={**os.environ, "SOURCE": source, "TARGET": target},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # the bar
        check=True,
    )
    seconds, most = done.stdout.split()
    return float(seconds), int(most)
