"""What the directives of one page read: the ledger, and where the results are."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cookbook import catalog, ledger, status
from cookbook.catalog import Recipe, did_you_mean
from cookbook.ledger import Ledger
from cookbook.status import Standing


class DirectiveError(ValueError):
    """A page asks for something that there is not."""


@dataclass
class Data:
    """Read anew for each page, and cheap: what has not changed is remembered."""

    ledger_file: Path
    results: Path

    def standings(self, recipe: Recipe) -> list[Standing]:
        return status.standings(recipe, self._ledger)

    @functools.cached_property
    def _ledger(self) -> Ledger:
        try:
            return _read(self.ledger_file, self.ledger_file.stat().st_mtime_ns)
        except OSError:
            return Ledger()


@functools.lru_cache(maxsize=8)
def _read(path: Path, changed: int) -> Ledger:
    return ledger.read(path)


def recipes_of(ids: Iterable[str]) -> list[Recipe]:
    """The recipes of these ids. Raises DirectiveError."""
    found = [Recipe(name) for name in ids]
    for recipe in found:
        if not recipe.path.is_file():
            near = did_you_mean(
                recipe.id, (known.id for known in catalog.all_recipes())
            )
            raise DirectiveError(f"there is no recipe {recipe.id!r}{near}")
    if not found:
        raise DirectiveError("it names no recipe")
    return found
