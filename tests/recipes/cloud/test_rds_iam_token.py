"""rds_iam_token: a new token for each connection, and none that anybody sees."""

import datetime
import logging
import socket
import ssl
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from unittest import mock
from urllib.parse import quote_plus

import boto3
import psycopg
import pytest
import sqlalchemy
import trustme
from botocore.exceptions import NoCredentialsError
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier, Literal
from psycopg_pool import PoolTimeout
from sqlalchemy import create_engine, text

from recipes.cloud.rds_iam_token import make_engine, make_login, open_pool
from tests.recipes.support.rds_login import KEY, REGION, SECRET, RDSLogin


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """The server's side of TLS, and the file with its authority."""
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    file = tmp_path_factory.mktemp("ca") / "rds-bundle.pem"
    authority.cert_pem.write_to_path(str(file))
    return server, str(file)


@pytest.fixture
def admin(postgresql_tls):
    with psycopg.connect(postgresql_tls, autocommit=True) as admin:
        name = f"app_{admin.info.dbname}"
        role = Identifier(name)
        # What RDS has instead is `GRANT rds_iam TO ...`.
        make = SQL("CREATE ROLE {} LOGIN PASSWORD {}")
        admin.execute(make.format(role, Literal("behind")))
        try:
            yield admin
        finally:
            admin.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE usename = %s",
                (name,),
            )
            admin.execute(SQL("DROP ROLE {}").format(role))


@pytest.fixture
def server(admin, postgresql_tls, certificates):
    """RDS's login in front of PostgreSQL."""
    upstream = {
        name: str(value)
        for name, value in conninfo_to_dict(postgresql_tls).items()
        if name in ("host", "port", "dbname")
    }
    with closing(RDSLogin({**upstream, "password": "behind"}, certificates[0])) as one:
        yield one


@pytest.fixture
def rds():
    keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
    with closing(boto3.client("rds", region_name=REGION, **keys)) as client:
        yield client


@pytest.fixture
def signed_for(rds, server, admin, certificates):
    """Make logins; what is not given is right."""

    def make(**other):
        given = {
            "host": "localhost",
            "port": server.port,
            "user": f"app_{admin.info.dbname}",
            "dbname": admin.info.dbname,
            "ca_file": certificates[1],
        }
        return make_login(other.pop("rds", rds), **{**given, **other})

    return make


def backends(admin):
    """The processes of the server that serve the role."""
    query = "SELECT pid FROM pg_stat_activity WHERE usename = %s"
    found = admin.execute(query, (f"app_{admin.info.dbname}",)).fetchall()
    return {pid for (pid,) in found}


def borrow_all(count, borrow):
    """Borrow that many at once, hold them until all are there; return their pids."""
    all_here = threading.Barrier(count)

    def one(_):
        with borrow() as conn:
            all_here.wait(60)
            return pid_of(conn)

    with ThreadPoolExecutor(count) as threads:
        return set(threads.map(one, range(count)))


def pid_of(conn):
    query = "SELECT pg_backend_pid()"
    if isinstance(conn, psycopg.Connection):
        return conn.execute(query).fetchone()[0]
    return conn.scalar(text(query))


def at_another_second(count):
    """Tokens carry the second of their signature: let the clock of botocore go on."""
    start = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    times = [start - datetime.timedelta(seconds=n) for n in range(count)]
    return mock.patch("botocore.auth.get_current_datetime", side_effect=times)


def test_the_token(signed_for, server, admin):
    """The token is for this host, port and user, and for 15 minutes."""
    token = signed_for()()["password"]
    assert token.startswith(f"localhost:{server.port}/?Action=connect&DBUser=app_")
    assert "X-Amz-Expires=900" in token
    assert SECRET not in token


def test_login_is_accepted(signed_for, server, admin):
    """A login that checks signature, host, port, user, region and age lets it in."""
    with psycopg.connect(**signed_for()()) as conn:
        assert conn.info.user == f"app_{admin.info.dbname}"
        assert conn.pgconn.ssl_in_use
        assert conn.execute("SHOW statement_timeout").fetchone() == ("30s",)
    assert server.refused == []


