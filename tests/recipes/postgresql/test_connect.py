"""connect: every way to say where, and every limit."""

import asyncio
import os
import socket
import stat
from collections.abc import Callable, Coroutine, Iterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import psycopg
import pytest
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict

from recipes.postgresql import connect_asyncpg
from recipes.postgresql.connect import connect, make_url, write_service_file

PASSWORD = "p@ss/w:rd#1 %41'\\"  # what breaks a URL, and what breaks a keyword string


@pytest.fixture
def parts(postgresql: str) -> Iterator[dict[str, str]]:
    """The address in parts, for a user whose password is PASSWORD."""
    parts = {key: str(value) for key, value in conninfo_to_dict(postgresql).items()}
    user = parts["dbname"] + "_user"
    with psycopg.connect(postgresql, autocommit=True) as conn:
        name = sql.Identifier(user)
        create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
        conn.execute(create.format(name, PASSWORD))
        yield {**parts, "user": user, "password": PASSWORD}
        conn.execute(sql.SQL("DROP ROLE {}").format(name))


def user_of(conn: psycopg.Connection) -> str:
    with conn:
        return conn.execute("SELECT current_user").fetchone()[0]


def test_url(parts):
    """A password with @ / : # % a quote and a backslash arrives in a URL."""
    names = ("host", "port", "dbname", "user", "password")
    assert user_of(connect(make_url(*(parts[name] for name in names)))) == parts["user"]


def test_keywords(parts):
    """The same password arrives as a keyword."""
    assert user_of(connect(**parts)) == parts["user"]


