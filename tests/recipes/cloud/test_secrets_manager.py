"""secrets_manager: kept, renewed when it is refused, and never shown."""

import functools
import json
import logging
import secrets
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import boto3
import psycopg
import pytest
from botocore.exceptions import ClientError
from psycopg.sql import SQL, Identifier
from sqlalchemy import create_engine, text

from cookbook.engines import engine
from recipes.cloud import secrets_manager as recipe
from recipes.cloud.secrets_manager import SecretCache, connect, make_client


@pytest.fixture
def options(secretsmanager):
    given = engine("secretsmanager").variables(secretsmanager)
    return {
        "endpoint_url": given["AWS_ENDPOINT_URL_SECRETS_MANAGER"],
        "aws_access_key_id": given["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": given["AWS_SECRET_ACCESS_KEY"],
        "region_name": given["AWS_DEFAULT_REGION"],
    }


@pytest.fixture
def client(options):
    level = logging.getLogger("botocore").level
    with closing(make_client(**options)) as client:
        yield client
    logging.getLogger("botocore").setLevel(level)


@pytest.fixture
def requests(client):
    """The requests for a secret's value, as they are sent."""
    sent = []
    event = "before-call.secretsmanager.GetSecretValue"
    client.meta.events.register(event, lambda params, **_: sent.append(params["body"]))
    return sent


@pytest.fixture
def cache(client):
    return SecretCache(client)


class Database:
    """A role of its own, whose password is in the secret of that name."""

    def __init__(self, admin, client):
        self.admin, self.client = admin, client
        self.name = f"app_{admin.info.dbname}"
        client.create_secret(Name=self.name, SecretString="{}")

    def change_password(self):
        new = secrets.token_urlsafe(32)
        self.admin.pgconn.change_password(self.name.encode(), new.encode())
        return new

    def publish(self, password):
        value = json.dumps({"username": self.name, "password": password})
        self.client.put_secret_value(SecretId=self.name, SecretString=value)

    def rotate(self):
        password = self.change_password()
        self.publish(password)
        return password


@pytest.fixture
def app(postgresql_tls, client):
    with psycopg.connect(postgresql_tls, autocommit=True) as admin:
        name = Identifier(f"app_{admin.info.dbname}")
        admin.execute(SQL("CREATE ROLE {} LOGIN").format(name))
        try:
            app = Database(admin, client)
            app.rotate()
            yield app
        finally:
            admin.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE usename = %s",
                (name.as_string(None).strip('"'),),
            )
            admin.execute(SQL("DROP ROLE {}").format(name))


def user_of(conn):
    with conn:
        return conn.execute("SELECT current_user").fetchone()[0]


def test_logs_in_as_the_user_of_the_secret(app, cache, postgresql_tls):
    """The login is the secret's user, over TLS that was verified."""
    with connect(cache, app.name, postgresql_tls) as conn:
        assert conn.info.user == app.name
        assert conn.pgconn.ssl_in_use
        assert "sslmode=verify-full" in conn.info.dsn


def test_kept(app, cache, postgresql_tls, requests):
    """Ten logins ask Secrets Manager once."""
    for _ in range(10):
        assert user_of(connect(cache, app.name, postgresql_tls)) == app.name
    assert len(requests) == 1


def test_threads_ask_once(app, cache, requests):
    """Sixteen threads that want a secret at the same moment send one request."""
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda _: cache.get(app.name), range(64)))
    assert len({id(one) for one in found}) == 1
    assert len(requests) == 1


def test_read_again_after_the_time(app, cache, requests, monkeypatch):
    """When its time is over, the secret is read again, and not before."""
    now = 1000.0
    monkeypatch.setattr(recipe, "monotonic", lambda: now)
    old = cache.get(app.name)
    app.rotate()
    now += 299
    assert cache.get(app.name) is old
    now += 1
    assert cache.get(app.name).version != old.version
    assert len(requests) == 2


def test_rotation(app, cache, postgresql_tls, requests):
    """After a rotation the first login is refused, the secret is read once, and the
    login works. The logins after it find the new one kept."""
    connect(cache, app.name, postgresql_tls).close()
    for _ in range(3):
        app.rotate()
    for _ in range(3):
        assert user_of(connect(cache, app.name, postgresql_tls)) == app.name
    assert len(requests) == 2


