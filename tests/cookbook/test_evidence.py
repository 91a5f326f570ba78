"""What the ledger says after a run, and when it refuses to."""

import json

import pytest

BROKEN = "tests/recipes/sqlite/test_greet.py"


def test_a_good_recipe_is_verified(checkout):
    done = checkout.run("cookbook", "verify")
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = checkout.records()
    assert record.status == "verified"
    assert record.engines[0].name == "SQLite"
    assert record.engines[0].provider == "embedded"
    assert record.started.tzinfo is not None
    says = sorted(test.says for test in record.tests)
    assert says == [
        "It greets by name.",
        "It runs to the end and prints what this page shows.",
    ]


def test_the_version_is_what_the_engine_answers(checkout):
    import sqlite3

    checkout.run("cookbook", "verify")
    assert checkout.records()[0].engines[0].version == sqlite3.sqlite_version


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        pytest.param("recipes/sqlite/greet.py", "hello", "bye", id="does other"),
        pytest.param("recipes/sqlite/greet.py", "main()\n", "1/0\n", id="raises"),
        pytest.param("recipes/sqlite/greet.out", "reader", "writer", id="output"),
        pytest.param(BROKEN, "hello you", "bye you", id="test"),
    ],
)
def test_a_broken_recipe_fails(checkout, path, old, new):
    text = (checkout.root / path).read_text()
    checkout.write(path, text.replace(old, new))
    done = checkout.run("cookbook", "verify")
    assert done.returncode == 1
    assert "1 failed" in done.stdout
    (record,) = checkout.records()
    assert record.status == "failed"
    assert record.reason


def test_wrong_output_says_how_to_accept_it(checkout):
    checkout.write("recipes/sqlite/greet.out", "hello writer\n")
    done = checkout.run("pytest", "tests/recipes/test_output.py")
    assert "--recipe sqlite/greet --update-outputs" in done.stdout
    assert "-hello writer" in done.stdout
    assert "+hello reader" in done.stdout


def test_update_outputs_writes_what_was_printed_and_proves_nothing(checkout):
    (checkout.root / "recipes/sqlite/greet.out").unlink()
    done = checkout.run("pytest", "tests", "--update-outputs")
    assert done.returncode == 0
    out = checkout.root / "recipes/sqlite/greet.out"
    assert out.read_text() == "hello reader\n"
    assert checkout.records() == []


@pytest.mark.parametrize(
    "path",
    [
        "recipes/sqlite/greet.py",
        "recipes/sqlite/greet.out",
        "tests/recipes/sqlite/test_greet.py",
        "tests/recipes/test_output.py",
        "cookbook/runner.py",
        "cookbook/engines/sqlite.py",
    ],
)
def test_a_record_does_not_outlive_a_change(checkout, path):
    checkout.run("cookbook", "verify")
    again = checkout.run("cookbook", "verify", "--changed")
    assert "1 recipes have not changed" in again.stdout
    with (checkout.root / path).open("a") as file:
        file.write("\n")
    listed = checkout.run("cookbook", "list").stdout
    assert "✓" not in listed
    changed = checkout.run("cookbook", "verify", "--changed")
    assert "have not changed" not in changed.stdout


def test_a_failure_is_tried_again(checkout):
    checkout.write("recipes/sqlite/greet.out", "hello writer\n")
    checkout.run("cookbook", "verify")
    again = checkout.run("cookbook", "verify", "--changed")
    assert again.returncode == 1
    assert "test_output" in again.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["tests", "-k", "greets"], id="deselected"),
        pytest.param([f"{BROKEN}::test_greets"], id="one test"),
        pytest.param(["tests/recipes/sqlite"], id="without its output"),
    ],
)
def test_a_part_of_the_tests_proves_nothing(checkout, arguments):
    done = checkout.run("pytest", *arguments)
    assert done.returncode == 0
    assert checkout.records() == []


