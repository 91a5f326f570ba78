# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "pytest>=9"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Give each worker a database of its own.

The workers of pytest-xdist run tests at the same time, on one server. The schema is
loaded once, and each worker gets a copy. For tests that commit, also on several
connections.
"""

import os
import sys
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

SCHEMA = """
CREATE TABLE country (code text PRIMARY KEY);
INSERT INTO country VALUES ('CH'), ('FR');
CREATE TABLE customer (id serial, country text NOT NULL REFERENCES country);
"""


# --8<-- [start:copy]
@contextmanager
def template(server: str, schema: str) -> Iterator[str]:
    """Make a database to copy, and give its name; at the end drop it and its copies."""
    name = f"test_{uuid4().hex[:12]}"  # two runs on one server do not meet
    on_server(server, "CREATE DATABASE {}", name)
    try:
        with psycopg.connect(server, dbname=name, connect_timeout=5) as conn:
            conn.execute(schema)
        # A connection to it would stop every copy.
        on_server(server, "ALTER DATABASE {} ALLOW_CONNECTIONS false", name)
        yield name
    finally:
        query = "SELECT datname FROM pg_database WHERE starts_with(datname, %s)"
        with psycopg.connect(server, connect_timeout=5) as conn:
            made = conn.execute(query, (name,)).fetchall()
        for row in made:
            on_server(server, "DROP DATABASE {} WITH (FORCE)", *row)


def copy(server: str, template: str, worker: str) -> str:
    """Copy the template for a worker; give the address of the copy."""
    name = f"{template}_{worker}"
    on_server(server, "CREATE DATABASE {} TEMPLATE {}", name, template)
    return make_conninfo(server, dbname=name, connect_timeout=5)


def on_server(server: str, statement: LiteralString, *names: str) -> None:
    """Run a statement that no transaction may hold, with these names in it."""
    with psycopg.connect(server, autocommit=True, connect_timeout=5) as conn:
        conn.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def empty(address: str, keep: Collection[str] = ()) -> None:
    """Empty all tables but these, and start their ids anew.

    Raises LockNotAvailable if a test left a transaction open.
    """
    query = (
        "SELECT schemaname, tablename FROM pg_tables"
        " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        " AND tablename <> ALL (%s)"
    )
    with psycopg.connect(address, options="-c lock_timeout=2s") as conn:
        if tables := conn.execute(query, (list(keep),)).fetchall():
            names = sql.SQL(", ").join(sql.Identifier(*table) for table in tables)
            conn.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(names))


# --8<-- [end:copy]


# --8<-- [start:plugin]
TEMPLATE = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the template, unless this is a worker: that one is told its name."""
    if hasattr(config, "workerinput"):
        config.stash[TEMPLATE] = config.workerinput["template"]
    elif not config.option.collectonly:
        stack = ExitStack()
        config.add_cleanup(stack.close)  # after the workers, also those that crashed
        made = template(os.environ["POSTGRESQL_URL"], SCHEMA)
        config.stash[TEMPLATE] = stack.enter_context(made)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["template"] = node.config.stash[TEMPLATE]


@pytest.fixture(scope="session")
def own_database(pytestconfig: pytest.Config) -> str:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    return copy(os.environ["POSTGRESQL_URL"], pytestconfig.stash[TEMPLATE], worker)


@pytest.fixture
def dsn(own_database: str) -> Iterator[str]:
    """The address of this worker's database; emptied after the test."""
    yield own_database
    empty(own_database, keep=["country"])


# --8<-- [end:plugin]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def main() -> None:
    server = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    with template(server, SCHEMA) as name:
        for worker in ("gw0", "gw1"):
            with psycopg.connect(copy(server, name, worker)) as conn:
                conn.execute("INSERT INTO customer (country) VALUES ('CH')")
                found = conn.execute("SELECT id, country FROM customer").fetchall()
                print(f"{worker} sees:", found)


if __name__ == "__main__":
    main()
