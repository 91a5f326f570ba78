import logging
import time

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import DBAPIError

from recipes.sqlalchemy.log_slow_queries import log_slow_statements

LOGGER = logging.getLogger("test.slow")


@pytest.fixture
def engine(database):
    engine = create_engine(database)
    yield engine
    engine.dispose()


def slow_statement(conn):
    """A statement that takes 0.1 s."""
    if conn.dialect.name == "sqlite":
        raw = conn.connection.driver_connection
        raw.create_function("pause", 1, time.sleep)
        return text("SELECT pause(:seconds)")
    name = "pg_sleep" if conn.dialect.name == "postgresql" else "sleep"
    return text(f"SELECT {name}(:seconds)")


def test_slow_one(engine, caplog):
    """A slow statement is logged once, with its time."""
    log_slow_statements(engine, 0.1, LOGGER)
    with engine.connect() as conn:
        conn.execute(slow_statement(conn), {"seconds": 0.11}).all()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert 0.1 <= record.seconds < 5
    assert record.getMessage().startswith(f"slow after {record.seconds:.3f} s: SELECT")


def test_fast_one(engine, caplog):
    """A fast statement is not."""
    log_slow_statements(engine, 60, LOGGER)
    with engine.connect() as conn:
        conn.execute(text("SELECT 1"))
        with pytest.raises(DBAPIError):
            conn.execute(text("SELECT * FROM nowhere"))
    assert caplog.records == []


def test_time_of_the_statement_alone(engine, caplog):
    """What the program does between two statements does not count."""
    with engine.connect() as conn:
        log_slow_statements(engine, 0.05, LOGGER)
        conn.execute(text("SELECT 1"))
        time.sleep(0.06)
        conn.execute(text("SELECT 2"))
    assert caplog.records == []


def test_no_values(engine, caplog):
    """The log holds the statement, on one line, and never a value."""
    log_slow_statements(engine, 0, LOGGER)
    with engine.connect() as conn:
        conn.execute(text("SELECT :it\n   AS it"), {"it": "hunter2"})
    (record,) = caplog.records
    assert "hunter2" not in str(vars(record))
    assert record.statement.startswith("SELECT ")
    assert "\n" not in record.getMessage()


def test_failing_statement(engine, caplog):
    """A statement that fails is timed too, and its error reaches the caller."""
    log_slow_statements(engine, 0, LOGGER)
    with engine.connect() as conn, pytest.raises(DBAPIError):
        conn.execute(text("SELECT * FROM nowhere"))
    (record,) = caplog.records
    assert record.getMessage().startswith("failed after 0.")
    assert record.statement == "SELECT * FROM nowhere"


def test_nothing_piles_up(engine):
    """After three failures the connection remembers nothing."""
    log_slow_statements(engine, 60, LOGGER)
    with engine.connect() as conn:
        before = dict(conn.info)
        for _ in range(3):
            with pytest.raises(DBAPIError):
                conn.execute(text("SELECT * FROM nowhere"))
            conn.rollback()
        assert conn.info == before


def test_error_without_statement(caplog):
    """A connection that cannot be made has no statement, and raises its own error."""
    engine = create_engine("sqlite:////no/such/folder/app.db")
    log_slow_statements(engine, 0, LOGGER)
    with pytest.raises(DBAPIError, match="unable to open"):
        engine.connect()
    assert caplog.records == []


# --8<-- [start:wrong]
def profile_as_often_copied(engine):
    @event.listens_for(engine, "before_cursor_execute")
    def before(conn, cursor, statement, parameters, context, executemany):
        conn.info.setdefault("query_start_time", []).append(time.time())

    @event.listens_for(engine, "after_cursor_execute")
    def after(conn, cursor, statement, parameters, context, executemany):
        total = time.time() - conn.info["query_start_time"].pop(-1)
        print(f"Query took {total}: {statement} {parameters}")


# --8<-- [end:wrong]


def test_often_copied_leaks(engine):
    """Often copied: each statement that fails leaves its start time in the connection,
    for as long as the pool keeps it."""
    profile_as_often_copied(engine)
    with engine.connect() as conn:
        for _ in range(3):
            with pytest.raises(DBAPIError):
                conn.execute(text("SELECT * FROM nowhere"))
            conn.rollback()
        assert len(conn.info["query_start_time"]) == 3


def test_often_copied_prints_secrets(engine, capsys):
    """Often copied: it prints the values, passwords included."""
    profile_as_often_copied(engine)
    with engine.connect() as conn:
        conn.execute(text("SELECT :it AS it"), {"it": "hunter2"})
    assert "hunter2" in capsys.readouterr().out
