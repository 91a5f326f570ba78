"""How each recipe stands: what the ledger says, as far as it still counts."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from cookbook import ledger
from cookbook.catalog import Recipe
from cookbook.engines import ENGINES, serving
from cookbook.ledger import Ledger, Record

State = Literal["verified", "not_run", "changed", "failed"]  # from good to bad
STATES: tuple[State, ...] = ("verified", "not_run", "changed", "failed")

CHANGED = "The recipe, its tests, a driver or the machinery has changed since that run."
NEVER = "There is no record of a run."


@dataclass(frozen=True)
class Standing:
    """One recipe on one set of engines."""

    recipe: Recipe
    engines: tuple[str, ...]  # their names here
    state: State
    reason: str = ""  # why it is not verified
    record: Record | None = None  # the newest, also where it no longer counts

    @property
    def ran(self) -> bool:
        """Does its record speak of the files as they are?"""
        return self.state in ("verified", "failed")

    @property
    def ran_in_part(self) -> bool:
        """The engine was not there, but tests that need none ran, on these files?"""
        record = self.record
        return (
            self.state == "not_run"
            and record is not None
            and any(test.outcome == "passed" for test in record.tests)
            and _is_valid(record)
        )


def standings(recipe: Recipe, records: Ledger) -> list[Standing]:
    """How the recipe stands on each set of engines it is for."""
    found = {record.where: _judge(recipe, record) for record in records.of(recipe.id)}
    own, *others = _sets_of_engines(recipe)
    is_any = any(ENGINES[need].is_any for need in recipe.needs)
    result = [found.pop(own, Standing(recipe, own, "not_run", NEVER))]
    for where in others:
        if where in found:
            result.append(found.pop(where))
        elif not is_any and result[0].ran and not _served_by(where, result[0].record):
            result.append(Standing(recipe, where, "not_run", NEVER))
    return result + [standing for standing in found.values() if standing.ran]


def overall(standings: Iterable[Standing]) -> State:
    """One word for all: a fault counts; an engine that was not there does not."""
    states = {standing.state for standing in standings}
    for state in ("failed", "changed", "verified"):
        if state in states:
            return state
    return "not_run"


def worst(standings: Iterable[Standing]) -> State:
    return max((standing.state for standing in standings), key=STATES.index)


def _judge(recipe: Recipe, record: Record) -> Standing:
    if record.status == "unavailable":
        state: State = "not_run"
        reason = record.reason
    elif not _is_valid(record):
        state, reason = "changed", CHANGED
    else:
        state, reason = record.status, record.reason
    return Standing(recipe, record.where, state, reason, record)


def _sets_of_engines(recipe: Recipe) -> list[tuple[str, ...]]:
    """The engines that it runs on: its own first, then those that also serve."""
    options = [[engine.name for engine in serving(need)] for need in recipe.needs]
    longest = max(map(len, options), default=1)
    return [tuple(names[i % len(names)] for names in options) for i in range(longest)]


def _served_by(where: tuple[str, ...], record: Record | None) -> bool:
    """Did the record come from the very products of these engines, as stand-ins?"""
    return record is not None and all(
        name == used.engine or ENGINES[name].title == used.name
        for name, used in zip(where, record.engines, strict=True)
    )


def _is_valid(record: Record) -> bool:
    files = ledger.inputs(Recipe(record.recipe))
    stats = [(str(path), path.stat().st_mtime_ns) for path in files]
    return _is_valid_cached(record.model_dump_json(), tuple(stats))


@functools.lru_cache(maxsize=4096)
def _is_valid_cached(record: str, stats: tuple[tuple[str, int], ...]) -> bool:
    return ledger.is_valid(Record.model_validate_json(record))