def test_one_refused_secret_is_read_once(app, cache, requests):
    """Many threads were refused with the same old password: one request for all."""
    old = cache.get(app.name)
    app.rotate()
    with ThreadPoolExecutor(16) as threads:
        newer = threads.map(lambda _: cache.get(app.name, refused=old), range(64))
    assert len({id(one) for one in newer}) == 1
    assert len(requests) == 2


def test_between_the_two_steps(app, cache, postgresql_tls, requests):
    """The server has the new password and the secret still the old one: the error
    reaches the caller after one login and one more request. A later call works."""
    connect(cache, app.name, postgresql_tls).close()
    password = app.change_password()
    failed = []

    class Counting(psycopg.Connection):
        @classmethod
        def connect(cls, *given, **named):
            failed.append(1)
            return super().connect(*given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe.psycopg, "connect", Counting.connect)
        with pytest.raises(psycopg.OperationalError, match="authentication failed"):
            connect(cache, app.name, postgresql_tls)
    assert (len(failed), len(requests)) == (1, 2)
    app.publish(password)
    assert user_of(connect(cache, app.name, postgresql_tls)) == app.name


def test_pending_version_is_not_used(app, cache, client, postgresql_tls):
    """A version that a rotation prepares is not used before it is the current one, and
    the stages move: what was current is the previous one then."""
    old = cache.get(app.name)
    password = secrets.token_urlsafe(32)
    value = json.dumps({"username": app.name, "password": password})
    pending = client.put_secret_value(
        SecretId=app.name, SecretString=value, VersionStages=["AWSPENDING"]
    )["VersionId"]
    assert cache.get(app.name, refused=old).version == old.version
    app.admin.pgconn.change_password(app.name.encode(), password.encode())
    client.update_secret_version_stage(
        SecretId=app.name,
        VersionStage="AWSCURRENT",
        MoveToVersionId=pending,
        RemoveFromVersionId=old.version,
    )
    assert user_of(connect(cache, app.name, postgresql_tls)) == app.name
    assert cache.get(app.name).version == pending
    stages = client.describe_secret(SecretId=app.name)["VersionIdsToStages"]
    assert stages[old.version] == ["AWSPREVIOUS"]


def test_no_server(app, cache, requests):
    """Where no server answers, the secret is not read again."""
    with pytest.raises(psycopg.OperationalError):
        connect(cache, app.name, "host=127.0.0.1 port=1 sslmode=verify-full")
    assert len(requests) == 1


def test_wrong_certificate(app, cache, postgresql_tls, requests):
    """A server that does not prove its name never sees the password, and the secret is
    not read again."""
    elsewhere = postgresql_tls.replace("@localhost:", "@127.0.0.1:")
    with pytest.raises(psycopg.OperationalError, match="certificate"):
        connect(cache, app.name, elsewhere)
    assert len(requests) == 1


# --8<-- [start:pool]
def make_engine(cache, name, address):
    return create_engine(
        "postgresql+psycopg://",
        creator=lambda: connect(cache, name, address),
        pool_pre_ping=True,
    )


# --8<-- [end:pool]


def test_pool_survives_a_rotation(app, cache, postgresql_tls, requests):
    """A SQLAlchemy pool whose connections are lost after a rotation makes new ones."""
    pool = make_engine(cache, app.name, postgresql_tls)
    try:
        with pool.connect() as conn:
            assert conn.scalar(text("SELECT current_user")) == app.name
        app.rotate()
        app.admin.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE usename = %s",
            (app.name,),
        )
        with pool.connect() as conn:
            assert conn.scalar(text("SELECT current_user")) == app.name
    finally:
        pool.dispose()
    assert len(requests) == 2


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        pytest.param({"SecretString": "s3cret pass"}, "s3cret pass", id="plain"),
        pytest.param({"SecretString": '{"a": 1}'}, '{"a": 1}', id="json"),
        pytest.param({"SecretBinary": b"\x00\xff{"}, b"\x00\xff{", id="binary"),
    ],
)
def test_payloads(client, cache, payload, value):
    """JSON and plain text come as str, a binary secret as bytes."""
    client.create_secret(Name="any", **payload)
    assert cache.get("any").value == value