def test_a_run_cut_short_proves_nothing(checkout):
    checkout.write(
        BROKEN, "def test_a(sqlite):\n    assert 0\n\ndef test_b(sqlite):\n    pass\n"
    )
    checkout.run(
        "pytest", BROKEN, "tests/recipes/test_output.py", "-x", "-p", "no:randomly"
    )
    assert checkout.records() == []


def test_workers_write_the_same_record(checkout):
    checkout.run("pytest", "tests")
    (alone,) = checkout.records()
    checkout.run("pytest", "tests", "-n2")
    (shared,) = checkout.records()
    same = {"started": alone.started, "seconds": alone.seconds}
    assert shared.model_copy(update=same) == alone


def test_a_missing_engine_is_skipped_with_the_reason(checkout):
    done = checkout.run("cookbook", "verify", "--provider", "native")
    assert done.returncode == 0
    (record,) = checkout.records()
    assert record.status == "unavailable"
    assert "no native SQLite" in record.reason
    assert "no native SQLite" in done.stdout


def test_a_missing_engine_that_is_required_fails(checkout):
    arguments = ("--provider", "native", "--require", "sqlite")
    done = checkout.run("cookbook", "verify", *arguments)
    assert done.returncode == 1
    assert "sqlite is required: no native SQLite" in done.stdout


def test_a_server_that_is_here_and_does_not_start_fails(checkout):
    file = checkout.root / "cookbook/engines/redis.py"
    broken = file.read_text("utf-8").replace('"--databases"', '"--nonsense"')
    checkout.write("cookbook/engines/redis.py", broken)
    checkout.write("recipes/redis/ping.py", '"""Ping."""\n')
    test = 'def test_it(redis):\n    """It answers."""\n'
    checkout.write("tests/recipes/redis/test_ping.py", test)
    done = checkout.run("pytest", "tests/recipes/redis", "-n0")
    assert done.returncode == 1
    assert "Redis did not start" in done.stdout
    assert "nonsense" in done.stdout


def test_a_required_engine_must_have_run_a_test(checkout):
    done = checkout.run("pytest", "tests", COOKBOOK_REQUIRE="redis")
    assert done.returncode == 1
    assert "redis is required and ran no test" in done.stdout


def test_an_unknown_required_engine_is_an_error(checkout):
    done = checkout.run("cookbook", "verify", COOKBOOK_REQUIRE="sqlit")
    assert done.returncode == 2
    assert "there is no engine 'sqlit': did you mean sqlite" in done.stderr


def test_a_skip_is_not_a_proof(checkout):
    test = "import pytest\n\ndef test_it(sqlite):\n    pytest.skip('too cold')\n"
    checkout.write(BROKEN, test)
    checkout.run("cookbook", "verify")
    (record,) = checkout.records()
    assert record.status == "unavailable"
    assert record.reason == "too cold"


def test_several_jobs_make_one_ledger(checkout):
    checkout.run("cookbook", "verify", "--provider", "native")
    ledger = checkout.root / "build/ledger.json"
    unavailable = checkout.root / "unavailable.json"
    ledger.rename(unavailable)
    checkout.run("cookbook", "verify")
    verified = checkout.root / "verified.json"
    ledger.rename(verified)
    alone = checkout.run("cookbook", "merge", str(unavailable))
    assert alone.returncode == 1
    assert "sqlite/greet" in alone.stdout
    both = checkout.run("cookbook", "merge", str(verified), str(unavailable))
    assert both.returncode == 0
    assert checkout.records()[0].status == "verified"


def test_a_broken_ledger_counts_as_none(checkout):
    checkout.write("build/ledger.json", '{"schema": 1, "rec')
    listed = checkout.run("cookbook", "list")
    assert listed.returncode == 0
    assert "✓" not in listed.stdout


def test_the_ledger_says_its_schema(checkout):
    checkout.run("cookbook", "verify")
    told = json.loads((checkout.root / "build/ledger.json").read_text())
    assert told["schema"] == 1
    assert set(told["records"][0]) == {
        *("recipe", "status", "reason", "engines", "drivers", "python", "started"),
        *("seconds", "tests", "fingerprint"),
    }
