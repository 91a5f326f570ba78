"""The evidence: what ran, on which engine, when, and how it ended.

`build/ledger.json` holds a record for each recipe and each set of engines it ran on. A
record counts as long as its fingerprint is that of the files in the checkout.
"""

import functools
import hashlib
import os
import re
import sys
from collections.abc import Iterable
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from packaging.utils import canonicalize_name
from pydantic import BaseModel, ConfigDict, ValidationError

from cookbook.catalog import Recipe
from cookbook.engines import engine, serving
from cookbook.engines.base import Provider, Server
from cookbook.paths import LEDGER, ROOT, TESTS, lock_of

Status = Literal["verified", "failed", "unavailable"]
Outcome = Literal["passed", "failed", "skipped"]

UNAVAILABLE = "unavailable"  # the identity of an engine that is not there

# A change in one of these could change what any record says.
MACHINERY = [
    ROOT / "cookbook" / name
    for name in (
        "catalog.py",
        "engines/__init__.py",
        "engines/base.py",
        "engines/compose.py",
        "engines/process.py",
        "evidence.py",
        "forkserver.py",
        "ledger.py",
        "places.py",
        "pytest_plugin.py",
        "runner.py",
        "servers.py",
    )
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EngineUsed(_Model):
    """An engine as it answered."""

    engine: str  # its name here: "mysql"
    name: str  # what the server said it is: "MariaDB"
    version: str = ""  # empty where there was no server
    provider: Provider | None = None
    stand_in_for: str | None = None
    identity: str = ""

    @classmethod
    def of(cls, name: str, server: Server | None) -> "EngineUsed":
        """The engine of that name; without a server, it was not there."""
        if not server:
            return cls(engine=name, name=engine(name).title, identity=UNAVAILABLE)
        return cls(
            engine=name,
            name=server.product,
            version=server.version,
            provider=server.provider,
            stand_in_for=server.stand_in_for,
            identity=server.identity,
        )


class TestResult(_Model):
    """A test, and the sentence in its docstring."""

    __test__ = False

    id: str
    says: str
    outcome: Outcome


class Record(_Model):
    """One recipe on one set of engines."""

    recipe: str
    status: Status
    reason: str = ""  # why it failed, or why it did not run
    engines: tuple[EngineUsed, ...]
    drivers: dict[str, str]
    python: str
    started: datetime  # UTC
    seconds: float
    tests: tuple[TestResult, ...]
    fingerprint: str

    @property
    def where(self) -> tuple[str, ...]:
        """The engines' names here: what a newer record of the same has too."""
        return tuple(used.engine for used in self.engines)


class Ledger(_Model):
    """All records; the newest for each recipe and set of engines."""

    schema_: Literal[1] = 1
    records: tuple[Record, ...] = ()

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=lambda name: name.rstrip("_"),
        populate_by_name=True,
    )

    def of(self, recipe: str) -> list[Record]:
        return [record for record in self.records if record.recipe == recipe]

    def updated(self, records: Iterable[Record]) -> "Ledger":
        """With these records in place of those of the same recipes and engines."""
        newest = {(record.recipe, record.where): record for record in self.records}
        newest |= {(record.recipe, record.where): record for record in records}
        return Ledger(records=tuple(newest[key] for key in sorted(newest)))


def read(path: Path = LEDGER) -> Ledger:
    """The ledger of this build; an empty one where there is none, or an unreadable."""
    try:
        return Ledger.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return Ledger()


def write(ledger: Ledger, path: Path = LEDGER) -> None:
    """Replace the file at once: the site may be reading it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(f".{os.getpid()}.new")
    new.write_text(ledger.model_dump_json(by_alias=True, indent=1), "utf-8")
    new.replace(path)


def merge(ledgers: Iterable[Ledger]) -> Ledger:
    """One ledger of several jobs' ledgers: a verified record beats an unavailable one,
    then the newest wins."""
    best: dict[tuple[object, ...], Record] = {}
    for record in (record for ledger in ledgers for record in ledger.records):
        key = (record.recipe, record.where)
        rank = (record.status != "unavailable", record.started)
        if key not in best or rank > (
            best[key].status != "unavailable",
            best[key].started,
        ):
            best[key] = record
    return Ledger().updated(best.values())


def drivers(recipe: Recipe) -> dict[str, str]:
    """The version of each dependency that the recipe's header names.

    The installed one; where the recipe has an environment of its own, that of its lock.
    """
    names = [requirement.name for requirement in recipe.dependencies]
    if recipe.environment:
        locked = _locked(recipe.environment)
        return {name: locked.get(canonicalize_name(name), _ABSENT) for name in names}
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = _ABSENT
    return found


_ABSENT = "not installed"


@functools.cache
def _locked(environment: str) -> dict[str, str]:
    """The versions in its lock file, by canonical name."""
    text = lock_of(environment).read_text("utf-8")
    return dict(re.findall(r"(?m)^([a-z0-9-]+)==([^ ;]+)", text))


def inputs(recipe: Recipe) -> list[Path]:
    """The files that a record of the recipe speaks of: its own, what its notebook
    includes, what its tests share, and its engines."""
    files = [*recipe.files, recipe.output, recipe.test, TESTS / "test_output.py"]
    files += recipe.notebook
    files += [TESTS / "conftest.py", TESTS / recipe.chapter / "conftest.py"]
    files += sorted(TESTS.glob("support/*.py"))
    files += _engine_files(recipe.needs)
    return [path for path in files if path and path.is_file()]


def fingerprint(recipe: Recipe, identities: Iterable[str]) -> str:
    """A hash over all that a record of the recipe depends on.

    The recipe, its output, its tests with what they share, the machinery, the drivers'
    versions, and the identities of the engines.
    """
    digest = hashlib.sha256(_machinery().encode())
    for path in inputs(recipe):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    digest.update(repr([sorted(drivers(recipe).items()), *identities]).encode())
    return digest.hexdigest()


def is_valid(record: Record) -> bool:
    """Does the record still speak of what is in the checkout?"""
    recipe = Recipe(record.recipe)
    if not recipe.path.is_file():
        return False
    identities = [used.identity for used in record.engines]
    return record.fingerprint == fingerprint(recipe, identities)


@functools.cache
def _engine_files(needs: tuple[str, ...]) -> list[Path]:
    """The modules that define the engines, and those they build on."""
    engines = [type(one) for need in needs for one in (engine(need), *serving(need))]
    names = {base.__module__ for one in engines for base in one.__mro__}
    ours = sorted(name for name in names if name.startswith("cookbook."))
    return [Path(str(sys.modules[name].__file__)) for name in ours]


@functools.cache
def _machinery() -> str:
    digest = hashlib.sha256()
    for path in MACHINERY:
        digest.update(path.read_bytes())
    return digest.hexdigest()
