"""Rows loaded in a second: the recipes, the engine's own tool, a commit for each row.

A load is timed from before it connects, or before the tool starts, until its rows are
committed. Rows from Python are in memory before, and files are written before.
"""

import csv
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from benchmarks.common import Kind, Progress, Way, chart, interleaved
from cookbook.errors import UnavailableError
from cookbook.pages.chart import Bar, Chart


@dataclass(frozen=True)
class Load:
    """One way to load: all rows, or the few with which a slow way has enough."""

    label: str
    kind: Kind
    load: Callable[[Sequence[Any]], object]  # is given the rows; files hold the same


@dataclass(frozen=True)
class Target:
    """What is loaded into: the loads, and how to empty the table and count in it."""

    rows: Sequence[Any]
    loads: Sequence[Load]
    empty: Callable[[], object]
    count: Callable[[], int]
    versions: dict[str, str]

    def ways(self, few: int) -> Iterator[Way]:
        for load in self.loads:
            rows = self.rows[:few] if load.kind == "wrong" else self.rows
            yield Way(load.label, load.kind, self._rate(load, rows))

    def _rate(self, load: Load, rows: Sequence[Any]) -> Callable[[], float]:
        def measure() -> float:
            self.empty()
            started = perf_counter()
            load.load(rows)
            seconds = perf_counter() - started
            if (found := self.count()) != len(rows):
                raise RuntimeError(f"{load.label}: {found} rows of {len(rows)}")
            return len(rows) / seconds

        return measure


def run(quick: bool, progress: Progress) -> Chart:
    """Measure the engines that are here."""
    from benchmarks.bulk_load import mysql, postgresql, sqlite

    targets: dict[str, Callable[[int, str], AbstractContextManager[Target]]] = {
        "postgresql": partial(postgresql.target, postgresql.READINGS_WITH_KEY),
        "postgresql_no_key": partial(postgresql.target, postgresql.READINGS),
        "postgresql_numbers": partial(postgresql.target, postgresql.NUMBERS),
        "mysql": mysql.target,
        "sqlite": sqlite.target,
    }
    size, few, runs = (1000, 10, 1) if quick else (1_000_000, 1000, 5)
    groups: dict[str, list[Bar]] = {}
    versions: dict[str, str] = {}
    for name, open_target in targets.items():
        try:
            with (
                TemporaryDirectory() as folder,
                open_target(size, folder) as target,
            ):
                versions |= target.versions
                with frozen():
                    groups[name] = interleaved(target.ways(few), runs, progress)
        except UnavailableError as error:
            progress(str(error))
    title = (
        f"Rows loaded in a second: {size:,} rows, and {few:,} with a commit for each."
    )
    return chart(title, "rows/s", "higher", runs, versions, groups)


@contextmanager
def frozen() -> Iterator[None]:
    """Keep the collector from the rows in memory, which are not what is measured."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    """Write the rows as a CSV file and return its path."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path
