"""The rules that every recipe keeps."""

import ast
import functools
import os
import re
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import (
    PackageNotFoundError,
    distribution,
    packages_distributions,
    requires,
    version,
)
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cookbook import catalog
from cookbook.engines import ENGINES, engine
from cookbook.ledger import drivers
from cookbook.pages.recipe import OFTEN_COPIED
from cookbook.paths import ROOT

RECIPES = catalog.all_recipes()
every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.id)


def test_there_are_recipes():
    assert RECIPES


@every_recipe
def test_has_an_output_a_test_and_a_page(recipe):
    # Where no server can be had, nobody may type what it would print.
    never_ran = any(engine(need).only_in_container for need in recipe.needs)
    assert recipe.output.is_file() or never_ran
    assert recipe.test
    assert recipe.page


@every_recipe
def test_has_a_title_and_says_when_to_use_it(recipe):
    title, _, rest = (ast.get_docstring(ast.parse(recipe.source)) or "").partition("\n")
    assert title.endswith(".")
    assert len(rest.split()) > 10


@every_recipe
def test_imports_nothing_of_ours(recipe):
    ours = {"cookbook", "recipes", "tests"}
    assert ours.isdisjoint(name.partition(".")[0] for name in recipe.imports)


@every_recipe
def test_needs_engines_that_exist(recipe):
    for need in recipe.needs:
        # One that may serve for another is needed where the recipe says so by its name.
        assert engine(need).fixture is None or need in recipe.name


DISTRIBUTIONS = packages_distributions()

# The distribution of a module that is not installed in this environment.
ELSEWHERE = {"airflow": "apache-airflow", "jpype": "jpype1"}
# What a header need not name, for a distribution that it names brings it.
BROUGHT = {"azure-core", "google-api-core", "google-auth", "google-cloud-core"}
BROUGHT |= {"grpcio", "opentelemetry-api", "protobuf", "psycopg-pool"}


@functools.cache
def owners(module: str) -> set[str]:
    """The distributions that hold the module: many share a package such as `google`."""
    names = set(DISTRIBUTIONS.get(top(module), ()))
    if not names:
        return {canonicalize_name(ELSEWHERE.get(top(module), top(module)))}
    path = module.replace(".", "/")
    places = (f"{path}/", f"{path}.py", f"{path}.pyi", f"{path}.")
    holding = {
        name
        for name in names
        if len(names) == 1
        or any(str(it).startswith(places) for it in distribution(name).files or ())
    }
    return {canonicalize_name(name) for name in holding}


def brought_by(names: set[str]) -> set[str]:
    """What is installed with these distributions, whichever of their extras."""
    found, open_ones = set(), set(names)
    while open_ones:
        name = open_ones.pop()
        with suppress(PackageNotFoundError):
            needed = {
                canonicalize_name(Requirement(it).name) for it in requires(name) or ()
            }
            open_ones |= needed - found
            found |= needed
    return found


@every_recipe
def test_header_names_what_is_imported_and_no_more(recipe):
    header = {canonicalize_name(r.name) for r in recipe.dependencies}
    third = [it for it in recipe.imports if top(it) not in sys.stdlib_module_names]
    imported = {it: owners(it) for it in third}
    declared = header | (BROUGHT & brought_by(header))
    undeclared = {it for it, own in imported.items() if not own & declared}
    assert not undeclared, f"the header names nothing that holds {undeclared}"
    for unused in header - set().union(*imported.values()):
        # A driver that is named in a URL and never imported, as SQLAlchemy's are.
        code = recipe.source.partition('"""')[2]
        code += "".join(path.read_text("utf-8") for path in recipe.files[1:])
        assert unused in code, f"{unused} is not used"


def top(module: str) -> str:
    return module.partition(".")[0]


