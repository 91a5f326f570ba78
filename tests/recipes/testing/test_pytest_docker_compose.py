import os
import subprocess

import psycopg
import pytest

from cookbook.engines import compose, engine
from recipes.testing.pytest_docker_compose import COMPOSE, address, services
from tests.recipes.testing.conftest import docker_ps

OURS = "label=com.docker.compose.service=db"
TESTS = """
import psycopg
import pytest

@pytest.mark.parametrize("n", range(6))
def test_answers(dsn, n):
    with psycopg.connect(dsn) as conn:
        print("server", conn.info.port)
"""


@pytest.fixture
def compose_file(tmp_path, monkeypatch):
    monkeypatch.setenv("POSTGRES_PASSWORD", "once only")
    file = tmp_path / "docker-compose.yml"
    file.write_text(COMPOSE)
    return file


def test_can_be_logged_in_to_and_is_removed(docker, compose_file):
    """The address is one that can be logged in to; afterwards no container is left."""
    before = docker_ps(OURS)
    with services(compose_file) as running:
        with psycopg.connect(address(running, "once only")) as conn:
            assert conn.execute("SELECT current_database()").fetchone() == ("app",)
            assert conn.info.host == "127.0.0.1"
        assert len(docker_ps(OURS)) == len(before) + 1
    assert docker_ps(OURS) == before


def test_two_runs_at_once_do_not_meet(docker, compose_file):
    """Two runs of the same file: two servers, on two ports."""
    with services(compose_file) as one, services(compose_file) as two:
        assert one.port_for("db", 5432) != two.port_for("db", 5432)


def test_is_removed_when_it_does_not_get_ready(docker, compose_file):
    """It cannot be logged in to in time: an error, and no container is left."""
    before = docker_ps(OURS)
    with pytest.raises(Exception, match="Timeout"), services(compose_file) as running:
        address(running, "wrong password", seconds=0.5)
    assert docker_ps(OURS) == before


def test_a_missing_password_is_refused(docker, compose_file, monkeypatch):
    """Without the variable of the password nothing is started."""
    before = docker_ps(OURS)
    monkeypatch.delenv("POSTGRES_PASSWORD")
    with pytest.raises(Exception, match="POSTGRES_PASSWORD"), services(compose_file):
        pass
    assert docker_ps(OURS) == before


def test_the_workers_share_the_services(project, compose_file):
    """Six tests on two workers: one server, which is gone afterwards."""
    before = docker_ps(OURS)
    done = project("-p", "pytest_docker_compose", "-n2", "-rP", test_app=TESTS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout
    assert len({line for line in done.stdout.splitlines() if "server " in line}) == 1
    assert docker_ps(OURS) == before


def test_starts_nothing_to_collect(project, compose_file):
    """With --collect-only no container is started."""
    before = docker_ps(OURS)
    arguments = ("-p", "pytest_docker_compose", "--collect-only")
    assert "6 tests collected" in project(*arguments, test_app=TESTS).stdout
    assert docker_ps(OURS) == before


def test_runs_the_version_that_the_project_runs():
    """The image is the one that docker-compose.yml of this cookbook names."""
    assert f"image: {compose.image(engine('postgresql'))}\n" in COMPOSE


# --8<-- [start:wrong]
WRONG = """
import pytest

@pytest.fixture(scope="session")
def docker_compose_file(pytestconfig):
    return pytestconfig.rootpath / "docker-compose.yml"

@pytest.fixture(scope="session")
def port(docker_services):
    return docker_services.port_for("db", 5432)
"""
# --8<-- [end:wrong]


def test_often_copied_fixture_starts_the_services_for_each_worker(
    project, compose_file
):
    """Often copied: two workers start every service twice."""
    test = (
        "\n\n@pytest.mark.parametrize('n', range(6))\n"
        "def test_it(port, n):\n    print('server', port)\n"
    )
    done = project("-n2", "-rP", test_app=WRONG + test)
    assert "6 passed" in done.stdout
    assert len({line for line in done.stdout.splitlines() if "server " in line}) == 2


def test_often_copied_setup_leaves_what_does_not_get_healthy(project, compose_file):
    """Often copied: a service that never gets healthy is left behind, running."""
    unhealthy = '    healthcheck: {test: [CMD, "false"], interval: 1s, retries: 1}\n'
    compose_file.write_text(COMPOSE + unhealthy)
    before = docker_ps(OURS)
    done = project(test_app=WRONG + "\n\ndef test_it(port):\n    pass\n")
    left = docker_ps(OURS) - before
    subprocess.run(
        ["docker", "rm", "--force", *left], capture_output=True, env=os.environ
    )
    assert done.returncode == 1
    assert "is unhealthy" in done.stdout
    assert len(left) == 1
