"""Which recipes exist, and what belongs to each: read from recipes/, tests/ and docs/.

A recipe's id is its path below recipes/ without the ending: `postgresql/load_rows`.
A folder with a `__main__.py` is one recipe: that file has the header, and is what runs.
A variant (`load_rows_asyncpg`, for another driver) may share the tests and the page of
the recipe whose name it extends.
"""

import ast
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

from packaging.requirements import Requirement

from cookbook.errors import UnknownNameError
from cookbook.paths import DOCS, RECIPES, ROOT, TESTS, lock_of

# The regular expression of PEP 723.
_HEADER = re.compile(r"(?m)^# /// script$\s(?P<toml>(^#(| .*)$\s)+)^# ///$")

# How a page, or a notebook, includes a file or a section of one.
INCLUDE = re.compile(r'--8<-- "(?P<path>[^":]+)(?::(?P<section>\w+))?"')

# Packages without a module of their own: what is imported from them is one.
_NAMESPACES = ("google", "google.cloud")


@dataclass(frozen=True)
class Recipe:
    """One file, or one package, below recipes/, and the files that go with it."""

    id: str

    @property
    def chapter(self) -> str:
        return self.id.partition("/")[0]

    @property
    def name(self) -> str:
        return self.id.rpartition("/")[2]

    @property
    def folder(self) -> Path | None:
        """The folder of a recipe that is a package."""
        folder = RECIPES / self.id
        return folder if (folder / "__main__.py").is_file() else None

    @property
    def path(self) -> Path:
        """The file that runs."""
        return self.folder / "__main__.py" if self.folder else RECIPES / f"{self.id}.py"

    @property
    def shown_as(self) -> str:
        """That file's name for readers: `load_rows.py`, or `monitor/__main__.py`."""
        return f"{self.name}/{self.path.name}" if self.folder else self.path.name

    @property
    def files(self) -> list[Path]:
        """What a reader downloads; what runs comes first."""
        found = sorted(self.folder.rglob("*")) if self.folder else []
        files = [path for path in found if path.is_file() and path.suffix != ".pyc"]
        return list(dict.fromkeys([self.path, *files]))

    @property
    def download(self) -> str:
        """Its name below docs/recipes/: the file, or a zip of the package."""
        return f"{self.id}.{'zip' if self.folder else 'py'}"

    @property
    def output(self) -> Path:
        return RECIPES / f"{self.id}.out"

    @cached_property
    def source(self) -> str:
        return self.path.read_text("utf-8")

    @cached_property
    def title(self) -> str:
        doc = ast.get_docstring(ast.parse(self.source)) or self.name
        return doc.splitlines()[0].rstrip(".")

    @cached_property
    def metadata(self) -> dict[str, object]:
        return inline_metadata(self.source)

    @cached_property
    def imports(self) -> list[str]:
        """The modules that it imports, as it names them; its own are not among them."""
        found: dict[str, None] = {}
        sources = (it.read_text("utf-8") for it in self.files if it.suffix == ".py")
        for node in (node for it in sources for node in ast.walk(ast.parse(it))):
            if isinstance(node, ast.ImportFrom) and node.level:
                continue
            if isinstance(node, ast.Import):
                found |= dict.fromkeys(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module in _NAMESPACES:
                found |= dict.fromkeys(f"{node.module}.{it.name}" for it in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                found[node.module] = None
        return list(found)

    @property
    def dependencies(self) -> list[Requirement]:
        listed = self.metadata.get("dependencies", [])
        assert isinstance(listed, list)
        return [Requirement(line) for line in listed]

    @property
    def needs(self) -> tuple[str, ...]:
        """The engines it needs, by the names of their fixtures.

        The chapter's own, unless the header says `[tool.cookbook] needs = [...]`.
        """
        return tuple(self._settings.get("needs", [self.chapter]))

    @property
    def arguments(self) -> tuple[str, ...]:
        """What it is run with: `[tool.cookbook] arguments = [...]`; mostly nothing."""
        return tuple(self._settings.get("arguments", []))

    @property
    def _settings(self) -> dict[str, list[str]]:
        tool = self.metadata.get("tool", {})
        assert isinstance(tool, dict)
        return dict(tool.get("cookbook", {}))

    @property
    def environment(self) -> str | None:
        """The environment of its own in which it runs: see environments.py."""
        names = (requirement.name for requirement in self.dependencies)
        return next((name for name in names if lock_of(name).is_file()), None)

    @property
    def test(self) -> Path | None:
        """Its test file, or that of the recipe of which it is a variant."""
        folder = TESTS / self.chapter
        return _first_file(folder / f"test_{name}.py" for name in self._names)

    @property
    def page(self) -> Path | None:
        """Its page, or that of the recipe of which it is a variant."""
        folder = DOCS / self.chapter
        return _first_file(
            folder / f"{name.replace('_', '-')}.md" for name in self._names
        )

    @property
    def notebook(self) -> list[Path]:
        """The source of its notebook, then the files that this includes: none where it
        has no notebook."""
        source = self.path.with_suffix(".md")
        if not source.is_file():
            return []
        included = [it["path"] for it in INCLUDE.finditer(source.read_text("utf-8"))]
        return [source, *(ROOT / path for path in dict.fromkeys(included))]

    @property
    def _names(self) -> list[str]:
        """Its name, and the names that it may be a variant of: the longest first."""
        words = self.name.split("_")
        return ["_".join(words[:n]) for n in range(len(words), 0, -1)]


def inline_metadata(source: str) -> dict[str, object]:
    """The inline script metadata (PEP 723); empty where there is none."""
    found = _HEADER.search(source)
    if not found:
        return {}
    lines = found["toml"].splitlines()
    return tomllib.loads("\n".join(line[2:] for line in lines))


def _first_file(paths: Iterable[Path]) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def all_recipes() -> list[Recipe]:
    """Every recipe, sorted by id."""
    packages = {path.parent for path in RECIPES.rglob("__main__.py")}
    files = [
        path
        for path in RECIPES.rglob("*.py")
        if not path.name.startswith("_") and packages.isdisjoint(path.parents)
    ]
    paths = sorted(path.relative_to(RECIPES) for path in (*packages, *files))
    return [Recipe(path.with_suffix("").as_posix()) for path in paths]


def find(pattern: str) -> list[Recipe]:
    """The recipes that an id, a chapter, or a pattern such as `*/connect` means.

    Raises UnknownNameError.
    """
    wanted = pattern.removeprefix("recipes/").removesuffix(".py")
    wanted = wanted.removesuffix("__main__").rstrip("/")
    known = all_recipes()
    found = [
        recipe
        for recipe in known
        if wanted in (recipe.id, recipe.chapter) or fnmatch(recipe.id, wanted)
    ]
    if not found:
        raise UnknownNameError(
            f"there is no recipe {pattern!r}"
            + did_you_mean(wanted, [name for r in known for name in (r.id, r.chapter)])
            + "; `cookbook list` shows all"
        )
    return found


def did_you_mean(wanted: str, known: Iterable[str]) -> str:
    """`: did you mean ...?`, or nothing where no name is near."""
    names = dict.fromkeys(known)
    near = get_close_matches(wanted, names, n=3, cutoff=0.5)
    near += [
        name
        for name in names
        if len(wanted) > 2 and wanted in name and name not in near
    ][:3]
    return f": did you mean {' or '.join(near)}?" if near else ""


def relative(path: Path | None) -> str | None:
    """The path as the checkout's own files name it."""
    return path.relative_to(ROOT).as_posix() if path else None
