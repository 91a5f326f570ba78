"""managed_identity: one identity that was chosen, a fresh token for each login."""

import io
import json
import logging
import secrets
import ssl
import threading
import time

import mssql_python
import psycopg
import pytest
import requests
import trustme
from azure.core.exceptions import ClientAuthenticationError
from azure.core.pipeline.transport import RequestsTransport
from azure.identity import DefaultAzureCredential
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout
from urllib3 import HTTPResponse

from recipes.cloud.managed_identity import SCOPE, get_credential, open_pool
from recipes.sqlserver import connect_with_entra_token
from tests.recipes.support.identity_endpoint import IdentityEndpoint
from tests.recipes.support.tds_listener import TdsListener

OURS = "00000000-0000-0000-0000-000000000001"  # a client id
VARIABLES = (
    "AZURE_TOKEN_CREDENTIALS",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_TENANT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
)


def new_token() -> str:
    """As long as the tokens of Entra ID, and found nowhere else."""
    return f"eyJ0eXAiOiJKV1QifQ.{secrets.token_urlsafe(900)}"


@pytest.fixture(autouse=True)
def _no_identity_of_ours(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def setenv(monkeypatch):
    def setenv(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return setenv


@pytest.fixture
def identity(setenv):
    """Make an endpoint that gives tokens, and choose it; closed after the test."""
    endpoints = []

    def make(*tokens: str, **options) -> IdentityEndpoint:
        endpoints.append(IdentityEndpoint(*tokens, **options))
        variables = endpoints[-1].app_service
        setenv(AZURE_TOKEN_CREDENTIALS="ManagedIdentityCredential", **variables)
        return endpoints[-1]

    yield make
    for endpoint in endpoints:
        endpoint.close()


class Database:
    """A server with a role that logs in with a token: the one that is good now."""

    def __init__(self, address: str) -> None:
        self.admin = psycopg.connect(address, autocommit=True)
        self.role = f"app_{secrets.token_hex(6)}"
        self.admin.execute(
            sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(self.role))
        )
        parts = {**conninfo_to_dict(address), "user": self.role}
        del parts["password"]
        self.conninfo = make_conninfo("", **parts)

    def accepts(self, token: str) -> None:
        """That token from now on, and no other one."""
        self.admin.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(
                sql.Identifier(self.role), sql.Literal(token)
            )
        )

    def pids(self) -> set[int]:
        """The connections of that role."""
        query = "SELECT pid FROM pg_stat_activity WHERE usename = %s"
        return {pid for (pid,) in self.admin.execute(query, (self.role,))}

    def close(self) -> None:
        self.admin.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE usename = %s",
            (self.role,),
        )
        self.admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(self.role)))
        self.admin.close()


@pytest.fixture
def server(postgresql_tls):
    made = Database(postgresql_tls)
    yield made
    made.close()


class Entra(requests.adapters.BaseAdapter):
    """What answers in the place of login.microsoftonline.com, inside of the transport.

    `forms` are what was posted to it.
    """

    def __init__(self, token: str) -> None:
        super().__init__()
        self.token, self.forms = token, []

    def send(self, request, **options):
        tenant = request.url.split("/")[3]
        here = f"https://login.microsoftonline.com/{tenant}"
        if request.method == "POST":
            self.forms.append(dict(item.split("=") for item in request.body.split("&")))
            said = {"access_token": self.token, "expires_in": 3600}
        else:
            assert request.url.endswith("/.well-known/openid-configuration")
            said = {
                "issuer": f"{here}/v2.0",
                "authorization_endpoint": f"{here}/oauth2/v2.0/authorize",
                "token_endpoint": f"{here}/oauth2/v2.0/token",
            }
        answer = requests.Response()
        answer.status_code, answer.request, answer.url = 200, request, request.url
        answer.headers["Content-Type"] = "application/json"
        body = json.dumps(said).encode()
        answer.raw = HTTPResponse(io.BytesIO(body), preload_content=False)
        return answer

    def close(self):
        """It holds nothing."""


@pytest.fixture
def entra():
    """Azure-core's transport, and what answers in it: nothing leaves the process."""
    adapter = Entra(new_token())
    with requests.Session() as session:
        session.mount("https://", adapter)
        yield adapter, RequestsTransport(session=session, session_owner=False)


def test_log_in(identity, server):
    """The token of the managed identity logs in at a real PostgreSQL, over TLS."""
    endpoint = identity(token := new_token())
    server.accepts(token)
    with (
        open_pool(server.conninfo, get_credential()) as pool,
        pool.connection() as conn,
    ):
        who = conn.execute("SELECT current_user").fetchone()
    assert who == (server.role,)
    (asked,) = endpoint.requests
    assert asked["resource"] == "https://ossrdbms-aad.database.windows.net"