@pytest.mark.parametrize("other", ["host", "port", "user", "region", "secret"])
def test_token_for_something_else(signed_for, server, admin, other):
    """A token for another host, port, user or region, or signed with another key, is
    refused."""
    keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
    if other == "secret":
        keys["aws_secret_access_key"] = "another"
    region = "us-east-1" if other == "region" else REGION
    with closing(boto3.client("rds", region_name=region, **keys)) as rds:
        wrong = {"host": "db.example.com", "port": 1, "user": "root"}
        given = {name: value for name, value in wrong.items() if name == other}
        token = signed_for(rds=rds, **given)()["password"]
    with pytest.raises(psycopg.OperationalError, match="PAM authentication failed"):
        psycopg.connect(**{**signed_for()(), "password": token})
    assert server.refused in (["InvalidToken"], ["SignatureDoesNotMatch"])


def test_pool_new_token_for_each_connection(signed_for, server, admin):
    """psycopg_pool: four connections at once were made with four tokens, and a hundred
    loans after that with none."""
    with at_another_second(100), open_pool(signed_for(), size=4, wait=60) as pool:
        pids = borrow_all(4, pool.connection)
        for _ in range(100):
            with pool.connection() as conn:
                assert pid_of(conn) in pids
    assert len(pids) == 4
    assert len(server.tokens) == len(set(server.tokens)) == 4


def test_engine_new_token_for_each_connection(signed_for, server, admin):
    """SQLAlchemy: four connections at once were made with four tokens, and a hundred
    loans after that with none."""
    engine = make_engine(signed_for())
    try:
        with at_another_second(100):
            pids = borrow_all(4, engine.connect)
            for _ in range(100):
                with engine.connect() as conn:
                    assert pid_of(conn) in pids
    finally:
        engine.dispose()
    assert len(pids) == 4
    assert len(server.tokens) == len(set(server.tokens)) == 4


def expire():
    """All tokens so far are older than 15 minutes, on the server's clock."""
    from ministack.core import rds_iam

    later = rds_iam.time.time() + 901
    return mock.patch.object(rds_iam, "time", mock.Mock(time=lambda: later))


def at_later():
    """The same on botocore's clock."""
    later = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    later += datetime.timedelta(seconds=901)
    return mock.patch("botocore.auth.get_current_datetime", return_value=later)


@pytest.mark.parametrize("kind", ["psycopg_pool", "SQLAlchemy"])
def test_outlives_its_tokens(signed_for, server, admin, kind):
    """After 15 minutes the open connection works on. When it is lost, a new one is made
    with a new token: an old one would be refused."""
    if kind == "SQLAlchemy":
        pool = make_engine(signed_for())
        borrow, close = pool.connect, pool.dispose
    else:
        pool = open_pool(signed_for(), wait=60)
        borrow, close = pool.connection, pool.close
    try:
        with borrow() as conn:
            first = pid_of(conn)
        with expire(), at_later():
            with borrow() as conn:
                assert pid_of(conn) == first
            server.cut()
            with borrow() as conn:
                assert pid_of(conn) != first
            old = {**signed_for()(), "password": server.tokens[0]}
            with pytest.raises(psycopg.OperationalError, match="PAM"):
                psycopg.connect(**old)
    finally:
        close()
    assert server.refused == ["ExpiredToken"]


def test_certificate_of_another_authority(signed_for, server, tmp_path):
    """A server that another authority vouches for never sees the token."""
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    with pytest.raises(psycopg.OperationalError, match="certificate"):
        psycopg.connect(**signed_for(ca_file=str(other))())
    assert server.tokens == []


def test_certificate_of_another_name(signed_for, server):
    """A server whose certificate has another name never sees the token."""
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        psycopg.connect(**signed_for(host="127.0.0.1")())
    assert server.tokens == []


