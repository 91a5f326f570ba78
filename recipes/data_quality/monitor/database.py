"""Connections that end: with timeouts, and read-only for the checks."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    MetaData,
    Table,
    create_engine,
    func,
    make_url,
    select,
)
from sqlalchemy.exc import NoSuchTableError, SQLAlchemyError

from .config import ConfigError

CONNECT_WITHIN = 10  # seconds
_CONNECT_TIMEOUT = {  # how each driver calls it
    "mysqlconnector": "connection_timeout",
    "mysqldb": "connect_timeout",
    "oracledb": "tcp_connect_timeout",
    "psycopg": "connect_timeout",
    "psycopg2": "connect_timeout",
    "pymysql": "connect_timeout",
    "pyodbc": "timeout",
    "pysqlite": "timeout",
}


class CheckError(Exception):
    """A check cannot run as it is configured; the message says why."""


def open_engine(url: str) -> Engine:
    """Raises ConfigError for an address that is none, or a driver that is missing."""
    try:
        parsed = make_url(url)
        known = _CONNECT_TIMEOUT.get(parsed.get_driver_name())
        options = {known: CONNECT_WITHIN} if known else {}
        return create_engine(parsed, connect_args=options, pool_pre_ping=True)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        raise ConfigError(f"the address of the database: {error}") from None


# --8<-- [start:reading]
@contextmanager
def reading(engine: Engine, seconds: int) -> Iterator[Connection]:
    """A connection that cannot write, speaks UTC, and stops a slow statement.

    Other engines than these: give the account of the monitor no right to write, and a
    limit, in the database itself.
    """
    with engine.connect() as conn:
        conn.detach()  # closed afterwards: nobody else gets a session set like this
        match conn.dialect.name:
            case "postgresql":
                conn.exec_driver_sql("SET TRANSACTION READ ONLY")
                settings = {"statement_timeout": f"{seconds}s", "TimeZone": "UTC"}
                for name, value in settings.items():
                    conn.execute(select(func.set_config(name, value, True)))
            case "mysql" | "mariadb":
                limit = f"max_execution_time = {seconds * 1000}"
                if getattr(conn.dialect, "is_mariadb", False):
                    limit = f"max_statement_time = {seconds}"
                conn.exec_driver_sql(f"SET SESSION {limit}, time_zone = '+00:00'")
                conn.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")
            case "sqlite":
                conn.exec_driver_sql("PRAGMA query_only = ON")
                end = time.monotonic() + seconds
                raw: Any = conn.connection.dbapi_connection
                raw.set_progress_handler(lambda: time.monotonic() > end, 10_000)
        yield conn


# --8<-- [end:reading]


def reflect(conn: Connection, name: str, schema: str | None) -> Table:
    """The table as the database has it. Raises CheckError."""
    try:
        return Table(
            name, MetaData(), schema=schema, autoload_with=conn, resolve_fks=False
        )
    except NoSuchTableError:
        full = f"{schema}.{name}" if schema else name
        raise CheckError(f"there is no table {full}") from None


def column(table: Table, name: str) -> Column[object]:
    """Raises CheckError."""
    if name not in table.c:
        raise CheckError(f"the table {table.fullname} has no column {name}")
    return table.c[name]
