import psycopg
import pytest

from cookbook.engines import compose, engine
from recipes.testing.testcontainers_postgresql import (
    IMAGE,
    SCHEMA,
    database,
    postgresql,
)
from tests.recipes.testing.conftest import docker_ps

OURS = "label=org.testcontainers"
TESTS = """
import os
import psycopg
import pytest

@pytest.mark.parametrize("n", range(6))
def test_starts_empty(dsn, n):
    with psycopg.connect(dsn) as conn:
        conn.execute("INSERT INTO account VALUES ('alice', 1)")
        print("server", conn.info.port)
"""


@pytest.fixture
def server(docker):
    with postgresql(SCHEMA) as url:
        yield url


def test_a_test_has_the_schema_and_no_data_of_another(docker, server):
    """Two databases at once: both have the schema, neither sees the other's row."""
    with database(server) as one, database(server) as two:
        with psycopg.connect(one) as conn:
            conn.execute("INSERT INTO account VALUES ('alice', 10)")
        with psycopg.connect(two) as conn:
            assert conn.execute("SELECT * FROM account").fetchall() == []


def test_the_database_goes_even_if_the_test_left_a_connection(docker, server):
    """A test that fails and leaves a connection open: its database is gone."""

    def fail() -> None:
        with database(server) as address:
            left.append(psycopg.connect(address))
            raise ValueError(address)

    left: list[psycopg.Connection] = []
    with pytest.raises(ValueError) as failure:
        fail()
    with pytest.raises(psycopg.OperationalError, match="terminating connection"):
        left[0].execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(str(failure.value))


def test_the_container_is_removed_also_after_an_error(docker):
    """An error inside the block, here in the schema: the container is removed."""
    before = docker_ps(OURS)
    with pytest.raises(psycopg.errors.SyntaxError), postgresql("CREATE TABL account"):
        pass
    assert docker_ps(OURS) == before


def test_the_workers_share_one_container(project):
    """Six tests on two workers: they pass on one server, which is gone afterwards."""
    before = docker_ps(OURS)
    arguments = ("-p", "testcontainers_postgresql", "-n2", "-rP")
    done = project(*arguments, test_app=TESTS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout
    assert len({line for line in done.stdout.splitlines() if "server " in line}) == 1
    assert docker_ps(OURS) == before


def test_starts_nothing_to_collect(project):
    """With --collect-only no container is started."""
    before = docker_ps(OURS)
    arguments = ("-p", "testcontainers_postgresql", "--collect-only")
    done = project(*arguments, test_app=TESTS)
    assert "6 tests collected" in done.stdout
    assert docker_ps(OURS) == before


def test_runs_the_version_that_the_project_runs():
    """The image is the one that docker-compose.yml names."""
    assert compose.image(engine("postgresql")) == IMAGE


# --8<-- [start:wrong]
WRONG = """
import pytest
from testcontainers.postgres import PostgresContainer

@pytest.fixture(scope="session")
def url():
    with PostgresContainer("postgres:18.6") as postgres:
        yield postgres.get_connection_url()
"""
# --8<-- [end:wrong]


def test_often_copied_import_is_deprecated(project):
    """Often copied: with warnings as errors, the old import path ends the run."""
    done = project("-W", "error", test_app=WRONG)
    assert done.returncode != 0
    assert "DeprecationWarning" in done.stdout


def test_often_copied_url_is_for_another_driver(project):
    """Often copied: psycopg cannot read the URL, which names SQLAlchemy's psycopg2."""
    test = "\nimport psycopg\n\ndef test_it(url):\n    psycopg.connect(url)\n"
    done = project("-W", "ignore", test_app=WRONG + test)
    assert done.returncode == 1
    assert "postgresql+psycopg2" in done.stdout


def test_often_copied_fixture_starts_a_container_for_each_worker(project):
    """Often copied: two workers start two servers."""
    test = (
        "\n\n@pytest.mark.parametrize('n', range(6))\n"
        "def test_it(url, n):\n    print('server', url.rpartition(':')[2])\n"
    )
    done = project("-W", "ignore", "-n2", "-rP", test_app=WRONG + test)
    assert "6 passed" in done.stdout
    assert len({line for line in done.stdout.splitlines() if "server " in line}) == 2
