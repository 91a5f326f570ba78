"""Recipes in environments of their own, whose packages the main one does not hold."""

import re

import pytest

from cookbook.paths import lock_of
from tests.cookbook.conftest import GOOD

RECIPE = '''\
# /// script
# requires-python = ">=3.11"
# dependencies = ["iniconfig>=2"]
# ///
"""Say where it runs."""

import os
import sys
from pathlib import Path


def environment() -> str:
    return Path(sys.prefix).name


def main() -> None:
    os.environ["SQLITE_PATH"]
    print(environment())


if __name__ == "__main__":
    main()
'''

TEST = '''\
from recipes.sqlite.greet import environment


def test_is_there(sqlite):
    """It runs in its own environment."""
    assert environment() == "iniconfig"
'''


@pytest.fixture
def own(checkout):
    """A checkout whose only recipe runs in the environment `iniconfig`."""
    locked = re.split(r"(?m)^(?=\S)", lock_of("pyspark").read_text("utf-8"))
    small = [one for one in locked if not one.startswith(("pyspark", "py4j"))]
    checkout.write("requirements-iniconfig.lock", "".join(small))
    checkout.write("recipes/sqlite/greet.py", RECIPE)
    checkout.write("recipes/sqlite/greet.out", "iniconfig\n")
    checkout.write("tests/recipes/sqlite/test_greet.py", TEST)
    return checkout


def fetch(checkout) -> str:
    done = checkout.run("cookbook", "fetch", "iniconfig")
    if "error sending request" in done.stderr:
        pytest.skip(f"no package registry can be reached: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_not_made_is_not_run_and_says_how_to_make_it(own):
    done = own.run("cookbook", "verify")
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = own.records()
    assert record.status == "unavailable"
    assert (
        record.reason == "no environment for iniconfig here: `cookbook fetch iniconfig`"
    )
    assert "Environment iniconfig: `cookbook" in own.run("cookbook", "doctor").stdout


def test_recipe_and_tests_run_in_it(own):
    assert "iniconfig: fetched" in fetch(own)
    assert "there already" in fetch(own)
    done = own.run("cookbook", "verify")
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = own.records()
    assert record.status == "verified"
    assert len(record.tests) == 2
    assert record.drivers == {"iniconfig": record.drivers["iniconfig"]}
    again = own.run("cookbook", "verify", "--changed")
    assert "1 recipes have not changed" in again.stdout
    run = own.run("cookbook", "run", "sqlite/greet")
    assert (run.returncode, run.stdout) == (0, "iniconfig\n"), run.stderr
    every = own.run("cookbook.environments", "-c", "import sys; print(sys.prefix)")
    assert every.stdout.strip().endswith("/.engines/iniconfig")


def test_in_it_only_its_own_engines_are_required(own):
    fetch(own)
    command = ("cookbook.environments", "-m", "pytest", "tests/recipes")
    assert own.run(*command, COOKBOOK_REQUIRE="sqlite,redis").returncode == 0
    own.write("tests/recipes/sqlite/test_greet.py", TEST.replace("(sqlite)", "()"))
    own.write("tests/recipes/test_output.py", "")
    without = own.run(*command, COOKBOOK_REQUIRE="sqlite,redis")
    assert without.returncode == 1
    assert "sqlite is required and ran no test" in without.stdout
    assert "redis" not in without.stdout


def test_in_the_main_one_what_only_others_need_is_not_required(own):
    needs = '"]\n# [tool.cookbook]\n# needs = ["redis"]\n# ///'
    own.write("recipes/sqlite/greet.py", RECIPE.replace('"]\n# ///', needs))
    own.write("recipes/sqlite/hello.py", GOOD)
    own.write("recipes/sqlite/hello.out", "hello reader\n")
    test = TEST.replace("greet import environment", "hello import greet")
    test = test.replace('environment() == "iniconfig"', 'greet("you") == "hello you"')
    own.write("tests/recipes/sqlite/test_hello.py", test)
    done = own.run("pytest", "tests/recipes", COOKBOOK_REQUIRE="sqlite,redis")
    assert done.returncode == 0, done.stdout


def test_another_lock_is_another_environment(own):
    fetch(own)
    lock = own.root / "requirements-iniconfig.lock"
    lock.write_text("# changed\n" + lock.read_text("utf-8"), "utf-8")
    run = own.run("cookbook", "run", "sqlite/greet")
    assert run.returncode == 2
    assert "cookbook fetch iniconfig" in run.stderr
