"""What the benchmarks share: how often, on what, and the file that pages draw."""

import os
import platform
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from cookbook.pages.chart import Bar, Chart

Kind = Literal["recipe", "tool", "wrong"]
Progress = Callable[[str], None]  # is told what is measured now


@dataclass(frozen=True)
class Way:
    """One way to do the task: measure does it once and returns the figure."""

    label: str
    kind: Kind
    measure: Callable[[], float]


def interleaved(ways: Iterable[Way], runs: int, progress: Progress) -> list[Bar]:
    """Measure all ways in turn, so that a slow minute of the machine meets them all."""
    ways = list(ways)
    figures: dict[str, list[float]] = {way.label: [] for way in ways}
    for number in range(1, runs + 1):
        for way in ways:
            progress(f"{way.label} ({number} of {runs})")
            figures[way.label].append(way.measure())
    return [bar(way.label, way.kind, figures[way.label]) for way in ways]


def bar(label: str, kind: Kind, figures: list[float]) -> Bar:
    """The median, with the lowest and the highest."""
    return Bar(
        label=label,
        value=statistics.median(figures),
        low=min(figures),
        high=max(figures),
        kind=kind,
    )


def chart(
    title: str,
    unit: str,
    better: Literal["higher", "lower"],
    runs: int,
    versions: Mapping[str, str],
    groups: Mapping[str, list[Bar]],
) -> Chart:
    """The results, with the machine and the time of now."""
    return Chart(
        title=title,
        unit=unit,
        better=better,
        machine=machine(),
        measured=datetime.now(UTC).replace(microsecond=0),
        runs=runs,
        versions={"Python": platform.python_version(), **versions},
        groups={name: bars for name, bars in groups.items() if bars},
    )


def machine() -> str:
    """Its processor, cores and system: "AMD EPYC, 2 cores, Debian GNU/Linux 12"."""
    processor, system = platform.processor() or platform.machine(), platform.platform()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text().splitlines()
        names = [line.partition(": ")[2] for line in lines if "model name" in line]
        processor = next(iter(names), processor)
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    return f"{processor}, {os.cpu_count()} cores, {system}"


def drivers(*packages: str) -> dict[str, str]:
    """The installed versions of these packages."""
    return {package: version(package) for package in packages}
