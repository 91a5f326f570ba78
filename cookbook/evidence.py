"""What pytest reports of the tests, made into the records of the ledger."""

import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from cookbook.catalog import Recipe
from cookbook.ledger import (
    EngineUsed,
    Outcome,
    Record,
    TestResult,
    drivers,
    fingerprint,
    inputs,
)
from cookbook.servers import Servers


@dataclass
class _Test:
    """A test, as its reports tell."""

    says: str
    is_run: bool
    totals: dict[str, int]  # recipe -> how many tests it has in this session
    engines: dict[str, str]  # fixture -> engine
    outcome: Outcome = "passed"
    reason: str = ""
    started: float = 0
    seconds: float = 0
    called: bool = False


@dataclass
class Evidence:
    """All reports of a session."""

    started: float = field(default_factory=lambda: datetime.now(UTC).timestamp())
    _tests: dict[str, _Test] = field(default_factory=dict)

    def add(self, report: pytest.TestReport) -> None:
        told: dict[str, Any] = dict(report.user_properties)
        if "totals" not in told:
            return
        test = self._tests.setdefault(
            report.nodeid,
            _Test(
                str(told["says"]),
                bool(told["is_run"]),
                dict(told["totals"]),
                {},
                started=report.start,
            ),
        )
        used: list[Any] = [v for name, v in report.user_properties if name == "engine"]
        test.engines.update(dict(used))
        test.seconds += report.duration
        test.called |= report.when == "call" and not report.skipped
        if report.failed:
            test.outcome, test.reason = "failed", _last_line(report)
        elif report.skipped:
            test.outcome, test.reason = "skipped", _skip_reason(report)

    def engines_that_ran(self, servers: Servers) -> set[str]:
        """The engines on which at least one test ran."""
        return {
            name
            for test in self._tests.values()
            if test.called
            for name in test.engines.values()
            if name in servers.running
        }

    def records(self, servers: Servers) -> list[Record]:
        """A record for each recipe of which every test has ended."""
        by_recipe: dict[str, dict[str, _Test]] = {}
        for node, test in self._tests.items():
            for name in test.totals:
                by_recipe.setdefault(name, {})[node] = test
        records = []
        for name, tests in sorted(by_recipe.items()):
            recipe = Recipe(name)
            complete = all(test.totals[name] == len(tests) for test in tests.values())
            if complete and not self._has_changed(recipe):
                runs = [test for test in tests.values() if test.is_run]
                records += [self._record(recipe, run, tests, servers) for run in runs]
        return records

    def _has_changed(self, recipe: Recipe) -> bool:
        """A file changed during the run: nobody knows which version was tested."""
        return any(path.stat().st_mtime > self.started for path in inputs(recipe))

    def _record(
        self, recipe: Recipe, run: _Test, tests: dict[str, _Test], servers: Servers
    ) -> Record:
        here = {
            node: test
            for node, test in tests.items()
            if (test is run or not test.is_run) and _agree(test.engines, run.engines)
        }
        outcomes = {test.outcome for test in here.values()}
        if "failed" in outcomes:
            status, bad = "failed", "failed"
        elif "skipped" in outcomes:
            status, bad = "unavailable", "skipped"
        else:
            status, bad = "verified", ""
        reasons = [
            test.reason if bad == "skipped" else f"{_name(node)}: {test.reason}"
            for node, test in sorted(here.items())
            if test.outcome == bad
        ]
        engines = tuple(
            EngineUsed.of(name, servers.running.get(name))
            for name in run.engines.values()
        )
        started = min(test.started for test in here.values())
        return Record(
            recipe=recipe.id,
            status=status,  # type: ignore[arg-type]
            reason=reasons[0] if reasons else "",
            engines=engines,
            drivers=drivers(recipe),
            python=platform.python_version(),
            started=datetime.fromtimestamp(started, UTC).replace(microsecond=0),
            seconds=round(sum(test.seconds for test in here.values()), 3),
            tests=tuple(
                TestResult(id=node, says=test.says, outcome=test.outcome)
                for node, test in sorted(here.items())
            ),
            fingerprint=fingerprint(recipe, [used.identity for used in engines]),
        )


def _agree(one: dict[str, str], other: dict[str, str]) -> bool:
    return all(other.get(fixture, name) == name for fixture, name in one.items())


def _name(node: str) -> str:
    return node.rpartition("::")[2]


def _last_line(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else report.longreprtext
    lines: Iterable[str] = (line.strip() for line in text.splitlines())
    return next(filter(None, lines), "failed")[:300]


def _skip_reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    return "skipped"
