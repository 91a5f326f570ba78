"""Run the checks. One that could not run is an ERROR, whatever the reason was."""

import time
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from .config import Config, ConfigError
from .database import CheckError, reading
from .relation_checks import references, revenue
from .row_checks import completeness, format_, values
from .specs import (
    AnyCheck,
    Completeness,
    CustomSQL,
    Distribution,
    Duplicates,
    Format,
    Freshness,
    References,
    Revenue,
    TableCheck,
    Values,
)
from .status import Found, Result, Run, Status
from .table_checks import custom_sql, distribution, duplicates, freshness


# --8<-- [start:run]
def run(engine: Engine, config: Config, now: datetime) -> Run:
    """Every check, each in a transaction of its own. Raises nothing of a database."""
    now = now.astimezone(UTC).replace(microsecond=0)
    try:
        with engine.connect():
            unreachable = None
    except Exception as error:
        unreachable = describe(error)  # told once for each check, waited for once
    results = [
        _result(spec, Status.ERROR, unreachable, 0)
        if unreachable
        else run_check(engine, spec, now, config.database.timeout)
        for spec in config.checks
    ]
    return Run(config.name, engine.url.render_as_string(), now, results)


def run_check(engine: Engine, spec: AnyCheck, now: datetime, timeout: int) -> Result:
    started = time.monotonic()
    found = None
    try:
        with reading(engine, timeout) as conn:
            found = _look(conn, spec, now)
        status, message = judge(spec, found)
    except Exception as error:  # not even a bug in a check is a PASS
        found, status, message = None, Status.ERROR, describe(error)
    return _result(spec, status, message, time.monotonic() - started, found)


def judge(spec: AnyCheck, found: Found) -> tuple[Status, str]:
    """What was found, against what is allowed."""
    if isinstance(spec, TableCheck) and found.rows < spec.min_rows:
        message = f"{found.rows:,} rows, at least {spec.min_rows:,} expected"
        return Status.FAIL, message
    if found.fault:
        return Status.FAIL, f"{found.message}; {found.fault}"
    if spec.fail_above and not spec.fail_above.allows(found.value, found.rows):
        return Status.FAIL, found.message
    if spec.warn_above and not spec.warn_above.allows(found.value, found.rows):
        return Status.WARN, found.message
    return Status.PASS, found.message


# --8<-- [end:run]


def _look(conn: Connection, spec: AnyCheck, now: datetime) -> Found:
    match spec:
        case Completeness():
            return completeness(conn, spec)
        case Format():
            return format_(conn, spec)
        case Values():
            return values(conn, spec)
        case References():
            return references(conn, spec)
        case Revenue():
            return revenue(conn, spec)
        case Duplicates():
            return duplicates(conn, spec)
        case Distribution():
            return distribution(conn, spec)
        case Freshness():
            return freshness(conn, spec, now)
        case CustomSQL():
            return custom_sql(conn, spec)


def _result(
    spec: AnyCheck,
    status: Status,
    message: str,
    seconds: float,
    found: Found | None = None,
) -> Result:
    table = getattr(spec, "table", "")
    return Result(spec.name, spec.kind, table, status, message, seconds, found)


def describe(error: Exception) -> str:
    """One line, without the statement and its parameters."""
    if isinstance(error, CheckError | ConfigError):
        return str(error)
    told = error.orig if isinstance(error, DBAPIError) and error.orig else error
    lines = str(told).strip().splitlines() or ["no message"]
    return f"{type(told).__name__}: {lines[0]}"
