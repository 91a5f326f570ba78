"""Virtual environments beside the main one, for packages that do not fit into it.

`requirements-NAME.lock` pins what one holds. A recipe whose header names the
distribution NAME runs in it, and so do its tests. `cookbook fetch NAME` makes it.

`python -m cookbook.environments ARGUMENTS` runs Python in each of those that are made.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cookbook import fetch
from cookbook.catalog import Recipe, all_recipes
from cookbook.errors import UnavailableError
from cookbook.paths import FETCHED, lock_of


@dataclass(frozen=True)
class Environment:
    """The packages of one lock file, apart from all others."""

    name: str
    fetches: ClassVar[str] = "an environment of its own, from PyPI"

    @property
    def fetched(self) -> Path:
        return FETCHED / self.name

    @property
    def is_fetched(self) -> bool:
        """Is it here, with what the lock file says now?"""
        return fetch.is_synced(self.fetched, lock_of(self.name))

    @property
    def python(self) -> Path:
        """Raises UnavailableError if it is not made."""
        if not self.is_fetched:
            raise UnavailableError(missing(self.name))
        return self.fetched / "bin" / "python"

    def fetch(self, folder: Path) -> None:
        fetch.sync(folder, lock_of(self.name))


def of(recipe: Recipe) -> Environment | None:
    """The recipe's own environment; None where it runs in the main one."""
    return Environment(recipe.environment) if recipe.environment else None


def all_environments() -> dict[str, Environment]:
    """Those that recipes ask for, by name."""
    names = sorted({one.environment for one in all_recipes() if one.environment})
    return {name: Environment(name) for name in names}


def missing(name: str) -> str:
    """What to say where it is not made."""
    return f"no environment for {name} here: `cookbook fetch {name}`"


def current() -> str | None:
    """The name of the one in which this process runs; None in the main one."""
    prefix = Path(sys.prefix)
    return prefix.name if prefix.parent == FETCHED else None


def python(recipe: Recipe) -> Path:
    """The Python that runs the recipe. Raises UnavailableError."""
    own = of(recipe)
    return own.python if own and own.name != current() else Path(sys.executable)


def main(arguments: list[str]) -> int:
    """Run Python in each environment that is made; return the worst exit code."""
    worst = 0
    for one in all_environments().values():
        if not one.is_fetched:
            print(missing(one.name), flush=True)
            continue
        print(f"in the environment {one.name}:", flush=True)
        done = subprocess.run([one.python, *arguments], env=os.environ)
        worst = max(worst, abs(done.returncode))
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
