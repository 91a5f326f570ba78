"""Recipes that are run as a reader does."""

from cookbook import ledger
from tests.cookbook.conftest import GOOD


def run(checkout, *more: str):
    done = checkout.run("cookbook", "plain", "--way", "python", *more)
    (record,) = ledger.read(checkout.root / "build/plain.json").records
    return done, record


def test_a_good_recipe_is_verified(checkout):
    done, record = run(checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (record.status, record.reason) == ("verified", "")
    assert [(test.id, test.outcome) for test in record.tests] == [("python", "passed")]
    assert record.engines[0].name == "SQLite"


def test_other_output_is_a_failure(checkout):
    checkout.write("recipes/sqlite/greet.out", "hello writer\n")
    done, record = run(checkout)
    assert done.returncode == 1
    assert record.status == "failed"
    assert "printed '- hello writer'" in record.reason


def test_an_error_is_a_failure_with_its_last_line(checkout):
    broken = GOOD.replace('    os.environ["SQLITE_PATH"]', "    raise ValueError('no')")
    checkout.write("recipes/sqlite/greet.py", broken)
    done, record = run(checkout)
    assert done.returncode == 1
    assert "exit code 1: ValueError: no" in record.reason


def test_an_engine_that_is_not_there_is_no_failure(checkout):
    broken = GOOD.replace(
        "# dependencies = []\n",
        '# dependencies = []\n# [tool.cookbook]\n# needs = ["mysql"]\n',
    )
    checkout.write("recipes/sqlite/greet.py", broken)
    done, record = run(checkout, "--provider", "external")
    assert done.returncode == 0
    assert record.status == "unavailable"
    assert "MYSQL_URL" in record.reason


def test_an_unknown_way_is_one_line(checkout):
    done = checkout.run("cookbook", "plain", "--way", "pyhton")
    assert done.returncode == 2
    assert "no way 'pyhton' (known: python, uv, oldest)" in done.stderr
