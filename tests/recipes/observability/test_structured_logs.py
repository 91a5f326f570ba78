import io
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import structlog

from recipes.observability.structured_logs import INSERT, configure_logs, register

EMAIL = "ann.of.cleves@example.com"


@pytest.fixture
def out():
    """What was logged."""
    out = io.StringIO()
    configure_logs(out)
    yield out
    structlog.reset_defaults()


@pytest.fixture
def conn(postgresql):
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute("CREATE TABLE customer (email text CONSTRAINT once UNIQUE)")
        yield conn


def events(out: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_event(conn, out):
    """An event is one JSON object, with level, UTC time, statement and row count."""
    register(conn, EMAIL)
    (event,) = events(out)
    at = datetime.fromisoformat(event.pop("timestamp"))
    assert at.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=1)
    assert event == {
        "event": "customer registered",
        "level": "info",
        "rows": 1,
        "statement": INSERT,
    }


def test_database_error(conn, out):
    """A refused row is logged with error, SQLSTATE, constraint and place, and without
    the value that PostgreSQL quotes; the error reaches the caller."""
    register(conn, EMAIL)
    with pytest.raises(psycopg.errors.UniqueViolation, match=EMAIL):
        register(conn, EMAIL)
    event = events(out)[1]
    assert (event["level"], event["error"]) == ("error", "UniqueViolation")
    assert (event["sqlstate"], event["constraint"]) == ("23505", "once")
    assert event["at"][0].startswith("register:")
    assert EMAIL not in out.getvalue()


def test_value_in_the_message(conn, out):
    """A value that does not fit is in the first line of PostgreSQL's error, and not in
    the log."""
    with pytest.raises(psycopg.errors.InvalidTextRepresentation) as raised:
        conn.execute("SELECT %s::int", ("hunter2",))
    assert "hunter2" in raised.value.diag.message_primary
    structlog.get_logger().error("no", exc_info=raised.value)
    assert "hunter2" not in out.getvalue()
    assert events(out)[0]["sqlstate"] == "22P02"


def test_other_error(out):
    """An error of Python's is logged without its text as well."""
    try:
        int("hunter2")
    except ValueError:
        structlog.get_logger().exception("no number")
    (event,) = events(out)
    assert event["error"] == "ValueError"
    assert "sqlstate" not in event
    assert "hunter2" not in out.getvalue()


def test_no_error(out):
    """Without an error there is nothing about one, not even if asked for it."""
    structlog.get_logger().info("done", exc_info=True)
    assert "error" not in events(out)[0]


def test_while_an_error_is_handled(out):
    """An event that does not speak of the error says nothing of it, though one is being
    handled."""
    try:
        int("hunter2")
    except ValueError:
        structlog.get_logger().info("tried again")
    (event,) = events(out)
    assert set(event) == {"event", "level", "timestamp"}


def test_secrets_by_name(out):
    """What is called password, token, secret, API key, DSN, cookie or authorization is
    hidden, at any depth."""
    headers = {"Authorization": "Bearer hunter2", "Set-Cookie": "hunter2", "Host": "a"}
    structlog.get_logger().info(
        "start",
        password="hunter2",
        headers=headers,
        settings=[{"api_key": "hunter2", "APIKEY": "hunter2", "PG_DSN": "hunter2"}],
        access_token="hunter2",
        client_secret="hunter2",
    )
    assert "hunter2" not in out.getvalue()
    (event,) = events(out)
    assert event["headers"]["Host"] == "a"
    assert event["password"] == "***"


def test_password_in_a_url(out):
    """The password in an address is hidden, wherever the address stands."""
    url = "postgresql://cook:hunter2@db.example.com:5432/shop"
    structlog.get_logger().info(f"using {url}", tried=[url])
    hidden = "postgresql://cook:***@db.example.com:5432/shop"
    assert events(out)[0]["event"] == f"using {hidden}"
    assert events(out)[0]["tried"] == [hidden]


def test_one_line(out):
    """A line break in a value makes no second line: nobody can forge an event."""
    name = 'ann\n{"event": "admin logged in"}'
    structlog.get_logger().info("logged in", name=name)
    (event,) = events(out)
    assert event["name"] == name


def test_unknown_type(out):
    """An object that JSON does not know is logged by its type, not by its repr."""

    class Card:
        def __repr__(self) -> str:
            return "4111-1111"

    structlog.get_logger().info("paid", card=Card())
    assert events(out)[0]["card"] == "Card"


def test_request_of_each_thread(conn, out):
    """Each thread's events carry the id of its own request."""
    meet = threading.Barrier(4)

    def handle(number: int) -> None:
        with structlog.contextvars.bound_contextvars(request=number):
            meet.wait(30)
            structlog.get_logger().info("handled", number=number)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(handle, range(4)))
    structlog.get_logger().info("end")
    *handled, end = events(out)
    assert {event["number"] for event in handled} == {0, 1, 2, 3}
    assert all(event["request"] == event["number"] for event in handled)
    assert "request" not in end


# --8<-- [start:wrong]
def register_as_often_copied(conn, email):
    query = "INSERT INTO customer (email) VALUES (%s)"
    try:
        conn.execute(query, (email,))
        logging.info(f"Executed {query} with {email}")
    except psycopg.Error as e:
        logging.error(f"Query failed: {e}")
        raise


# --8<-- [end:wrong]


def test_often_copied_logs_values(conn, caplog):
    """Often copied: the value is in the log, also by way of the error's text."""
    caplog.set_level(logging.INFO)
    register_as_often_copied(conn, EMAIL)
    with pytest.raises(psycopg.errors.UniqueViolation):
        register_as_often_copied(conn, EMAIL)
    good, bad = caplog.messages
    assert EMAIL in good
    assert f"Key (email)=({EMAIL}) already exists" in bad


def test_often_copied_can_be_forged(conn, caplog):
    """Often copied: a user with a line break in the name writes a line of the log."""
    caplog.set_level(logging.INFO)
    register_as_often_copied(conn, "ann\nINFO admin logged in")
    assert "INFO admin logged in" in caplog.text.splitlines()
