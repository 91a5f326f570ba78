"""Run recipes as a reader does: `uv run`, or `python`, and nothing of ours around it.

With `oldest`, uv installs the oldest versions that the recipe's header allows.
"""

import difflib
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from cookbook import environments, ledger, places
from cookbook.catalog import Recipe
from cookbook.engines import serving
from cookbook.engines.base import Server
from cookbook.errors import UnavailableError, UnknownNameError
from cookbook.ledger import EngineUsed, Outcome, Record, TestResult
from cookbook.runner import environment
from cookbook.servers import Servers

Way = Literal["python", "uv", "oldest"]

_UV = [str(Path(sys.executable).with_name("uv")), "run", "--no-project", "--quiet"]
_COMMANDS: dict[Way, list[str]] = {
    "python": ["python"],
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
        try:
            given = places.own_servers(recipe.needs, servers)
            environments.python(recipe)
        except UnavailableError as error:
            yield _record(recipe, servers, [], [str(error)], "unavailable")
            continue
        tests, reasons = [], []
        for way in ways:
            reason = run(recipe, way, given)
            outcome: Outcome = "failed" if reason else "passed"
            says = f"`{' '.join(map(_short, _COMMANDS[way]))} {recipe.id}.py`"
            tests.append(TestResult(id=way, says=says, outcome=outcome))
            reasons += [f"{says}: {reason}"] if reason else []
        status: ledger.Status = "failed" if reasons else "verified"
        yield _record(recipe, servers, tests, reasons, status)


def run(recipe: Recipe, way: Way, servers: Iterable[tuple[str, Server]]) -> str:
    """Run it in empty places; return what was wrong, or an empty text."""
    for_uv = {name: os.environ[name] for name in os.environ if _is_for_uv(name)}
    with (
        tempfile.TemporaryDirectory() as folder,
        places.environment(servers) as addresses,
    ):
        try:
            done = subprocess.run(
                [*_command(recipe, way), recipe.path, *recipe.arguments],
                cwd=folder,
                env=environment(for_uv | addresses),
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


def _command(recipe: Recipe, way: Way) -> list[str]:
    return [str(environments.python(recipe))] if way == "python" else _COMMANDS[way]


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
    names = [serving(need)[0].name for need in recipe.needs]
    return Record(
        recipe=recipe.id,
        status=status,
        reason="; ".join(reasons),
        engines=tuple(EngineUsed.of(it, servers.running.get(it)) for it in names),
        drivers={r.name: str(r.specifier) for r in recipe.dependencies},
        python=platform.python_version(),
        started=datetime.now(UTC).replace(microsecond=0),
        seconds=0,
        tests=tuple(tests),
        fingerprint="",  # it is no proof of a page
    )