def test_kept_in_memory(identity, server):
    """Five connections log in with one token: the credential keeps it."""
    endpoint = identity(token := new_token())
    server.accepts(token)
    with open_pool(server.conninfo, get_credential(), size=5) as pool:
        conns = [pool.getconn() for _ in range(5)]
        assert len(server.pids()) == 5
        for conn in conns:
            pool.putconn(conn)
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(("lives", "asked"), [(280, 3), (600, 1)])
def test_renewed_before_its_end(identity, lives, asked):
    """A token with less than five minutes to live is not given out again."""
    endpoint = identity(new_token(), lives=lives)
    credential = get_credential()
    for _ in range(3):
        credential.get_token(SCOPE)
    assert len(endpoint.requests) == asked


def test_each_connection_asks(identity, server):
    """After the first token has ended, a new connection logs in with the next one, and
    an open one goes on."""
    first, second = new_token(), new_token()
    endpoint = identity(first, lives=60)
    server.accepts(first)
    with (
        open_pool(server.conninfo, get_credential(), size=2) as pool,
        pool.connection() as old,
    ):
        server.accepts(second)
        endpoint.tokens = [second]
        with pool.connection() as new:
            assert new.execute("SELECT 1").fetchone() == (1,)
        assert old.execute("SELECT 1").fetchone() == (1,)


def test_no_identity(identity, server):
    """A machine without an identity: the reason at once, and nobody was asked."""
    identity()
    with pytest.raises(ClientAuthenticationError, match="Identity not found"):
        open_pool(server.conninfo, get_credential())
    assert server.pids() == set()


def test_refused_by_the_server(identity, server):
    """A token that the server refuses: its own words at once, no timeout of a pool."""
    identity(token := new_token())
    server.accepts(new_token())
    with pytest.raises(
        psycopg.OperationalError, match="password authentication failed"
    ) as caught:
        open_pool(server.conninfo, get_credential())
    assert token not in str(caught.value)


def test_certificate_of_another_name(identity, server):
    """The token goes to no server whose certificate is for another name, also where
    the address asks for less."""
    identity(token := new_token())
    server.accepts(token)
    weak = make_conninfo(server.conninfo, host="127.0.0.1", sslmode="require")
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        open_pool(weak, get_credential())


def test_pool_exhausted(identity, server):
    """A caller that finds no free connection gets an error, after the time it gave."""
    identity(token := new_token())
    server.accepts(token)
    with open_pool(server.conninfo, get_credential(), size=1, wait=29) as pool:
        assert pool.timeout == 29
        with pool.connection(), pytest.raises(PoolTimeout):
            pool.getconn(timeout=0.05)


def test_closed_where_it_cannot_open(identity, server):
    """A pool that cannot open in time leaves no thread behind."""
    identity(token := new_token())
    server.accepts(token)
    with pytest.raises(PoolTimeout):
        open_pool(server.conninfo, get_credential(), wait=0)
    assert not [it for it in threading.enumerate() if it.name.startswith("pool-")]


@pytest.mark.parametrize("value", [None, "", " ", "prod", "Dev"])
def test_nothing_chosen(setenv, value):
    """Without the name of one credential there is none: an error says which variable
    to set, and a group such as `prod` is refused."""
    if value is not None:
        setenv(AZURE_TOKEN_CREDENTIALS=value)
    with pytest.raises(ValueError, match="AZURE_TOKEN_CREDENTIALS"):
        get_credential()


def test_one_of_several_identities(identity, setenv):
    """AZURE_CLIENT_ID says which identity of the machine is meant."""
    endpoint = identity(token := new_token(), identities=(OURS,))
    setenv(AZURE_CLIENT_ID=OURS)
    assert get_credential().get_token(SCOPE).token == token
    assert [asked["client_id"] for asked in endpoint.requests] == [OURS]


def test_on_a_virtual_machine(monkeypatch, setenv, identity):
    """On a virtual machine the token comes from its metadata service."""
    endpoint = identity(token := new_token())
    for name in endpoint.app_service:
        monkeypatch.delenv(name)
    setenv(**endpoint.vm)
    assert get_credential().get_token(SCOPE).token == token
    assert len(endpoint.requests) == 1


