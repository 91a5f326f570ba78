"""Verify recipes: run them and their tests, and tell what the ledger then says."""

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cookbook import environments, ledger
from cookbook.catalog import Recipe, relative
from cookbook.engines import serving
from cookbook.engines.base import Provider
from cookbook.ledger import UNAVAILABLE, Ledger, Record
from cookbook.paths import ROOT, TESTS
from cookbook.servers import expected_identity

_FEW = 3  # recipes; to start workers for so few takes longer than to run them

SIGNS = {"verified": "[green]✓", "failed": "[red]✗", "unavailable": "[yellow]–"}


def changed(recipes: Iterable[Recipe], forced: Provider | None) -> list[Recipe]:
    """Those that have no valid record on the engines that would serve them now.

    A failure is tried again.
    """
    known = ledger.read()
    identities = _Identities(forced)
    return [recipe for recipe in recipes if not _is_proved(recipe, known, identities)]


class _Identities(dict[str, str]):
    """The identity of the server that would serve each engine, asked once."""

    def __init__(self, forced: Provider | None) -> None:
        self._forced = forced

    def __missing__(self, fixture: str) -> str:
        engine = serving(fixture)[0]
        self[fixture] = expected_identity(engine, self._forced) or UNAVAILABLE
        return self[fixture]


def _is_proved(recipe: Recipe, known: Ledger, identities: _Identities) -> bool:
    wanted = ledger.fingerprint(recipe, [identities[need] for need in recipe.needs])
    return any(
        record.fingerprint == wanted and record.status != "failed"
        for record in known.of(recipe.id)
    )


def run_tests(
    recipes: Sequence[Recipe], forced: Provider | None, require: str | None
) -> int:
    """Run the recipes and their tests in parallel; return pytest's exit code.

    One run for each environment; the main one tells of those that are not made.
    """
    groups: dict[str | Path, list[Recipe]] = {}
    for recipe in recipes:
        own = environments.of(recipe)
        python = own.python if own and own.is_fetched else sys.executable
        groups.setdefault(python, []).append(recipe)
    codes = [_run(python, some, forced, require) for python, some in groups.items()]
    return max(codes, default=0)


def _run(
    python: str | Path,
    recipes: Sequence[Recipe],
    forced: Provider | None,
    require: str | None,
) -> int:
    files = dict.fromkeys(
        relative(recipe.test)
        for recipe in recipes
        if recipe.test and (recipe.environment is None or python != sys.executable)
    )
    # In order: pytest-randomly imports numpy into every worker, where it is installed.
    command = [str(python), "-m", "pytest", "-q", "-p", "no:randomly"]
    command += ["--numprocesses=auto"] if len(recipes) > _FEW else []
    command += [name for name in files if name]
    command += [f"{relative(TESTS)}/test_output.py"]
    command += [f"--recipe={recipe.id}" for recipe in recipes]
    command += [f"--provider={forced}"] if forced else []
    command += [f"--require={require}"] if require else []
    return subprocess.run(command, cwd=ROOT, env=os.environ).returncode


def report(console: Console, recipes: Sequence[Recipe]) -> bool:
    """Print what the ledger says of the recipes; True if none failed."""
    known = ledger.read()
    table = Table("Chapter", "Engine", "Verified", "Failed", "Not run", box=None)
    counts: dict[tuple[str, str], dict[str, int]] = {}
    bad: list[str] = []
    not_run: dict[str, list[str]] = {}
    for recipe in recipes:
        records = [record for record in known.of(recipe.id) if ledger.is_valid(record)]
        if not records:
            bad.append(
                f"{recipe.id}: no record; it was cut short, or changed meanwhile"
            )
        for record in records:
            key = (recipe.chapter, where(record))
            row = counts.setdefault(key, dict.fromkeys(SIGNS, 0))
            row[record.status] += 1
            if record.status == "failed":
                bad.append(f"{recipe.id}: {record.reason}")
            elif record.status == "unavailable":
                not_run.setdefault(record.reason, []).append(recipe.id)
    for (chapter, engine), row in sorted(counts.items()):
        table.add_row(chapter, engine, *(str(count or "") for count in row.values()))
    console.print(table)
    done, _, skipped = (sum(row[s] for row in counts.values()) for s in SIGNS)
    console.print(f"[bold]{done} verified, {len(bad)} failed, {skipped} not run")
    for reason, names in not_run.items():
        console.print(f"[yellow]Not run:[/] {', '.join(names)}\n  {reason}")
    for line in bad:
        console.print(f"[red]Failed:[/] {line}", highlight=False)
    return not bad


def where(record: Record) -> str:
    """The engines of a record, as they answered: "MariaDB 10.11 (for MySQL)"."""
    return " and ".join(
        f"{used.name} {used.version}".strip()
        + (f" (for {used.stand_in_for})" if used.stand_in_for else "")
        for used in record.engines
    )
