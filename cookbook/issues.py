"""One issue for each recipe that is broken in the nightly runs; closed when it is not.

The issue is found by a marker in its text, so that its title may be edited. Nothing is
said twice: an issue whose text would stay the same is left alone.
"""

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cookbook.errors import UnavailableError
from cookbook.fetch import tool
from cookbook.ledger import Ledger, Record
from cookbook.verify import where

LABEL = "nightly"
_MARKER = "<!-- nightly: {} -->"


@dataclass(frozen=True)
class Issue:
    """An issue as `gh` tells it."""

    number: int
    state: Literal["OPEN", "CLOSED"]
    body: str


@dataclass(frozen=True)
class Action:
    """What to do with the issue of one recipe."""

    kind: Literal["open", "update", "reopen", "close"]
    recipe: str
    number: int | None  # None: a new one
    body: str


def plan(legs: Mapping[str, Ledger], issues: Sequence[Issue], run: str) -> list[Action]:
    """What to do, from the ledgers of the runs (by name) and the issues of before.

    run: the address of this run. A recipe that no leg ran, or that could not run, is
    left as it is.
    """
    known = _by_recipe(issues)
    actions = []
    for recipe in sorted({r.recipe for one in legs.values() for r in one.records}):
        failed = [
            (leg, record)
            for leg, one in sorted(legs.items())
            for record in one.of(recipe)
            if record.status == "failed"
        ]
        ran = [r for one in legs.values() for r in one.of(recipe) if _ran(r)]
        issue = known.get(recipe)
        if failed:
            body = _body(recipe, failed, run)
            if issue is None:
                actions.append(Action("open", recipe, None, body))
            elif issue.state == "CLOSED":
                actions.append(Action("reopen", recipe, issue.number, body))
            elif _without_run(issue.body) != _without_run(body):
                actions.append(Action("update", recipe, issue.number, body))
        elif ran and issue and issue.state == "OPEN":
            said = f"Verified again, on {where(ran[0])}: {run}"
            actions.append(Action("close", recipe, issue.number, said))
    return actions


def _ran(record: Record) -> bool:
    return record.status == "verified"


def _by_recipe(issues: Sequence[Issue]) -> dict[str, Issue]:
    """The issue of each recipe: an open one before a closed one, then the newest."""
    found: dict[str, Issue] = {}
    for issue in sorted(issues, key=lambda one: (one.state == "OPEN", one.number)):
        if marked := re.search(_MARKER.format(r"(\S+)"), issue.body):
            found[marked[1]] = issue
    return found


def _body(recipe: str, failed: Sequence[tuple[str, Record]], run: str) -> str:
    parts = [_MARKER.format(recipe), f"`{recipe}` fails in the nightly runs."]
    for leg, record in failed:
        drivers = ", ".join(f"{k} {v}".strip() for k, v in record.drivers.items())
        lines = [
            f"### {leg}",
            f"- Engine: {where(record)}",
            f"- Drivers: {drivers or 'none'}; Python {record.python}",
            f"- First failure: `{record.reason.replace('`', chr(39))}`",
        ]
        lines += [f"- Failed: `{t.id}`" for t in record.tests if t.outcome == "failed"]
        parts.append("\n".join(lines))
    parts.append(f"Last run: {run}")
    return "\n\n".join(parts) + "\n"


def _without_run(body: str) -> str:
    return re.sub(r"(?m)^Last run: .*$", "", body.replace("\r\n", "\n")).strip()


# What talks to GitHub: the program `gh`, which is on every runner.


def read_issues() -> list[Issue]:
    """All issues with the label, open or not. Raises UnavailableError."""
    fields = ["--json", "number,state,body", "--limit", "1000"]
    told = _gh("issue", "list", "--label", LABEL, "--state", "all", *fields)
    return [Issue(**one) for one in json.loads(told)]


def carry_out(action: Action) -> None:
    """Do it. Raises UnavailableError."""
    number = str(action.number)
    match action.kind:
        case "open":
            _gh("label", "create", LABEL, "--force", "--description", "a broken recipe")
            title = f"Broken: {action.recipe}"
            new = ["--title", title, "--label", LABEL, "--body-file", "-"]
            _gh("issue", "create", *new, text=action.body)
        case "reopen":
            _gh("issue", "reopen", number)
            _gh("issue", "edit", number, "--body-file", "-", text=action.body)
        case "update":
            _gh("issue", "edit", number, "--body-file", "-", text=action.body)
        case "close":
            _gh("issue", "close", number, "--comment", action.body)


def _gh(*arguments: str, text: str | None = None) -> str:
    command = [tool("gh", "it comes with every runner of GitHub Actions"), *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        said = " ".join(done.stderr.split())
        raise UnavailableError(f"gh {' '.join(arguments[:2])}: {said}")
    return done.stdout