def test_fields_of_binary_json(client, cache):
    """JSON in a binary secret has fields as well."""
    client.create_secret(Name="any", SecretBinary=b'{"username": "anna"}')
    assert cache.get("any").fields() == {"username": "anna"}


@pytest.mark.parametrize(
    "kind",
    [
        {"SecretString": "hunter2 hunter2"},
        {"SecretString": '["hunter2"]'},
        {"SecretBinary": b"hunter2\xff"},
    ],
    ids=["plain", "a list", "binary"],
)
def test_not_json(client, cache, kind, postgresql_tls):
    """A secret that is no JSON object is a ValueError that names it. The value is not
    in the error, nor in one that it came from."""
    client.create_secret(Name="any", **kind)
    with pytest.raises(ValueError, match="any is not a JSON object") as caught:
        connect(cache, "any", postgresql_tls)
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert "hunter2" not in shown(caught.value)


def test_unknown_secret(cache):
    """A secret that does not exist is a ClientError, and is not kept."""
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        cache.get("none")


def shown(error):
    """What a log of the error has in it."""
    return "".join(traceback.format_exception(error)) + repr(error)


def test_nothing_shows_it(app, cache, postgresql_tls, caplog, capfd):
    """The password is in no repr, no message of an error, and no log, at level DEBUG
    too: neither the old one nor the new one."""
    caplog.set_level(logging.DEBUG)
    old = cache.get(app.name).fields()["password"]
    seen = [repr(cache), repr(cache.get(app.name)), str(cache.get(app.name))]
    new = app.change_password()
    with pytest.raises(psycopg.OperationalError) as caught:
        connect(cache, app.name, postgresql_tls)
    app.publish(new)
    with connect(cache, app.name, postgresql_tls) as conn:
        seen += [repr(conn), conn.info.dsn]
    seen += [shown(caught.value), caplog.text, *capfd.readouterr()]
    for text_ in seen:
        assert old not in text_
        assert new not in text_


def test_botocore_at_debug(app, options, caplog):
    """Why its logger is set: at level DEBUG botocore logs the secret."""
    logger = logging.getLogger("botocore")
    level = logger.level
    try:
        with closing(make_client(**options)) as client:
            caplog.set_level(logging.DEBUG, "botocore")
            password = SecretCache(client).get(app.name).fields()["password"]
    finally:
        logger.setLevel(level)
    assert password in caplog.text


def test_pgconn_has_the_password(app, cache, postgresql_tls):
    """The message of psycopg's error is clean; its attribute `pgconn` is not."""
    old = cache.get(app.name).fields()["password"]
    app.change_password()
    with pytest.raises(psycopg.OperationalError) as caught:
        connect(cache, app.name, postgresql_tls)
    assert old not in str(caught.value)
    assert old in repr(caught.value.pgconn)


# --8<-- [start:wrong]
@functools.cache
def get_credentials(name, **options):
    client = boto3.client("secretsmanager", **options)
    answer = client.get_secret_value(SecretId=name)
    return json.loads(answer["SecretString"])


# --8<-- [end:wrong]


def test_often_copied_needs_a_restart(app, options, postgresql_tls):
    """Often copied: after a rotation every login is refused until a restart."""
    get_credentials(app.name, **options)
    app.rotate()
    for _ in range(2):
        found = get_credentials(app.name, **options)
        with pytest.raises(psycopg.OperationalError, match="authentication failed"):
            psycopg.connect(
                postgresql_tls, user=found["username"], password=found["password"]
            )


def test_often_copied_shows_a_plain_secret(client, options):
    """Often copied: a secret in plain text is a JSONDecodeError, which carries it."""
    client.create_secret(Name="any", SecretString="hunter2")
    with pytest.raises(json.JSONDecodeError) as caught:
        get_credentials("any", **options)
    assert caught.value.doc == "hunter2"


def test_often_copied_binary(client, options):
    """Often copied: a binary secret is a KeyError."""
    client.create_secret(Name="any", SecretBinary=b"hunter2")
    with pytest.raises(KeyError, match="SecretString"):
        get_credentials("any", **options)