def test_workload_identity(setenv, entra, tmp_path):
    """In Kubernetes the token is had for the one in the pod's file, and no secret."""
    adapter, transport = entra
    (tmp_path / "token").write_text("the-service-accounts-token")
    setenv(
        AZURE_TOKEN_CREDENTIALS="WorkloadIdentityCredential",
        AZURE_TENANT_ID="cookbook",
        AZURE_CLIENT_ID=OURS,
        AZURE_FEDERATED_TOKEN_FILE=str(tmp_path / "token"),
    )
    credential = get_credential(transport=transport)
    for _ in range(2):
        assert credential.get_token(SCOPE).token == adapter.token
    (form,) = adapter.forms
    assert form["client_id"] == OURS
    assert form["client_assertion"] == "the-service-accounts-token"
    assert "client_secret" not in form


def test_a_secret_left_behind(identity, setenv, entra):
    """The chosen identity is asked, though the variables of another one are there."""
    adapter, _ = entra
    endpoint = identity(token := new_token(), identities=(OURS,))
    setenv(AZURE_TENANT_ID="cookbook", AZURE_CLIENT_ID=OURS, AZURE_CLIENT_SECRET="old")
    credential = get_credential()
    assert credential.get_token(SCOPE).token == token
    assert (len(endpoint.requests), adapter.forms) == (1, [])


def wait_for(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_secrets_stay_secret(identity, server, caplog):
    """No token in the pool's text, and none in any log at its most talkative."""
    caplog.set_level(logging.DEBUG)
    first, second = new_token(), new_token()
    identity(first, lives=60)
    server.accepts(first)
    credential = get_credential()
    with open_pool(server.conninfo, credential) as pool:
        server.accepts(second)
        broken, pool.reconnect_timeout = pool.getconn(), 0.01
        broken.close()
        pool.putconn(broken)
        wait_for(lambda: "password authentication failed" in caplog.text)
        with pytest.raises(PoolTimeout) as caught:
            pool.getconn(timeout=0.05)
        said = "\n".join(
            [
                *(repr(pool), str(pool), repr(credential), str(caught.value)),
                pool.conninfo,
                repr(pool.get_stats()),
            ]
        )
    for token in (first, second):
        assert token not in caplog.text + said


def test_the_same_credential_at_sql_server(identity):
    """The same credential logs in with mssql-python: a listener that speaks SQL
    Server's protocol gets the token whole, in UTF-16."""
    endpoint = identity(token := new_token())
    mssql_python.pooling(enabled=False)  # the login ends with this test
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    trustme.CA().issue_cert("localhost").configure_cert(tls)
    with TdsListener(tls=tls) as listener:
        connect_with_entra_token.connect(listener.dsn, get_credential()).close()
    assert listener.logins[0]["token"] == token.encode("utf-16-le")
    assert endpoint.requests[0]["resource"] == "https://database.windows.net"


# --8<-- [start:wrong]
def open_pool_as_often_copied(conninfo):
    credential = DefaultAzureCredential()
    token = credential.get_token("https://ossrdbms-aad.database.windows.net/.default")
    return ConnectionPool(f"{conninfo} password={token.token} sslmode=require")


# --8<-- [end:wrong]


def take_all(pool):
    """Take one connection more than there are."""
    for _ in range(pool.max_size):
        pool.getconn(timeout=0.3)


def test_often_copied_ends_with_its_token(identity, server):
    """Often copied: the token is asked for once, so the pool opens no connection after
    the token's end, though the identity has a new one."""
    first, second = new_token(), new_token()
    endpoint = identity(first, lives=60)
    server.accepts(first)
    with open_pool_as_often_copied(server.conninfo) as pool:
        pool.wait(timeout=30)
        endpoint.tokens = [second]
        server.accepts(second)
        conn = pool.getconn()
        conn.close()  # as the server does when it is restarted
        pool.putconn(conn)
        with pytest.raises(PoolTimeout):
            take_all(pool)


def test_often_copied_shows_the_token(identity, server):
    """Often copied: the token is part of the pool's address, for everyone who looks."""
    identity(token := new_token())
    server.accepts(token)
    with open_pool_as_often_copied(server.conninfo) as pool:
        pool.wait(timeout=30)
        assert token in pool.conninfo


def test_often_copied_takes_what_it_finds(identity, setenv, monkeypatch, entra):
    """Often copied: without a choice, variables that were left behind win over the
    identity of the machine, and the old secret is sent."""
    adapter, transport = entra
    endpoint = identity(new_token(), identities=(OURS,))
    monkeypatch.delenv("AZURE_TOKEN_CREDENTIALS")
    setenv(AZURE_TENANT_ID="cookbook", AZURE_CLIENT_ID=OURS, AZURE_CLIENT_SECRET="old")
    DefaultAzureCredential(transport=transport).get_token(SCOPE)
    assert [form["client_secret"] for form in adapter.forms] == ["old"]
    assert endpoint.requests == []
