# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "pytest>=9", "testcontainers>=4.15"]
# [tool.cookbook]
# needs = ["docker"]
# ///
"""Test on a PostgreSQL in a container of its own.

One container for the whole run, shared by the workers of xdist, and for each test a
database copied from a template. For tests that must see what production sees.
"""

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from testcontainers.community.postgres import PostgresContainer

IMAGE = "postgres:18.6"  # production's version; `latest` changes under you
SCHEMA = "CREATE TABLE account (name text PRIMARY KEY, balance numeric NOT NULL)"


# --8<-- [start:server]
@contextmanager
def postgresql(schema: str) -> Iterator[str]:
    """Start PostgreSQL, with the schema in the database `template`; give its URL."""
    with PostgresContainer(
        IMAGE,
        username="test",
        password=secrets.token_urlsafe(),  # its port is open to the network
        dbname="template",
        driver=None,  # or the URL is SQLAlchemy's, for psycopg2
        command=["postgres", "-c", "fsync=off", "-c", "full_page_writes=off"],
    ) as container:
        url = container.get_connection_url()
        with psycopg.connect(url, connect_timeout=10) as conn:
            conn.execute(schema)
        yield make_conninfo(url, connect_timeout=10)


@contextmanager
def database(server: str) -> Iterator[str]:
    """Make a copy of the template; give its address, and drop it afterwards."""
    name = f"test_{uuid4().hex}"
    admin = make_conninfo(server, dbname="postgres")
    with psycopg.connect(admin, autocommit=True) as conn:
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE template")
        conn.execute(copy.format(sql.Identifier(name)))
        try:
            yield make_conninfo(server, dbname=name)
        finally:
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")  # ends what is connected
            conn.execute(drop.format(sql.Identifier(name)))


# --8<-- [end:server]


# --8<-- [start:plugin]
SERVER = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Start the server, unless this is a worker: that one is told where it is."""
    if hasattr(config, "workerinput"):
        config.stash[SERVER] = config.workerinput["server"]
    elif not config.option.collectonly:
        stack = ExitStack()
        config.add_cleanup(stack.close)  # after the workers
        config.stash[SERVER] = stack.enter_context(postgresql(SCHEMA))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["server"] = node.config.stash[SERVER]


@pytest.fixture
def dsn(pytestconfig: pytest.Config) -> Iterator[str]:
    """The address of a database with the schema, for one test."""
    with database(pytestconfig.stash[SERVER]) as address:
        yield address


# --8<-- [end:plugin]


def main() -> None:
    if not os.environ.get("DOCKER_HOST"):
        example = "unix:///var/run/docker.sock"
        sys.exit(f"Set DOCKER_HOST, for example {example}, and start Docker")
    with postgresql(SCHEMA) as server:
        for test in ("first", "second"):
            with database(server) as address, psycopg.connect(address) as conn:
                conn.execute("INSERT INTO account VALUES ('alice', 10)")
                rows = conn.execute("SELECT name, balance FROM account").fetchall()
                print(f"the {test} test sees:", rows)


if __name__ == "__main__":
    main()
