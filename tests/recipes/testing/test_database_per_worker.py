"""database_per_worker: workers do not meet, and nothing is left."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import errors

from recipes.testing.database_per_worker import SCHEMA, copy, empty, template
from tests.recipes.testing.conftest import run_pytest


def names_like(server: str, prefix: str) -> list[str]:
    query = "SELECT datname FROM pg_database WHERE starts_with(datname, %s) ORDER BY 1"
    with psycopg.connect(server) as conn:
        return [name for (name,) in conn.execute(query, (prefix,))]


def add(address: str, country: str = "CH") -> None:
    with psycopg.connect(address) as conn:
        conn.execute("INSERT INTO customer (country) VALUES (%s)", (country,))


def customers(address: str) -> list[tuple]:
    with psycopg.connect(address) as conn:
        return conn.execute("SELECT id, country FROM customer ORDER BY id").fetchall()


@pytest.fixture
def worker(postgresql):
    """The address of a worker's database."""
    with template(postgresql, SCHEMA) as name:
        yield copy(postgresql, name, "gw0")


def test_workers_do_not_meet(postgresql):
    """Each copy has the schema and the countries; no worker sees a row of another."""
    with template(postgresql, SCHEMA) as name:
        one, two = (copy(postgresql, name, worker) for worker in ("gw0", "gw1"))
        add(one)
        add(one)
        add(two, "FR")
        assert customers(one) == [(1, "CH"), (2, "CH")]
        assert customers(two) == [(1, "FR")]


def test_workers_copy_at_the_same_time(postgresql):
    """Four workers copy the template at the same moment: all get their database."""
    start = threading.Barrier(4)

    def work(number: int) -> list[tuple]:
        start.wait()
        address = copy(postgresql, name, f"gw{number}")
        add(address)
        return customers(address)

    with template(postgresql, SCHEMA) as name, ThreadPoolExecutor(4) as threads:
        assert list(threads.map(work, range(4))) == [[(1, "CH")]] * 4


def test_runs_do_not_meet(postgresql):
    """Two runs on the same server: the end of one takes no database of the other."""
    with template(postgresql, SCHEMA) as mine:
        address = copy(postgresql, mine, "gw0")
        with template(postgresql, SCHEMA) as other:
            copy(postgresql, other, "gw0")
        assert names_like(postgresql, other) == []
        add(address)
        assert customers(address) == [(1, "CH")]


def test_nothing_is_left(postgresql):
    """All databases are dropped at the end, also one that is still connected to."""
    with template(postgresql, SCHEMA) as name:
        left = psycopg.connect(copy(postgresql, name, "gw0"))
        assert names_like(postgresql, name) == [name, f"{name}_gw0"]
    assert names_like(postgresql, name) == []
    with pytest.raises(psycopg.OperationalError):
        left.execute("SELECT 1")


def test_nothing_is_left_by_a_bad_schema(postgresql):
    """A mistake in the schema is raised, and the database that was begun is dropped."""
    schema = "CREATE TABLE one (name text); INSERT INTO one SELECT current_database();"
    with (
        pytest.raises(errors.InvalidTextRepresentation) as failure,
        template(postgresql, schema + "SELECT name::int FROM one"),
    ):
        pass
    name = str(failure.value).split('"')[1]
    assert name.startswith("test_")
    assert names_like(postgresql, name) == []


def test_the_servers_own_database_is_not_touched(postgresql):
    """The database of the given address stays empty: no test writes to it."""
    with template(postgresql, SCHEMA) as name:
        add(copy(postgresql, name, "gw0"))
        with psycopg.connect(postgresql) as conn:
            tables = "SELECT FROM pg_tables WHERE schemaname = 'public'"
            assert conn.execute(tables).fetchall() == []


def test_nobody_can_hold_the_template(postgresql):
    """Nobody can connect to the template, which would stop the copies."""
    with (
        template(postgresql, SCHEMA) as name,
        pytest.raises(psycopg.OperationalError, match="not currently accepting"),
    ):
        psycopg.connect(postgresql, dbname=name)


def test_empty(worker):
    """After emptying, the rows are gone, ids start at 1, and the tables to keep have
    their rows. A schema or a table may have any name."""
    with psycopg.connect(worker) as conn:
        conn.execute('CREATE SCHEMA "my schema"')
        conn.execute("""CREATE TABLE "my schema"."or""der" AS SELECT 1 AS one""")
    add(worker)
    empty(worker, keep=["country"])
    add(worker, "FR")
    assert customers(worker) == [(1, "FR")]
    with psycopg.connect(worker) as conn:
        left = conn.execute("""SELECT * FROM "my schema"."or""der" """).fetchall()
        assert left == []


def test_empty_without_tables(postgresql):
    """A database without tables is empty as it is."""
    empty(postgresql)


def test_what_is_kept_is_not_emptied_through_a_reference(worker):
    """A table to keep that refers to one that is emptied is an error: no row is lost.
    It has to be kept with the other."""
    add(worker)
    with pytest.raises(errors.FeatureNotSupported):
        empty(worker, keep=["customer"])
    assert customers(worker) == [(1, "CH")]


