"""A recipe is a file, or a package: a folder with a `__main__.py`."""

import pytest

MAIN = '''\
# /// script
# requires-python = ">=3.11"
# dependencies = ["packaging>=24"]
#
# [tool.cookbook]
# arguments = ["reader"]
# ///
"""Say hello, in two files."""

import os
import sys
from pathlib import Path

from packaging.version import Version

os.environ["SQLITE_PATH"]
word = Path(__file__).with_name("word.txt").read_text()
print(Version("1"), word, sys.argv[1])
'''

FACTS = """\
from cookbook.catalog import Recipe, all_recipes, find
from cookbook import changes, ledger

recipe = Recipe("sqlite/app")
print([one.id for one in all_recipes()])
print([find(it)[0].id for it in ("sqlite/app", "recipes/sqlite/app/__main__.py")])
print([path.name for path in recipe.files], recipe.output.name)
print(recipe.imports, recipe.arguments, recipe.shown_as, recipe.download)
print([one.id for one in changes.touched(["recipes/sqlite/app/gone.py"])])
print(ledger.fingerprint(recipe, []))
"""


@pytest.fixture
def package(checkout):
    checkout.write("recipes/sqlite/app/__main__.py", MAIN)
    checkout.write("recipes/sqlite/app/_parts.py", "import json\n")
    checkout.write("recipes/sqlite/app/more/__init__.py", "from . import words\n")
    checkout.write("recipes/sqlite/app/__pycache__/old.pyc", "")
    checkout.write("recipes/sqlite/app/word.txt", "hello")
    checkout.write("recipes/sqlite/app.out", "1 hello reader\n")
    test = 'def test_it(sqlite):\n    """It is."""\n'
    checkout.write("tests/recipes/sqlite/test_app.py", test)
    return checkout


def facts(checkout):
    checkout.write("facts.py", FACTS)
    done = checkout.run("facts")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_package_is_one_recipe(package):
    ids, found, files, kinds, touched, fingerprint = facts(package)
    assert ids == "['sqlite/app', 'sqlite/greet']"
    assert found == "['sqlite/app', 'sqlite/app']"
    names = ["__main__.py", "_parts.py", "__init__.py", "word.txt"]
    assert files == f"{names} app.out"
    imports = ["os", "sys", "pathlib", "packaging.version", "json"]
    assert kinds == f"{imports} ('reader',) app/__main__.py sqlite/app.zip"
    assert touched == "['sqlite/app']"
    assert facts(package)[-1] == fingerprint
    package.write("recipes/sqlite/app/word.txt", "good day")
    assert facts(package)[-1] != fingerprint, "any of its files counts"


@pytest.mark.parametrize("way", ["verify", "run", "plain"])
def test_a_package_runs_with_its_arguments(package, way):
    more = ["--way", "python"] if way == "plain" else []
    done = package.run("cookbook", way, "sqlite/app", *more)
    assert done.returncode == 0, done.stdout + done.stderr
    if way == "run":
        assert done.stdout == "1 hello reader\n"
