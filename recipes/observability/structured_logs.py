# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "structlog>=25.5"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Write structured logs without secrets.

JSON, a line an event, with structlog. Neither passwords nor values of users: the error
of a database quotes the row that it refused, so its text stays out.
"""

import contextlib
import io
import json
import os
import re
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, TextIO

import psycopg
import structlog

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)

# --8<-- [start:logs]
SECRET_NAME = re.compile(r"passw|secret|token|authorization|cookie|api_?key|dsn", re.I)
SECRET_IN_URL = re.compile(r"(\w://[^:/@\s]*):[^@\s]+@")


def hide(value: Any) -> Any:
    """The value without what is called a secret, at any depth."""
    if isinstance(value, dict):
        return {
            name: "***" if SECRET_NAME.search(str(name)) else hide(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [hide(inner) for inner in value]
    return SECRET_IN_URL.sub(r"\1:***@", value) if isinstance(value, str) else value


def hide_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    hidden: dict[str, Any] = hide(dict(event))
    return hidden


def describe_error(
    _: Any, __: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """What happened and where, in place of exc_info. The text may quote a value."""
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else sys.exc_info()[1]
    if given and error:
        event["error"] = type(error).__name__
        frames = traceback.extract_tb(error.__traceback__)
        event["at"] = [f"{it.name}:{it.lineno}" for it in frames]
        if isinstance(error, psycopg.Error) and error.sqlstate:
            event["sqlstate"] = error.sqlstate
            event["constraint"] = error.diag.constraint_name
    return event


def configure_logs(out: TextIO) -> None:
    """Once, when the program starts: every event is a line of JSON in out."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,  # the request's id, say
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            describe_error,
            hide_secrets,
            structlog.processors.JSONRenderer(default=lambda it: type(it).__name__),
        ],
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )


# --8<-- [end:logs]


# --8<-- [start:use]
INSERT = "INSERT INTO customer (email) VALUES (%s)"


def register(conn: psycopg.Connection, email: str) -> None:
    """Store the customer. Raises UniqueViolation, after it has logged it."""
    log = structlog.get_logger().bind(statement=INSERT)  # with placeholders
    try:
        with conn.transaction():
            done = conn.execute(INSERT, (email,))
    except psycopg.Error:
        log.exception("customer refused")
        raise
    log.info("customer registered", rows=done.rowcount)


# --8<-- [end:use]


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    out = io.StringIO()
    configure_logs(out)
    with psycopg.connect(url, connect_timeout=5, autocommit=True) as conn:
        conn.execute("CREATE TABLE customer (email text CONSTRAINT once UNIQUE)")
        with structlog.contextvars.bound_contextvars(request="r-17"):
            register(conn, "ann@example.com")
            with contextlib.suppress(psycopg.errors.UniqueViolation):
                register(conn, "ann@example.com")
    for line in out.getvalue().splitlines():
        event = json.loads(line)
        shown = ("request", "event", "rows", "error")
        print(json.dumps({name: event[name] for name in shown if name in event}))


if __name__ == "__main__":
    main()