def test_server_without_tls(signed_for):
    """A server without TLS never sees the token either."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        seen = bytearray()

        def answer():
            line, _ = listener.accept()
            with line:
                seen.extend(line.recv(8))
                line.sendall(b"N")
                seen.extend(line.recv(10_000))

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(psycopg.OperationalError, match="does not support SSL"):
            psycopg.connect(**signed_for(port=listener.getsockname()[1])())
        thread.join()
    assert len(seen) == 8  # the question for TLS


def test_no_credentials(signed_for, monkeypatch):
    """Without credentials of AWS the first login is a NoCredentialsError."""
    monkeypatch.setattr("botocore.session.Session.get_credentials", lambda *_: None)
    with (
        closing(boto3.client("rds", region_name=REGION)) as rds,
        pytest.raises(NoCredentialsError),
    ):
        signed_for(rds=rds)()


def refused_everywhere(signed_for, **wrong):
    """The errors of a refused login: by itself, in a pool, in an engine."""
    login = signed_for(**wrong)
    with pytest.raises(psycopg.OperationalError) as plain:
        psycopg.connect(**{**login(), "user": "nobody"})
    engine = make_engine(lambda: {**login(), "user": "nobody"})
    with pytest.raises(sqlalchemy.exc.OperationalError) as in_engine:
        engine.connect()
    with pytest.raises(PoolTimeout) as in_pool:
        open_pool(lambda: {**login(), "user": "nobody"}, wait=1)
    return [plain.value, in_engine.value, in_pool.value]


def test_nothing_shows_the_token(signed_for, server, caplog, capfd):
    """No signature of a token is in a repr, a URL, a conninfo, an error or a log of
    psycopg, psycopg_pool and SQLAlchemy, at level DEBUG."""
    caplog.set_level(logging.DEBUG, "psycopg")
    caplog.set_level(logging.DEBUG, "sqlalchemy")
    seen = [repr(signed_for())]
    with open_pool(signed_for(), wait=60) as pool, pool.connection() as conn:
        seen += [repr(pool), pool.conninfo, repr(conn), conn.info.dsn]
    engine = make_engine(signed_for())
    with engine.connect() as conn:
        seen += [repr(engine), str(engine.url), repr(conn), repr(engine.pool)]
    engine.dispose()
    for error in refused_everywhere(signed_for):
        seen += [repr(error), *traceback.format_exception(error)]
    said = "\n".join([*seen, caplog.text, *capfd.readouterr()])
    assert "PAM authentication failed" in said
    assert len(server.tokens) >= 5
    assert "X-Amz-Signature" not in said
    assert SECRET not in said


def test_botocore_at_debug(signed_for, caplog):
    """At level DEBUG botocore logs how it signs, with the signature: leave its logger
    at INFO."""
    caplog.set_level(logging.DEBUG, "botocore")
    token = signed_for()()["password"]
    assert token.rpartition("X-Amz-Signature=")[2] in caplog.text
    caplog.clear()
    caplog.set_level(logging.INFO, "botocore")
    signed_for()()
    assert caplog.text == ""


# --8<-- [start:wrong]
def engine_as_often_copied(rds, host, port, user, dbname):
    token = rds.generate_db_auth_token(DBHostname=host, Port=port, DBUsername=user)
    url = f"postgresql+psycopg://{user}:{quote_plus(token)}@{host}:{port}/{dbname}"
    return create_engine(f"{url}?sslmode=require", pool_pre_ping=True)


# --8<-- [end:wrong]


def test_often_copied_dies_after_15_minutes(rds, server, admin):
    """Often copied: one token for all. After 15 minutes no new connection is made."""
    to = ("localhost", server.port, f"app_{admin.info.dbname}", admin.info.dbname)
    engine = engine_as_often_copied(rds, *to)
    try:
        with engine.connect() as conn:
            pid_of(conn)
        server.cut()
        with expire(), pytest.raises(sqlalchemy.exc.OperationalError, match="PAM"):
            engine.connect()
    finally:
        engine.dispose()
    assert len(set(server.tokens)) == 1


def test_often_copied_gives_the_token_to_anybody(rds, server, admin):
    """Often copied: `sslmode=require` sends the token to a server with any
    certificate."""
    to = ("localhost", server.port, f"app_{admin.info.dbname}", admin.info.dbname)
    engine = engine_as_often_copied(rds, *to)
    with engine.connect():
        pass
    engine.dispose()
    assert len(server.tokens) == 1


def test_often_copied_keyword(rds):
    """Often copied: the keyword `Hostname` does not exist."""
    with pytest.raises(TypeError, match="Hostname"):
        rds.generate_db_auth_token(Hostname="x", Port=1, DBUsername="x")