def test_service_file(parts, tmp_path, monkeypatch):
    """The same password arrives from a service file, which only its owner can read."""
    file = tmp_path / "pg_service.conf"
    write_service_file(file, "shop", parts)
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    assert user_of(connect("service=shop")) == parts["user"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_wrong_password(parts):
    """The wrong password is refused."""
    with pytest.raises(
        psycopg.OperationalError, match="password authentication failed"
    ):
        connect(**{**parts, "password": "p"})


def test_keywords_win_over_the_url(postgresql, parts):
    """A keyword replaces that part of the URL."""
    part = {"user": parts["user"], "password": PASSWORD}
    assert user_of(connect(postgresql, **part)) == parts["user"]


def test_the_address_wins_over_the_defaults(postgresql):
    """What the URL says of a limit is kept."""
    with connect(f"{postgresql}?keepalives_idle=77") as conn:
        assert conn.info.get_parameters()["keepalives_idle"] == "77"


def test_connect_timeout(postgresql, fault_proxy):
    """An address that takes the connection and never answers: ConnectionTimeout."""
    proxy = fault_proxy(postgresql)
    proxy.black_hole()
    with pytest.raises(errors.ConnectionTimeout):
        connect(proxy.url, connect_timeout=2)


def test_statement_timeout(postgresql):
    """A statement over its limit ends as QueryCanceled; the connection lives on."""
    with connect(postgresql, statement="20ms") as conn:
        with pytest.raises(errors.QueryCanceled, match="statement timeout"):
            conn.execute("SELECT pg_sleep(60)")
        conn.rollback()
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_lock_timeout(postgresql):
    """A lock that someone else keeps ends the wait as LockNotAvailable."""
    with connect(postgresql) as holder, connect(postgresql, lock="20ms") as conn:
        holder.execute("SELECT pg_advisory_xact_lock(1)")
        with pytest.raises(errors.LockNotAvailable):
            conn.execute("SELECT pg_advisory_xact_lock(1)")


def test_idle_in_transaction(postgresql):
    """A transaction that is left open is ended by the server, its locks with it."""
    with (
        connect(postgresql, idle_in_transaction="20ms") as forgetful,
        connect(postgresql, lock="5s") as waiting,
    ):
        forgetful.execute("SELECT pg_advisory_xact_lock(1)")
        waiting.execute("SELECT pg_advisory_xact_lock(1)")
        with pytest.raises(errors.IdleInTransactionSessionTimeout):
            forgetful.execute("SELECT 1")


def test_keepalive(postgresql):
    """The first probe of a silent line is sent after 30 seconds, not two hours."""
    idle = getattr(socket, "TCP_KEEPIDLE", None) or socket.TCP_KEEPALIVE
    with (
        connect(postgresql) as conn,
        socket.socket(fileno=os.dup(conn.fileno())) as line,
    ):
        assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert line.getsockopt(socket.IPPROTO_TCP, idle) == 30


# The same, with asyncpg.


def with_asyncpg(
    use: Callable[[asyncpg.Connection], Coroutine], *args, **limits
) -> Any:
    """Return what `use` returns when it is given a connection."""

    async def run() -> Any:
        conn = await connect_asyncpg.connect(*args, **limits)
        try:
            return await use(conn)
        finally:
            await conn.close()

    return asyncio.run(run())


async def user_of_asyncpg(conn: asyncpg.Connection) -> str:
    return await conn.fetchval("SELECT current_user")


def test_asyncpg_url(parts):
    """asyncpg: the same password arrives in a URL."""
    names = ("host", "port", "dbname", "user", "password")
    url = make_url(*(parts[name] for name in names))
    assert with_asyncpg(user_of_asyncpg, url) == parts["user"]


def test_asyncpg_password_apart(parts):
    """asyncpg: the same password arrives as a keyword beside a URL without one."""
    url = "postgresql://{user}@{host}:{port}/{dbname}".format_map(parts)
    assert with_asyncpg(user_of_asyncpg, url, password=PASSWORD) == parts["user"]


@pytest.mark.parametrize(
    ("limit", "query", "error"),
    [
        ("statement", "SELECT pg_sleep(60)", asyncpg.QueryCanceledError),
        ("lock", "SELECT pg_advisory_lock(1)", asyncpg.LockNotAvailableError),
    ],
)
def test_asyncpg_limits(postgresql, limit, query, error):
    """asyncpg: a statement, or a wait for a lock, over its limit is ended."""

    async def use(conn: asyncpg.Connection) -> None:
        with pytest.raises(error):
            await conn.execute(query)

    with connect(postgresql) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(1)")
        with_asyncpg(use, postgresql, **{limit: "20ms"})


def test_asyncpg_idle_in_transaction(postgresql):
    """asyncpg: a transaction that is left open is ended by the server."""

    async def use(conn: asyncpg.Connection) -> None:
        ended = asyncio.Event()
        conn.add_termination_listener(lambda _: ended.set())
        await conn.execute("BEGIN")
        await asyncio.wait_for(ended.wait(), 5)

    with_asyncpg(use, postgresql, idle_in_transaction="20ms")


def test_often_copied_asyncpg_dsn(parts):
    """Often copied: psycopg's "host=... dbname=..." is no address for asyncpg."""
    with pytest.raises(asyncpg.ClientConfigurationError, match="invalid DSN"):
        asyncio.run(asyncpg.connect("host={host} dbname={dbname}".format_map(parts)))


# --8<-- [start:wrong]
def make_url_as_copied(user, password, host, port, dbname):
    return f"postgresql://{user}:{password}@{host}:{port}/{dbname}"


def make_conninfo_as_copied(user, password, host, port, dbname):
    return f"host={host} port={port} user={user} password={password} dbname={dbname}"


# --8<-- [end:wrong]


def test_often_copied_url():
    """Often copied: the password p@ss/w#rd sends part of itself to DNS as a host."""
    url = make_url_as_copied("cook", "p@ss/w#rd", "db.example.com", 5432, "shop")
    understood = conninfo_to_dict(url)
    assert (understood["password"], understood["host"]) == ("p", "ss")
    right = make_url("db.example.com", 5432, "shop", "cook", "p@ss/w#rd")
    assert conninfo_to_dict(right)["password"] == "p@ss/w#rd"
    assert urlsplit(right).hostname == "db.example.com"


def test_often_copied_percent():
    """Often copied: the password 100%41 becomes 100A."""
    url = make_url_as_copied("cook", "100%41", "db.example.com", 5432, "shop")
    assert conninfo_to_dict(url)["password"] == "100A"


def test_often_copied_keywords():
    """Often copied: a password with spaces chooses another host and turns TLS off."""
    password = "x sslmode=disable host=evil.example.com"
    text = make_conninfo_as_copied("cook", password, "db.example.com", 5432, "shop")
    understood = conninfo_to_dict(text)
    assert understood["host"] == "evil.example.com"
    assert understood["sslmode"] == "disable"


def test_often_copied_waits_for_ever(postgresql):
    """Often copied: a plain psycopg.connect() sets no limit on the server at all."""
    with psycopg.connect(postgresql) as conn:
        for name in ("statement", "lock", "idle_in_transaction_session"):
            assert conn.execute(f"SHOW {name}_timeout").fetchone() == ("0",)