def test_a_transaction_left_open(worker):
    """A test left a transaction open: after two seconds there is an error, and the run
    does not hang."""
    with psycopg.connect(worker) as left:
        left.execute("SELECT * FROM customer")
        started = time.monotonic()
        with pytest.raises(errors.LockNotAvailable):
            empty(worker)
    assert 1.5 < time.monotonic() - started < 30


TESTS = """
import psycopg
import pytest

@pytest.mark.parametrize("n", range(6))
def test_starts_empty(dsn, n):
    with psycopg.connect(dsn) as conn:
        conn.execute("INSERT INTO customer (country) VALUES ('CH')")
    with psycopg.connect(dsn) as conn:
        assert conn.execute("SELECT * FROM customer").fetchall() == [(1, "CH")]
        print("database", conn.info.dbname)
"""
CRASH = """

def test_crash(dsn):
    import os
    open(os.environ["NAMES"], "a").write(dsn)
    os._exit(3)
"""


@pytest.fixture
def project(postgresql, tmp_path):
    def run(*arguments, tests=TESTS, url=postgresql):
        plugins = ("-p", "xdist", "-p", "no:cacheprovider", "-p", "database_per_worker")
        env = {
            "POSTGRESQL_URL": str(url),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "NAMES": str(tmp_path / "names"),
        }
        return run_pytest(tmp_path, *plugins, *arguments, env=env, test_it=tests)

    return run


def databases(done) -> set[str]:
    lines = done.stdout.splitlines()
    return {line.split()[1] for line in lines if line.startswith("database ")}


def test_with_two_workers(postgresql, project):
    """Two workers run the same six tests, which commit the same row, and pass: in two
    databases, which are gone afterwards, as is their template."""
    done = project("-n2", "--dist=each", "-rP")
    assert "12 passed" in done.stdout, done.stdout + done.stderr
    used = sorted(databases(done))
    assert [name.rpartition("_")[2] for name in used] == ["gw0", "gw1"]
    assert names_like(postgresql, used[0].removesuffix("_gw0")) == []


def test_without_workers(postgresql, project):
    """Without pytest-xdist there is one database, which is gone afterwards."""
    done = project("-n0", "-rP")
    assert "6 passed" in done.stdout, done.stdout + done.stderr
    (name,) = databases(done)
    assert names_like(postgresql, name.removesuffix("_main")) == []


def test_a_worker_that_crashes_leaves_nothing(postgresql, project, tmp_path):
    """A worker that dies in the middle of a test leaves no database behind."""
    done = project("-n1", "--max-worker-restart=0", tests=TESTS + CRASH)
    assert "crashed" in done.stdout, done.stdout + done.stderr
    crashed = psycopg.conninfo.conninfo_to_dict((tmp_path / "names").read_text())
    name = str(crashed["dbname"])
    assert name.endswith("_gw0")
    assert names_like(postgresql, name.removesuffix("_gw0")) == []


def test_nothing_is_made_to_collect(project):
    """With --collect-only no server is needed."""
    done = project("--collect-only", "-q", url="postgresql://127.0.0.1:1/none")
    assert "6 tests collected" in done.stdout, done.stdout + done.stderr


# --8<-- [start:wrong]
def tables_as_often_copied(dsn):  # a fixture of scope "session"
    with psycopg.connect(dsn) as conn:
        conn.execute("DROP TABLE IF EXISTS customer, country")
        conn.execute(SCHEMA)


# --8<-- [end:wrong]


def test_often_copied_second_worker_takes_the_rows_of_the_first(postgresql):
    """Often copied: the second worker drops the tables while the first one has rows in
    them, in the middle of a test."""
    tables_as_often_copied(postgresql)
    add(postgresql)
    tables_as_often_copied(postgresql)
    assert customers(postgresql) == []


def test_often_copied_with_if_not_exists_is_a_race(postgresql):
    """Often copied, with `CREATE TABLE IF NOT EXISTS` in place of `DROP`: of two
    workers that start at the same time, one ends in UniqueViolation."""
    create = "CREATE TABLE IF NOT EXISTS customer (id int)"

    def second() -> None:
        with psycopg.connect(postgresql) as conn:
            conn.execute(create)

    with psycopg.connect(postgresql) as first, ThreadPoolExecutor() as threads:
        first.execute(create)
        work = threads.submit(second)
        wait_until_one_waits(postgresql)
        first.commit()
        with pytest.raises(errors.UniqueViolation):
            work.result(timeout=30)


def wait_until_one_waits(url: str) -> None:
    query = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pg_blocking_pids(pid) <> '{}'
    """
    deadline = time.monotonic() + 30
    with psycopg.connect(url, autocommit=True) as conn:
        while conn.execute(query).fetchone() != (1,):
            assert time.monotonic() < deadline
            time.sleep(0.01)