@every_recipe
def test_header_asks_for_what_is_installed(recipe):
    """With its extras: what the lock holds satisfies the header."""
    assert str(recipe.metadata["requires-python"]) == ">=3.11"
    for requirement in recipe.dependencies:
        assert requirement.specifier, f"{requirement} has no lower bound"
        assert requirement.specifier.contains(drivers(recipe)[requirement.name])
        for extra in requirement.extras:
            for line in () if recipe.environment else requires(requirement.name) or ():
                part = Requirement(line)
                marker = part.marker
                if marker and marker.evaluate({"extra": extra}):
                    assert version(part.name)


@pytest.mark.parametrize(
    "recipe",
    [recipe for recipe in RECIPES if recipe.needs and not recipe.environment],
    ids=lambda recipe: recipe.id,
)
def test_says_which_variable_is_missing_and_how_to_get_a_server(recipe, runner):
    run = runner.run_recipe(recipe, {})
    assert run.code == 1
    assert run.stdout == ""
    said = run.stderr.strip()
    assert said in {engine(need).no_server for need in recipe.needs}


FIRST_OF_ITS_KIND = {str(recipe.dependencies): recipe for recipe in RECIPES}.values()


@pytest.mark.parametrize("recipe", FIRST_OF_ITS_KIND, ids=lambda recipe: recipe.id)
def test_runs_alone_under_uv(recipe, tmp_path):
    """From its header alone: one recipe for each set of dependencies."""
    uv = Path(sys.executable).with_name("uv")
    addresses = {name for one in ENGINES.values() for name in one.variables("")}
    done = subprocess.run(
        [uv, "run", "--quiet", recipe.path, *recipe.arguments],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k not in addresses},
        capture_output=True,
        text=True,
    )
    if "error sending request" in done.stderr or "network" in done.stderr:
        pytest.skip(f"no package registry can be reached: {done.stderr.strip()}")
    if not recipe.needs:
        assert done.stdout == recipe.output.read_text("utf-8")
        return
    assert done.returncode == 1
    assert done.stderr.strip() in {engine(need).no_server for need in recipe.needs}


@every_recipe
def test_sections_are_whole(recipe):
    sections = 0
    for path in recipe.files:
        text = path.read_text("utf-8")
        marks = re.findall(r"# --8<-- \[(start|end):(\w+)\]", text)
        starts = [name for kind, name in marks if kind == "start"]
        ends = [name for kind, name in marks if kind == "end"]
        assert sorted(starts) == sorted(ends), path
        assert len(set(starts)) == len(starts), path
        sections += len(starts)
    assert sections, "no section for the page to show"


@every_recipe
def test_is_short_enough_to_read(recipe):
    for path in recipe.files:
        assert len(path.read_text("utf-8").splitlines()) <= 140, path


def test_every_test_says_what_it_proves():
    for path in (ROOT / "tests/recipes").rglob("test_*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                said = ast.get_docstring(node) or ""
                assert said, f"{path.name}: {node.name} has no docstring"
                assert said.split("\n\n")[0].rstrip().endswith("."), (
                    f"{node.name}: {said}"
                )


def test_every_output_and_every_test_belongs_to_a_recipe():
    outputs = {recipe.output for recipe in RECIPES}
    assert set((ROOT / "recipes").rglob("*.out")) <= outputs
    tests = {recipe.test for recipe in RECIPES} | {
        ROOT / "tests/recipes/test_output.py"
    }
    assert set((ROOT / "tests/recipes").rglob("test_*.py")) == tests


@every_recipe
def test_what_is_often_copied_is_listed_as_such(recipe):
    """A page tells them by the colon or the comma."""
    tree = ast.parse(recipe.test.read_text("utf-8") if recipe.test else "")
    says = [
        ast.get_docstring(it) or ""
        for it in ast.walk(tree)
        if isinstance(it, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    wrong = [it for it in says if it.startswith("Often copied")]
    assert [it for it in wrong if not OFTEN_COPIED.match(it)] == []


def test_the_example_addresses_are_those_of_the_engines():
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    given = dict(line.split("=", 1) for line in lines if line and line[0] != "#")
    examples = [one.variables(one.example) for one in ENGINES.values()]
    assert given == {name: value for one in examples for name, value in one.items()}
