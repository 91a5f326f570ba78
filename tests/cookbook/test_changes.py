"""What a change touches: the recipes, and the jobs that run them."""

import json
import subprocess

import pytest

from cookbook import changes
from cookbook.catalog import Recipe, all_recipes
from cookbook.errors import CookbookError

ALL = [recipe.id for recipe in all_recipes()]


def ids(*paths: str) -> list[str]:
    return [recipe.id for recipe in changes.touched(paths)]


def test_a_recipe_touches_itself():
    assert ids("recipes/redis/lock_safely.py") == ["redis/lock_safely"]
    assert ids("recipes/redis/lock_safely.out") == ["redis/lock_safely"]


def test_a_test_touches_all_variants_that_share_it():
    both = ["mysql/bulk_insert", "mysql/bulk_insert_connector"]
    assert ids("tests/recipes/mysql/test_bulk_insert.py") == both


def test_what_a_chapter_shares_touches_the_chapter():
    chapter = [name for name in ALL if name.startswith("redis/")]
    assert ids("tests/recipes/redis/conftest.py") == chapter


def test_an_engine_touches_what_runs_on_it():
    serves = {"mariadb", "mysql", "database"}
    on_mariadb = [r.id for r in all_recipes() if serves & {*r.needs}]
    assert ids("cookbook/engines/mariadb.py") == on_mariadb
    needs_two = "cdc/consume_idempotently"
    assert needs_two in ids("cookbook/engines/kafka.py")
    assert needs_two in ids("cookbook/engines/postgresql.py")
    assert needs_two not in ids("cookbook/engines/redis.py")


@pytest.mark.parametrize(
    "path",
    [
        "cookbook/runner.py",
        "cookbook/engines/base.py",
        "cookbook/engines/gone.py",
        "tests/recipes/conftest.py",
        "tests/recipes/support/fault_proxy.py",
        "tests/recipes/support/gone.py",
        "tests/recipes/test_output.py",
        "requirements.lock",
        "pyproject.toml",
        "docker-compose.yml",
        ".github/workflows/ci.yml",
        "what_nobody_knows.txt",
    ],
)
def test_the_machinery_and_the_unknown_touch_all(path):
    assert ids(path) == ALL


@pytest.mark.parametrize(
    "path",
    [
        "docs/redis/lock-safely.md",
        "README.md",
        "benchmarks/run.py",
        "tests/cookbook/test_changes.py",
        "tests/site/test_pages.py",
        "cookbook/publish.py",
        "recipes/redis/gone.py",
        "tests/recipes/redis/test_gone.py",
    ],
)
def test_pages_and_what_is_gone_touch_nothing(path):
    assert ids(path) == []


def test_a_deleted_test_touches_its_recipe(monkeypatch):
    monkeypatch.setattr(Recipe, "test", None)
    assert ids("tests/recipes/redis/test_lock_safely.py") == ["redis/lock_safely"]


def test_a_job_holds_the_recipes_of_one_engine():
    found = changes.jobs([Recipe("cdc/consume_idempotently"), Recipe("mysql/connect")])
    kafka, mysql = found
    assert kafka == changes.Job(
        engine="kafka",
        require=("kafka", "postgresql"),
        services=("kafka", "postgresql"),
        fetches=(),
        recipes=("cdc/consume_idempotently",),
    )
    assert mysql.require == mysql.services == ("mariadb", "mysql")


def test_a_library_is_no_service():
    (job,) = changes.jobs([Recipe("sqlite/connect")])
    assert (job.require, job.services) == (("sqlite",), ())


def test_what_needs_no_engine_goes_where_none_is_started(monkeypatch):
    monkeypatch.setattr(Recipe, "needs", ())
    (job,) = changes.jobs([Recipe("redis/connect_pool")])
    assert (job.engine, job.require, job.services) == ("sqlite", (), ())


def test_every_recipe_is_in_one_job():
    found = [name for job in changes.jobs(all_recipes()) for name in job.recipes]
    assert sorted(found) == ALL


def git(checkout, *arguments: str) -> str:
    who = ("-c", "user.name=Cook", "-c", "user.email=cook@example.com")
    command = ["git", *who, *arguments]
    done = subprocess.run(command, cwd=checkout.root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_jobs_since_a_commit(checkout):
    git(checkout, "init", "--quiet")
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message=one")
    base = git(checkout, "rev-parse", "HEAD")
    empty = checkout.run("cookbook", "jobs", "--json", "--since", base)
    assert json.loads(empty.stdout) == []
    checkout.write("recipes/sqlite/greet.out", "hello you\n")
    git(checkout, "commit", "--quiet", "--all", "--message=two")
    (job,) = json.loads(
        checkout.run("cookbook", "jobs", "--json", "--since", base).stdout
    )
    assert job == {
        "engine": "sqlite",
        "require": ["sqlite"],
        "services": [],
        "fetches": [],
        "recipes": ["sqlite/greet"],
    }
    assert "sqlite/greet" in checkout.run("cookbook", "merge", "--since", base).stdout


def test_an_unknown_commit_is_one_line():
    with pytest.raises(CookbookError, match="what changed since nowhere"):
        changes.changed_files("nowhere")


def test_merge_wants_only_what_was_touched(checkout):
    assert checkout.run("cookbook", "verify", "sqlite/greet").returncode == 0
    ledger = "build/ledger.json"
    assert checkout.run("cookbook", "merge", ledger).returncode == 0
    checkout.write("recipes/sqlite/other.py", '"""Another."""\n')
    done = checkout.run("cookbook", "merge", ledger)
    assert done.returncode == 1
    assert "Not verified: sqlite/other" in done.stdout


def test_verify_takes_several_names(checkout):
    done = checkout.run("cookbook", "verify", "sqlite/greet", "sqlite")
    assert done.returncode == 0, done.stdout
    assert "1 verified" in done.stdout
