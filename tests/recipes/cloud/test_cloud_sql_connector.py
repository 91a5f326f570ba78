import asyncio
import gc
import logging
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pg8000.dbapi
import psycopg
import pytest
from google.cloud.sql.connector import Connector
from google.cloud.sql.connector.exceptions import ClosedConnectorError
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from cookbook.engines import engine as engine_named
from cookbook.engines.cloud_sql import instances
from cookbook.stand_ins.cloud_sql import EMAIL, USER, Authority, Instance
from recipes.cloud.cloud_sql_connector import open_pool, who_am_i

PASSWORD = "hunter2-hunter2"


# After a login that was refused the connector forgets its socket.
pytestmark = pytest.mark.filterwarnings("ignore:(?i)unclosed:ResourceWarning")


@pytest.fixture(autouse=True)
def _collect(monkeypatch) -> Iterator[None]:
    """What a connector leaves behind is gone with the test: its event loop, which it
    never closes, and what an error holds that it logs too late."""
    loops, new = [], asyncio.new_event_loop

    def remember() -> asyncio.AbstractEventLoop:
        loops.append(new())
        return loops[-1]

    monkeypatch.setattr(asyncio, "new_event_loop", remember)
    monkeypatch.setattr(logging.getLogger("asyncio"), "disabled", True)
    yield
    for loop in loops:
        loop.close()
    gc.collect()


@pytest.fixture
def given(cloud_sql, monkeypatch) -> dict[str, str]:
    """What the recipe is told; the key is where Google's libraries look for it."""
    variables = engine_named("cloud_sql").variables(cloud_sql)
    key = "GOOGLE_APPLICATION_CREDENTIALS"
    monkeypatch.setenv(key, variables[key])
    return {
        "instance": variables["CLOUD_SQL_INSTANCE"],
        "user": variables["CLOUD_SQL_USER"],
        "database": variables["CLOUD_SQL_DATABASE"],
        "api": variables["CLOUD_SQL_API"],
    }


@pytest.fixture
def instance(cloud_sql) -> Instance:
    """The stand-in itself: it counts."""
    return instances[cloud_sql]


@pytest.fixture
def role(instance) -> Iterator[str]:
    """A user of the database with a password."""
    name = f"role_{instance.postgresql.rpartition('/')[2]}"
    identifier = sql.Identifier(name)
    with psycopg.connect(instance.postgresql, autocommit=True) as conn:
        make = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
        conn.execute(make.format(identifier, sql.Literal(PASSWORD)))
        yield name
        wait_for(lambda: instance.open == 0)
        conn.execute(sql.SQL("DROP ROLE {}").format(identifier))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def asked(instance) -> list[str]:
    """The calls of the admin API, without those for tokens."""
    ends = (it.replace(":", "/").rpartition("/")[2] for it in instance.requests)
    return [end for end in ends if end != "token"]


ONCE = ["connectSettings", "generateEphemeralCert"]


def test_logs_in_without_a_password(given):
    """The service account is logged in without a password, under its address without
    `.gserviceaccount.com`."""
    assert given["user"] == EMAIL == f"{USER}.gserviceaccount.com"
    with open_pool(**given) as engine:
        assert who_am_i(engine) == USER


def test_is_a_connection_of_pg8000(given):
    """What the connector returns is `pg8000.dbapi`, with cursors."""
    with open_pool(**given) as engine, engine.connect() as conn:
        raw = conn.connection.dbapi_connection
        assert isinstance(raw, pg8000.dbapi.Connection)
        cursor = raw.cursor()
        cursor.execute("SELECT 6 * 7")
        assert cursor.fetchall() == ([42],)


def test_socket_has_no_limit(given):
    """The connector sets no time limit on the socket: to read from a line that is dead
    without a word waits for the operating system."""
    with open_pool(**given) as engine, engine.connect() as conn:
        assert conn.connection.dbapi_connection._usock.gettimeout() is None


def test_one_certificate_for_the_pool(given, instance):
    """Five connections at the same moment, and more later, share one certificate."""
    barrier = Barrier(5)

    def hold(engine) -> None:
        with engine.connect():
            barrier.wait(30)

    with open_pool(**given) as engine, ThreadPoolExecutor(5) as pool:
        list(pool.map(hold, [engine] * 5))
        engine.dispose()
        who_am_i(engine)
    assert sorted(asked(instance)) == ONCE
    assert instance.connections == 6


def test_never_more_connections_than_said(given, instance):
    """Twenty threads with a pool of two: two connections, and all are answered."""
    with open_pool(**given, size=2) as engine, ThreadPoolExecutor(20) as pool:
        assert list(pool.map(who_am_i, [engine] * 20)) == [USER] * 20
    assert instance.connections == 2


def test_lazy(given, instance):
    """Nothing is asked before the first connection."""
    with open_pool(**given) as engine:
        assert instance.requests == []
        who_am_i(engine)
        assert sorted(asked(instance)) == ONCE


def test_certificate_is_renewed(given, instance):
    """A certificate with four minutes left or less is renewed for the next connection,
    and connections that are open stay open."""
    instance.lasts = timedelta(minutes=3)
    with open_pool(**given) as engine, engine.connect() as conn:
        who_am_i(engine)
        assert sorted(asked(instance)) == sorted(ONCE * 2)
        assert conn.scalar(text("SELECT 1")) == 1


