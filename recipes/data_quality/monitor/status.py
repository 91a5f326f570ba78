"""How a check, and a run of all checks, ended."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum


class Status(StrEnum):
    PASS = "PASS"  # noqa: S105 - it is no password
    WARN = "WARN"  # more than warn_above
    FAIL = "FAIL"  # more than fail_above, or what no limit allows
    ERROR = "ERROR"  # it could not run: nobody knows


# What cron, systemd or a pipeline is told.
GOOD, BAD_DATA, NOT_CHECKED = 0, 1, 2


@dataclass(frozen=True)
class Found:
    """What a check saw."""

    value: Decimal  # what the limits speak of: rows, hours, or an answer
    rows: int  # how many rows there are
    message: str
    fault: str = ""  # what no limit allows
    examples: tuple[str, ...] = ()  # primary keys of a few bad rows
    top: tuple[tuple[str, int], ...] = ()  # the most frequent values


@dataclass(frozen=True)
class Result:
    """How one check ended."""

    name: str
    kind: str
    table: str
    status: Status
    message: str
    seconds: float
    found: Found | None = None  # None where it could not run


@dataclass(frozen=True)
class Run:
    """How all checks ended."""

    name: str
    database: str  # its address, without the password
    checked_at: datetime  # UTC
    results: Sequence[Result]

    @property
    def counts(self) -> dict[Status, int]:
        found = Counter(result.status for result in self.results)
        return {status: found[status] for status in Status}

    @property
    def worst_first(self) -> list[Result]:
        order = list(Status)
        return sorted(self.results, key=lambda it: -order.index(it.status))

    @property
    def worst(self) -> Status:
        return self.worst_first[0].status

    @property
    def exit_code(self) -> int:
        if self.worst is Status.ERROR:
            return NOT_CHECKED
        return BAD_DATA if self.worst is Status.FAIL else GOOD

    @property
    def summary(self) -> str:
        return ", ".join(f"{count} {status}" for status, count in self.counts.items())
