"""Run recipes as a reader does: `uv run`, or `python`, and nothing of ours around it.

With `oldest`, uv installs the oldest versions that the recipe's header allows.
"""

import difflib
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from cookbook import ledger
from cookbook.catalog import Recipe
from cookbook.engines import engine
from cookbook.engines.base import new_name
from cookbook.errors import UnknownNameError
from cookbook.ledger import EngineUsed, Outcome, Record, TestResult
from cookbook.runner import environment
from cookbook.servers import Servers

Way = Literal["python", "uv", "oldest"]

_UV = [str(Path(sys.executable).with_name("uv")), "run", "--no-project", "--quiet"]
_COMMANDS: dict[Way, list[str]] = {
    "python": [sys.executable],
    "uv": _UV,
    "oldest": [*_UV, "--resolution=lowest-direct"],
}


def way(name: str) -> Way:
    """Raises UnknownNameError."""
    for known in _COMMANDS:
        if name == known:
            return known
    raise UnknownNameError(f"there is no way {name!r} (known: {', '.join(_COMMANDS)})")


_WITHIN = 600.0  # seconds; uv may have to build a package


def run_all(
    recipes: Sequence[Recipe], ways: Sequence[Way], servers: Servers
) -> Iterator[Record]:
    """Run each recipe in each of the ways; yield a record of all of them."""
    for recipe in recipes:
        missing = [need for need in recipe.needs if need not in servers.running]
        if missing:
            reason = servers.missing.get(missing[0], f"no {missing[0]}")
            yield _record(recipe, servers, [], [reason], "unavailable")
            continue
        tests, reasons = [], []
        for way in ways:
            reason = run(recipe, way, servers)
            outcome: Outcome = "failed" if reason else "passed"
            says = f"`{' '.join(map(_short, _COMMANDS[way]))} {recipe.id}.py`"
            tests.append(TestResult(id=way, says=says, outcome=outcome))
            reasons += [f"{says}: {reason}"] if reason else []
        status: ledger.Status = "failed" if reasons else "verified"
        yield _record(recipe, servers, tests, reasons, status)


def run(recipe: Recipe, way: Way, servers: Servers) -> str:
    """Run it in empty places; return what was wrong, or an empty text."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        variables = {name: os.environ[name] for name in os.environ if _is_for_uv(name)}
        for need in recipe.needs:
            server = servers.running[need]
            place = engine(need).create_place(server, new_name())
            stack.callback(engine(need).drop_place, server, place)
            variables |= engine(need).variables(place)
        try:
            done = subprocess.run(
                [*_COMMANDS[way], recipe.path, *recipe.arguments],
                cwd=folder,
                env=environment(variables),
                capture_output=True,
                text=True,
                timeout=_WITHIN,
            )
        except subprocess.TimeoutExpired:
            return f"it did not end within {_WITHIN:g} s"
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing"]
        return f"exit code {done.returncode}: {said[-1]}"
    expected = recipe.output.read_text("utf-8") if recipe.output.is_file() else ""
    lines = difflib.ndiff(expected.splitlines(), done.stdout.splitlines())
    return next((f"printed {line!r}" for line in lines if line[0] in "+-"), "")


def _is_for_uv(name: str) -> bool:
    """Where its cache is, and how it reaches a package registry."""
    return (
        name == "HOME" or name.startswith(("UV_", "XDG_")) or "_proxy" in name.lower()
    )


def _short(word: str) -> str:
    return Path(word).name


def _record(
    recipe: Recipe,
    servers: Servers,
    tests: Sequence[TestResult],
    reasons: Sequence[str],
    status: ledger.Status,
) -> Record:
    engines = []
    for need in recipe.needs:
        found = servers.running.get(need)
        engines.append(
            EngineUsed(
                engine=need,
                name=found.product if found else engine(need).title,
                version=found.version if found else "",
                provider=found.provider if found else None,
                stand_in_for=found.stand_in_for if found else None,
                identity=found.identity if found else ledger.UNAVAILABLE,
            )
        )
    return Record(
        recipe=recipe.id,
        status=status,
        reason="; ".join(reasons),
        engines=tuple(engines),
        drivers={r.name: str(r.specifier) for r in recipe.dependencies},
        python=platform.python_version(),
        started=datetime.now(UTC).replace(microsecond=0),
        seconds=0,
        tests=tuple(tests),
        fingerprint="",  # it is no proof of a page
    )