def test_all_is_closed(given, instance):
    """After the block no connection is open, nothing was committed, and the connector
    opens no other, also when the block ends with an error."""
    with pytest.raises(ZeroDivisionError), open_pool(**given) as engine:
        stop_in_the_middle(engine)
    wait_for(lambda: instance.open == 0)
    with pytest.raises(ClosedConnectorError):
        who_am_i(engine)
    with psycopg.connect(instance.postgresql) as conn:
        wait_for(lambda: not connected(conn))
        assert conn.execute("SELECT to_regclass('t')").fetchone() == (None,)


def stop_in_the_middle(engine) -> None:
    with engine.connect() as conn:
        conn.execute(text("CREATE TABLE t (i int)"))
        raise ZeroDivisionError


def connected(conn) -> list[int]:
    """The processes of the server that serve the recipe."""
    query = (
        "SELECT pid FROM pg_stat_activity"
        " WHERE usename = %s AND datname = current_database()"
    )
    return [pid for (pid,) in conn.execute(query, (USER,))]


def test_queries_have_a_limit(given):
    """The server ends a statement after five seconds."""
    with open_pool(**given) as engine, engine.connect() as conn:
        assert conn.scalar(text("SHOW statement_timeout")) == "5s"


def test_broken_connection_is_replaced(given, instance):
    """A connection that died in the pool is replaced before it is given out."""
    with open_pool(**given) as engine:
        who_am_i(engine)
        with psycopg.connect(instance.postgresql) as admin:
            (pid,) = connected(admin)
            admin.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
        assert who_am_i(engine) == USER


def test_logs_in_with_a_password(given, role):
    """A user with a password can be logged in too, and a wrong one is refused."""
    named = {**given, "user": role}
    with open_pool(**named, password=PASSWORD) as engine:
        assert who_am_i(engine) == role
    refused(named, DBAPIError, "28P01", password="wrong")


def refused(given, kind, match, **changed) -> Exception:
    with (
        open_pool(**{**given, **changed}) as engine,
        pytest.raises(kind, match=match) as caught,
    ):
        who_am_i(engine)
    return caught.value


def test_another_account_is_refused(given):
    """The certificate is good for its own service account only."""
    refused(given, DBAPIError, "28000", user="x@cookbook.iam.gserviceaccount.com")


def test_another_project_or_region(given):
    """An instance that is not there is ConnectionError; another region, ValueError."""
    project, _, name = given["instance"].split(":")
    other, there = f"other:europe-west1:{name}", f"{project}:us-east1:{name}"
    refused(given, ConnectionError, "404 .*does not exist", instance=other)
    refused(given, ValueError, "got region us-east1", instance=there)


def test_another_server_is_refused(given, instance):
    """A server whose certificate another authority signed gets nothing."""
    instance.authority = Authority("Google Cloud SQL Server CA")
    refused(given, ssl.SSLCertVerificationError, "verify failed")
    assert instance.connections == 0


def test_secrets_are_shown_nowhere(given, instance, role, caplog):
    """No token, key or password is in a log record or an error, even with DEBUG on."""
    caplog.set_level(logging.DEBUG)
    errors = [
        refused(given, ConnectionError, "404", instance="other:europe-west1:orders"),
        refused(given, DBAPIError, "28000", user="x@cookbook.iam"),
        refused(given, DBAPIError, "28P01", user=role, password=f"{PASSWORD}!"),
    ]
    shown = list(map(repr, errors))
    for error in errors:
        shown += traceback.format_exception(error)
    with open_pool(**{**given, "user": role}, password=PASSWORD) as engine:
        who_am_i(engine)
        shown += [repr(engine), repr(engine.url)]
    shown += [str(vars(record)) for record in caplog.records]
    secrets = [*instance.tokens, PASSWORD, "PRIVATE KEY"]
    assert len(secrets) > 3
    assert not [it for it in secrets for text in shown if it in text]


# --8<-- [start:wrong]
def fetch(instance, user, database, query):
    connector = Connector(enable_iam_auth=True)
    conn = connector.connect(instance, "pg8000", user=user, db=database)
    cursor = conn.cursor()
    cursor.execute(query)
    rows = cursor.fetchall()
    conn.close()
    return rows


# --8<-- [end:wrong]


@pytest.fixture
def made(given, monkeypatch) -> Iterator[list[Connector]]:
    """The connectors that were made, and connections that were forgotten."""
    made, real = [], Connector

    def make(**options) -> Connector:
        made.append(real(**options, sqladmin_api_endpoint=given["api"]))
        return made[-1]

    monkeypatch.setitem(globals(), "Connector", make)
    yield made
    for connector in made:
        connector.close()


def call(given, query) -> object:
    return fetch(given["instance"], given["user"], given["database"], query)


def test_often_copied_starts_anew(given, instance, made):
    """Often copied: each call makes a key, asks for a certificate, and leaves a thread
    behind."""
    before = threading.active_count()
    for _ in range(3):
        assert call(given, "SELECT 6 * 7") == ([42],)
    assert len(asked(instance)) >= 6
    assert threading.active_count() >= before + 3


def test_often_copied_leaks_after_an_error(given, instance, made):
    """Often copied: after an error in the query the connection stays open."""
    with pytest.raises(pg8000.dbapi.DatabaseError) as caught:
        call(given, "SELECT nothing")
    assert instance.open == 1
    assert "42703" in str(caught.value)


def test_often_copied_shows_the_token(given, instance, made):
    """Often copied: an error of the API has the access token in its repr."""
    with pytest.raises(Exception, match="404") as caught:
        call({**given, "instance": "other:europe-west1:orders"}, "SELECT 1")
    assert any(token in repr(caught.value) for token in instance.tokens)
