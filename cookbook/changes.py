"""What a change touches: from changed files to recipes, and from recipes to CI jobs.

A recipe is touched by what a record of it depends on. What nobody can judge, such as a
new version in requirements.lock, touches all of them.
"""

import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cookbook import ledger
from cookbook.catalog import Recipe, all_recipes, relative
from cookbook.engines import ENGINES, serving
from cookbook.errors import CookbookError
from cookbook.paths import ROOT

# What no recipe depends on: other jobs look at these.
_ELSEWHERE = (
    *("benchmarks/", "docs/", "tests/benchmarks/", "tests/cookbook/", "tests/site/"),
    *(".env.example", ".gitignore", "CONTRIBUTING.md", "LICENSE", "README.md"),
)


@dataclass(frozen=True)
class Job:
    """A job of continuous integration: the recipes whose first need is one engine."""

    engine: str
    require: tuple[str, ...]  # all engines that these recipes run on
    services: tuple[str, ...]  # those of them that are containers
    fetches: tuple[str, ...]  # the environments of their own that they run in
    recipes: tuple[str, ...]


def changed_files(base: str) -> list[str]:
    """The files that differ from where this branch left base. Raises CookbookError."""
    command = ["git", "diff", "--name-only", "--no-renames", f"{base}...HEAD"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise CookbookError(f"what changed since {base}? {done.stderr.strip()}")
    return done.stdout.splitlines()


def touched(paths: Iterable[str]) -> list[Recipe]:
    """The recipes whose runs the changed files may end in another way."""
    paths = set(paths)
    recipes = all_recipes()
    if any(_touches_all(path) for path in paths):
        return recipes
    return [recipe for recipe in recipes if not paths.isdisjoint(_files(recipe, paths))]


def _files(recipe: Recipe, paths: set[str]) -> set[str]:
    """What the recipe depends on, deleted files included."""
    files = {relative(path) for path in (*ledger.inputs(recipe), recipe.output)}
    folder = f"tests/recipes/{recipe.chapter}/"
    for path in paths:
        if path.startswith(folder):
            name = path.removeprefix(f"{folder}test_").removesuffix(".py")
            is_shared = not path.startswith(f"{folder}test_")
            if is_shared or f"{recipe.name}_".startswith(f"{name}_"):
                files.add(path)
        if path.startswith(f"recipes/{recipe.id}/"):
            files.add(path)
    return {path for path in files if path}


def _touches_all(path: str) -> bool:
    if path.startswith("cookbook/"):
        is_gone = not (ROOT / path).exists()
        return ROOT / path in ledger.MACHINERY or is_gone
    if path.startswith(("recipes/", "tests/recipes/")):
        parts = path.split("/")
        return parts[0] == "tests" and (len(parts) == 3 or parts[2] == "support")
    return not path.startswith(_ELSEWHERE)


def jobs(recipes: Sequence[Recipe]) -> list[Job]:
    """A job for each engine that is the first need of one of these recipes.

    What needs no engine goes with SQLite, which needs no server.
    """
    by_engine: dict[str, list[Recipe]] = {}
    for recipe in recipes:
        first, *_ = recipe.needs or ("sqlite",)
        by_engine.setdefault(first, []).append(recipe)
    return [_job(engine, some) for engine, some in sorted(by_engine.items())]


def _job(engine: str, recipes: Sequence[Recipe]) -> Job:
    needs = {need for recipe in recipes for need in recipe.needs}
    engines = sorted({one.name for need in needs for one in serving(need)})
    return Job(
        engine=engine,
        require=tuple(engines),
        services=tuple(name for name in engines if ENGINES[name].port),
        fetches=tuple(sorted({one.environment for one in recipes if one.environment})),
        recipes=tuple(recipe.id for recipe in recipes),
    )
