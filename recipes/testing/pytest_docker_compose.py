# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "pytest>=9", "pytest-docker>=3.2.6"]
# [tool.cookbook]
# needs = ["docker"]
# ///
"""Test on the services of docker-compose.yml.

The file with which developers start their databases is the one that the tests use,
under a project name of its own. pytest-docker starts and removes it, once for a run.
"""

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pytest_docker.plugin import Services, get_docker_services

# --8<-- [start:compose]
COMPOSE = """
services:
  db:
    image: postgres:18.6
    environment:
      POSTGRES_USER: test
      POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:?}
      POSTGRES_DB: app
    tmpfs: [/var/lib/postgresql]
    ports: ["127.0.0.1::5432"] # a free port, and not for the network
"""
# --8<-- [end:compose]


# --8<-- [start:services]
@contextmanager
def services(file: Path) -> Iterator[Services]:
    """Start the services of a compose file; afterwards remove them and their data."""
    with get_docker_services(
        "docker compose",
        str(file),
        f"test-{uuid4().hex}",  # not the developer's project, nor another run's
        "up --detach --quiet-pull",
        "down --volumes --remove-orphans --timeout 3",
    ) as running:
        yield running


def address(running: Services, password: str, seconds: float = 60) -> str:
    """Wait until the database can be logged in to; give its address.

    Raises Exception if that takes longer.
    """
    port = running.port_for("db", 5432)
    dsn = make_conninfo(
        f"postgresql://test@127.0.0.1:{port}/app", password=password, connect_timeout=5
    )
    running.wait_until_responsive(lambda: can_log_in(dsn), timeout=seconds, pause=0.2)
    return dsn


def can_log_in(dsn: str) -> bool:
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        return False  # a port that is open is not yet a database
    return True


# --8<-- [end:services]


# --8<-- [start:plugin]
DSN = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Start the services, unless this is a worker: that one is told where they are."""
    if hasattr(config, "workerinput"):
        config.stash[DSN] = config.workerinput["dsn"]
    elif not config.option.collectonly:
        password = os.environ["POSTGRES_PASSWORD"] = secrets.token_urlsafe()
        stack = ExitStack()
        config.add_cleanup(stack.close)  # after the workers
        running = stack.enter_context(services(config.rootpath / "docker-compose.yml"))
        config.stash[DSN] = address(running, password)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["dsn"] = node.config.stash[DSN]


@pytest.fixture(scope="session")
def dsn(pytestconfig: pytest.Config) -> str:
    """The address of the service `db`."""
    return pytestconfig.stash[DSN]


# --8<-- [end:plugin]


def main() -> None:
    if not os.environ.get("DOCKER_HOST"):
        example = "unix:///var/run/docker.sock"
        sys.exit(f"Set DOCKER_HOST, for example {example}, and start Docker")
    file = Path("docker-compose.yml")
    file.write_text(COMPOSE)
    password = os.environ["POSTGRES_PASSWORD"] = secrets.token_urlsafe()
    with services(file) as running, psycopg.connect(address(running, password)) as conn:
        print("logged in to:", conn.execute("SELECT current_database()").fetchone())


if __name__ == "__main__":
    main()
