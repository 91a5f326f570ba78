"""The command line: what it prints, and how it ends."""

import json
import re

import pytest

from cookbook.paths import ROOT


def test_help_names_the_commands_and_the_exit_codes(checkout):
    told = checkout.run("cookbook", "--help").stdout
    for command in ("list", "run", "up", "down", "doctor", "verify", "new"):
        assert re.search(rf"\b{command}\b", told)
    assert "Exit codes" in told


def test_list_for_programs(checkout):
    (one,) = json.loads(checkout.run("cookbook", "list", "--json").stdout)
    assert one == {
        "id": "sqlite/greet",
        "title": "Say hello",
        "engine": ["sqlite"],
        "page": "docs/sqlite/greet.md",
        "recipe": "recipes/sqlite/greet.py",
        "output": "recipes/sqlite/greet.out",
        "test": "tests/recipes/sqlite/test_greet.py",
    }


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["run", "sqlite/gret"], "no recipe 'sqlite/gret': did you mean sqlite/greet"),
        (["list", "sqlit"], "no recipe 'sqlit': did you mean sqlite"),
        (["verify", "mysql"], "no recipe 'mysql'"),
        (["up", "postgres"], "no engine 'postgres': did you mean postgresql"),
        (["down", "postgres"], "no engine 'postgres': did you mean postgresql"),
        (["run", "sqlite/greet", "--provider", "nativ"], "did you mean native"),
        (["verify", "--provider", "nativ"], "did you mean native"),
        (["new", "Load Rows"], "'Load Rows' is no CHAPTER/VERB_NOUN"),
        (["new", "analytics/count"], "the chapter 'analytics' is not an engine"),
        (["new", "analytics/count", "--needs", "sqlit"], "did you mean sqlite"),
        (["new", "sqlite/greet"], "there is already"),
    ],
)
def test_a_wrong_name_is_one_line_with_the_nearest(checkout, command, said):
    done = checkout.run("cookbook", *command)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_a_bad_address_is_one_line_without_the_password(checkout):
    address = "redis://:hunter2@127.0.0.1:1/0"
    done = checkout.run("cookbook", "up", "redis", REDIS_URL=address)
    assert done.returncode == 2
    assert "REDIS_URL is set, but Redis cannot be reached there" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "hunter2" not in done.stdout + done.stderr


def test_run_prints_what_the_recipe_prints(checkout):
    done = checkout.run("cookbook", "run", "sqlite/greet")
    assert done.returncode == 0
    assert done.stdout == "hello reader\n"
    assert "sqlite/greet on SQLite" in done.stderr


def test_run_ends_as_the_recipe_ends(checkout):
    checkout.write("recipes/sqlite/greet.py", '"""Fail."""\nraise SystemExit(7)\n')
    assert checkout.run("cookbook", "run", "sqlite/greet").returncode == 1


def test_up_keeps_an_engine_that_others_use_until_down(checkout):
    up = checkout.run("cookbook", "up", "redis")
    assert up.returncode == 0, up.stderr
    assert "redis:" in up.stdout
    file = checkout.root / "build/cookbook.env"
    assert file.stat().st_mode & 0o077 == 0
    address = file.read_text().strip().partition("=")[2]
    assert address not in up.stdout
    assert "embedded, up" in checkout.run("cookbook", "doctor").stdout
    again = checkout.run("cookbook", "up", "redis")
    assert again.returncode == 0
    assert len(list((checkout.root / "tmp").glob("cookbook-*/*"))) == 1
    down = checkout.run("cookbook", "down")
    assert down.stdout == "stopped: redis\n"
    assert list((checkout.root / "tmp").glob("cookbook-*/*")) == []
    assert not file.exists()
    assert checkout.run("cookbook", "down").stdout == "none was up\n"


def test_doctor_says_what_is_missing(checkout):
    told = checkout.run("cookbook", "doctor", "--provider", "external").stdout
    assert "no external MySQL: set MYSQL_URL" in told


def test_a_recipe_for_any_database_is_verified_on_each(checkout):
    checkout.run("cookbook", "new", "sqlalchemy/count_rows", "--needs", "database")
    done = checkout.run("cookbook", "verify", "sqlalchemy")
    assert done.returncode == 0, done.stdout + done.stderr
    used = {record.engines[0].engine for record in checkout.records()}
    assert {"sqlite", "postgresql"} <= used
    assert "on SQLite" in checkout.run("cookbook", "run", "sqlalchemy").stderr


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("sqlite/count_rows", []),
        ("redis/count_keys", []),
        ("postgresql/count_rows", []),
        ("mysql/count_rows", []),
        ("analytics/count_rows", ["--needs", "sqlite"]),
    ],
)
def test_a_new_recipe_passes_as_it_is(checkout, name, more):
    made = checkout.run("cookbook", "new", name, *more)
    assert made.returncode == 0, made.stderr
    done = checkout.run("cookbook", "verify", name)
    assert done.returncode == 0, done.stdout + done.stderr
    if "1 verified" not in done.stdout:
        pytest.skip(done.stdout)
    (record,) = checkout.records()
    assert [test.outcome for test in record.tests] == ["passed"] * 3
    files = [f"recipes/{name}.py", "tests/recipes"]
    assert checkout.run("ruff", "check", *files).returncode == 0
    assert checkout.run("ruff", "format", "--check", *files).returncode == 0
    types = checkout.run("mypy", f"--cache-dir={ROOT}/.mypy_cache", files[0])
    assert types.returncode == 0, types.stdout
    page = checkout.root / f"docs/{name.replace('_', '-')}.md"
    assert f"<!-- verified strip {name} -->" in page.read_text()
