"""key_vault: kept, read again when it is refused, never expired, and never shown."""

import gc
import logging
import os
import secrets
import socket
import subprocess
import sys
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import psycopg
import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
    ServiceRequestError,
)
from azure.core.pipeline.transport import RequestsTransport
from azure.identity import DefaultAzureCredential, ManagedIdentityCredential
from azure.keyvault.secrets import SecretClient
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from cookbook.engines import engine
from cookbook.engines.in_process import behind
from cookbook.paths import ROOT
from cookbook.stand_ins.key_vault import Refusal
from recipes.cloud import key_vault as recipe
from recipes.cloud.key_vault import SecretCache, connect, make_client, read

NAME = "orders-db"
PASSWORD = "hunter2-hunter2"
GET = f"/secrets/{NAME}/"
OTHERS = ("CLIENT_ID", "CLIENT_SECRET", "TENANT_ID", "TOKEN_CREDENTIALS")


@pytest.fixture
def given(key_vault, monkeypatch):
    """The variables of the recipe, set."""
    for name in OTHERS:
        monkeypatch.delenv(f"AZURE_{name}", raising=False)
    variables = engine("key_vault").variables(key_vault)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def vault(key_vault):
    """What answers, to look into it and to disturb it."""
    return behind(key_vault)


@pytest.fixture
def identity(given):
    with ManagedIdentityCredential(
        connection_verify=given["AZURE_KEY_VAULT_CA"]
    ) as identity:
        yield identity


@pytest.fixture
def client(given, identity):
    url, ca = given["AZURE_KEY_VAULT_URL"], given["AZURE_KEY_VAULT_CA"]
    with make_client(url, identity, connection_verify=ca) as client:
        yield client


@pytest.fixture
def first(client):
    """The first version of the secret."""
    return client.set_secret(NAME, PASSWORD).properties.version


@pytest.fixture
def cache(client, first):
    return SecretCache(client, NAME)


@pytest.fixture
def clock(monkeypatch):
    """The time that the cache sees, in seconds."""
    now = [1000.0]
    monkeypatch.setattr(recipe, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def calendar(monkeypatch):
    """The date that the recipe sees: change what is in front."""
    now = [datetime.now(UTC)]

    class Calendar(datetime):
        @classmethod
        def now(cls, tz=None):
            return now[0]

    monkeypatch.setattr(recipe, "datetime", Calendar)
    return now


@pytest.fixture
def waits(monkeypatch):
    """How long the client waits between two attempts: nothing here, and counted."""
    waits = []
    monkeypatch.setattr(
        RequestsTransport, "sleep", lambda self, duration: waits.append(duration)
    )
    return waits


def reads(vault):
    """The requests for a value that were sent with a token."""
    return [
        it
        for it in vault.requests
        if (it.method, it.names[0]) == ("GET", "secrets")
        and "authorization" in it.headers
    ]


def days(number):
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=number)


def disable(client, version):
    client.update_secret_properties(NAME, version, enabled=False)


def test_pinned_or_newest(client, first):
    """A version means that version for ever; without one it is the newest, and the
    answer says which."""
    second = client.set_secret(NAME, "second").properties.version
    pinned, newest = read(client, NAME, first), read(client, NAME)
    assert (pinned.version, pinned.value) == (first, PASSWORD)
    assert (newest.version, newest.value) == (second, "second")
    assert SecretCache(client, NAME, first).get() == pinned
    assert SecretCache(client, NAME).get() == newest


def test_one_request_for_all_threads(cache, vault):
    """Eight threads that ask at the same moment, and later ones, make one request."""
    barrier = Barrier(8)

    def ask(_):
        barrier.wait(30)
        return cache.get().value

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {PASSWORD}
    cache.get()
    assert len(reads(vault)) == 1


def test_one_token_for_all_requests(client, first, vault):
    """The identity is asked for a token once, not for each secret."""
    for _ in range(3):
        read(client, NAME)
    assert [it.names[0] for it in vault.requests].count("identity") == 1
    assert len(vault.tokens) == 1


def test_rotation_is_noticed(cache, client, vault, clock):
    """A new version is picked up after five minutes, and not a second before."""
    assert cache.get().value == PASSWORD
    client.set_secret(NAME, "second")
    clock[0] += 299
    assert cache.get().value == PASSWORD
    clock[0] += 1
    assert cache.get().value == "second"
    assert len(reads(vault)) == 2


def test_expired(client):
    """The vault gives out a secret that has expired; read() refuses it and says when it
    did."""
    ended = days(-1)
    made = client.set_secret(NAME, PASSWORD, expires_on=ended)
    assert client.get_secret(NAME).value == PASSWORD
    with pytest.raises(ValueError, match="expired on") as caught:
        read(client, NAME)
    assert str(caught.value) == f"{made.id} expired on {ended}"


def test_not_valid_yet(client, calendar):
    """The vault gives out a secret before its time; read() refuses it until then."""
    begins = days(1)
    made = client.set_secret(NAME, PASSWORD, not_before=begins)
    assert client.get_secret(NAME).value == PASSWORD
    with pytest.raises(ValueError, match="not valid before") as caught:
        read(client, NAME)
    assert str(caught.value) == f"{made.id} is not valid before {begins}"
    calendar[0] = begins
    assert read(client, NAME).value == PASSWORD


def test_expires_while_it_is_kept(client, vault, calendar):
    """A kept secret is not given out after its end, also where the five minutes are not
    over."""
    ends = days(1)
    client.set_secret(NAME, PASSWORD, expires_on=ends)
    cache = SecretCache(client, NAME)
    calendar[0] = ends - timedelta(seconds=1)
    assert cache.get() is cache.get()
    calendar[0] = ends
    for _ in range(2):
        with pytest.raises(ValueError, match="expired on"):
            cache.get()
    client.set_secret(NAME, "second")
    assert cache.get().value == "second"


def test_disabled(cache, client, first, clock, vault):
    """A secret that was disabled is an error that says so, at once. In the cache it is
    good until the five minutes are over."""
    cache.get()
    disable(client, first)
    clock[0] += 300
    for _ in range(2):
        with pytest.raises(HttpResponseError, match="disabled secret") as caught:
            cache.get()
        assert caught.value.status_code == 403
        assert "SecretDisabled" in str(caught.value)
    assert len(reads(vault)) == 3


def test_newest_is_disabled(client, first):
    """Where the newest version is disabled, the one before it is not given out in its
    place; pinned, it is."""
    disable(client, client.set_secret(NAME, "second").properties.version)
    with pytest.raises(HttpResponseError, match="disabled secret"):
        read(client, NAME)
    assert read(client, NAME, first).value == PASSWORD


def test_not_there(client, first, vault):
    """A secret or a version that does not exist is ResourceNotFoundError, at once, with
    the name in it; a deleted one too."""
    with pytest.raises(ResourceNotFoundError, match=r"SecretNotFound.*orders-dp"):
        read(client, "orders-dp")
    with pytest.raises(ResourceNotFoundError, match=f"{NAME}/{'0' * 32}"):
        read(client, NAME, "0" * 32)
    client.begin_delete_secret(NAME).wait()
    with pytest.raises(ResourceNotFoundError, match=NAME):
        read(client, NAME)
    assert len(reads(vault)) == 3


def test_no_right(client, first, vault):
    """An identity that may not read is told so at once, and in other words than for a
    disabled secret."""
    vault.rights = set()
    with pytest.raises(HttpResponseError, match="ForbiddenByRbac"):
        read(client, NAME)
    assert len(reads(vault)) == 1


def test_no_identity(given, client, first, monkeypatch, vault):
    """Whoever is not the identity gets no token: ClientAuthenticationError."""
    monkeypatch.setenv("IDENTITY_HEADER", "of another")
    ca, url = given["AZURE_KEY_VAULT_CA"], given["AZURE_KEY_VAULT_URL"]
    with (
        ManagedIdentityCredential(connection_verify=ca) as other,
        make_client(url, other, connection_verify=ca) as client,
        pytest.raises(ClientAuthenticationError),
    ):
        read(client, NAME)
    assert reads(vault) == []


def unavailable(times, status=503, **headers):
    """Refuse the next reads, so many times."""
    left = iter(range(times))

    def interfere(request):
        if request.path.startswith(GET) and next(left, None) is not None:
            refusal = Refusal(status, "Unavailable", "come again")
            refusal.headers.update(headers)
            raise refusal

    return interfere


@pytest.mark.parametrize("status", [429, 500, 503])
def test_outage_is_waited_out(client, first, vault, waits, status):
    """Throttled or unavailable: the request is repeated twice, and answered."""
    vault.interfere = unavailable(2, status)
    assert read(client, NAME).value == PASSWORD
    assert len(reads(vault)) == 3


def test_outage_ends_in_an_error(cache, vault, waits):
    """An outage that lasts is HttpResponseError after three attempts and two seconds of
    waiting; then nothing old is given out."""
    kept = cache.get()
    vault.interfere = unavailable(99)
    for refused in (kept, None):
        with pytest.raises(HttpResponseError, match="come again"):
            cache.get(refused)
    assert len(reads(vault)) == 1 + 2 * 3
    assert sum(waits) <= 2 * 2


def test_the_vault_says_when(client, first, vault, waits):
    """Where the vault says how long to wait, the client waits that long, whatever it
    is."""
    vault.interfere = unavailable(1, 429, **{"Retry-After": "7"})
    assert read(client, NAME).value == PASSWORD
    assert waits == [7]


def test_limits(client, monkeypatch, first):
    """Each attempt has three seconds to connect, and five between two bytes."""
    given = []
    send = RequestsTransport.send

    def watch(self, request, **options):
        given.append(self.connection_config)
        return send(self, request, **options)

    monkeypatch.setattr(RequestsTransport, "send", watch)
    read(client, NAME)
    assert {(it.timeout, it.read_timeout) for it in given} == {(3, 5)}


def test_certificate_is_verified(given, identity, first, vault, waits):
    """A vault whose certificate nobody trusted has signed gets no request and no
    token."""
    before = len(vault.requests)
    with (
        make_client(given["AZURE_KEY_VAULT_URL"], identity) as client,
        pytest.raises(ServiceRequestError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        read(client, NAME)
    assert len(vault.requests) == before


def test_plain_http_is_refused(identity, waits):
    """An address without TLS is refused before anything is sent."""
    with (
        make_client("http://127.0.0.1:9", identity) as client,
        pytest.raises(ServiceRequestError, match="not permitted for non-TLS"),
    ):
        read(client, NAME)


def test_token_is_for_this_vault(given, identity, vault):
    """A server that asks for a token of another resource than its own domain gets
    none."""
    vault.resource = "https://vault.example.com"
    url, ca = given["AZURE_KEY_VAULT_URL"], given["AZURE_KEY_VAULT_CA"]
    with (
        make_client(url, identity, connection_verify=ca) as client,
        pytest.raises(ValueError, match="does not match the requested domain"),
    ):
        read(client, NAME)
    assert len(vault.requests) == 1


class Role:
    """A role of its own at the server, whose password is in the secret."""

    def __init__(self, admin, client, address):
        self.admin, self.client = admin, client
        self.name = f"app_{admin.info.dbname}"
        self.conninfo = make_conninfo(address, user=self.name)

    def change_password(self):
        new = secrets.token_urlsafe(32)
        self.admin.pgconn.change_password(self.name.encode(), new.encode())
        return new

    def rotate(self):
        self.client.set_secret(NAME, self.change_password())


@pytest.fixture
def role(postgresql_tls, client):
    with psycopg.connect(postgresql_tls, autocommit=True) as admin:
        role = Role(admin, client, postgresql_tls)
        name = Identifier(role.name)
        admin.execute(SQL("CREATE ROLE {} LOGIN").format(name))
        try:
            role.rotate()
            yield role
        finally:
            admin.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE usename = %s",
                (role.name,),
            )
            admin.execute(SQL("DROP ROLE {}").format(name))


@pytest.fixture
def logins(monkeypatch):
    """The logins that are tried, by their passwords."""
    tried = []
    real = psycopg.connect

    def watch(conninfo, **options):
        tried.append(options["password"])
        return real(conninfo, **options)

    monkeypatch.setattr(recipe.psycopg, "connect", watch)
    return tried


def test_rotation_between_two_logins(role, client, vault, logins):
    """After a rotation the first login is refused, the secret is read once, and the
    second login works. The logins after it find the new one kept."""
    cache = SecretCache(client, NAME)
    for _ in range(2):
        with connect(cache, role.conninfo) as conn:
            assert conn.info.user == role.name
    assert len(reads(vault)) == 1
    role.rotate()
    for _ in range(2):
        connect(cache, role.conninfo).close()
    assert len(reads(vault)) == 2
    assert len(logins) == 5


def test_refused_for_good(role, client, vault, logins):
    """Where the vault has nothing newer, the database is not asked a second time, and
    the error is the database's."""
    cache = SecretCache(client, NAME)
    role.change_password()
    with pytest.raises(psycopg.OperationalError, match="password authentication"):
        connect(cache, role.conninfo)
    assert (len(reads(vault)), len(logins)) == (2, 1)


def test_newer_is_refused_too(role, client, vault, logins):
    """Where the newer password is refused as well, that is the end: two logins, and no
    loop."""
    cache = SecretCache(client, NAME)
    cache.get()
    role.rotate()
    role.change_password()
    with pytest.raises(psycopg.OperationalError, match="password authentication"):
        connect(cache, role.conninfo)
    assert (len(reads(vault)), len(logins)) == (2, 2)


def test_no_server_is_no_refusal(cache, vault):
    """A server that is not there says nothing about the password: it is not read
    again."""
    with socket.socket() as taken:  # nobody listens there
        taken.bind(("127.0.0.1", 0))
        conninfo = f"host=127.0.0.1 port={taken.getsockname()[1]} user=app"
        with pytest.raises(psycopg.OperationalError, match="refused"):
            connect(cache, conninfo)
    assert len(reads(vault)) == 1


def test_two_threads_are_refused(cache, client, vault):
    """A thread whose password was refused finds the new one that another thread has
    read."""
    old = cache.get()
    client.set_secret(NAME, "second")
    new = cache.get(refused=old)
    assert cache.get(refused=old) is new
    assert len(reads(vault)) == 2


def has_secret(shown, vault):
    text = str(shown)
    return PASSWORD in text or any(token in text for token in vault.tokens)


def test_secret_is_shown_nowhere(client, first, vault, caplog):
    """The value and the token are in no repr, no log record and no error, even with
    DEBUG on for all loggers."""
    caplog.set_level(logging.DEBUG)
    cache = SecretCache(client, NAME)
    secret = cache.get()
    disable(client, first)
    with pytest.raises(HttpResponseError) as caught:
        cache.get(refused=secret)
    client.set_secret(NAME, PASSWORD, expires_on=days(-1))
    with pytest.raises(ValueError, match="expired") as expired:
        cache.get()
    said = [
        line
        for error in (caught.value, expired.value)
        for line in traceback.TracebackException.from_exception(error).format()
    ]
    assert repr(secret) == f"Secret(version='{first}', expires_on=None)"
    assert len(vault.tokens) == 1
    assert any("/secrets/orders-db" in str(vars(it)) for it in caplog.records)
    shown = [secret, vars(cache), *map(vars, caplog.records), *said]
    assert [it for it in shown if has_secret(it, vault)] == []


def test_import_asks_for_nothing(given, vault):
    """Importing the recipe sends nothing, and needs no variable."""
    wanted = {name: value for name, value in os.environ.items() if name not in given}
    done = subprocess.run(
        [sys.executable, "-c", "import recipes.cloud.key_vault; print('imported')"],
        cwd=ROOT,
        env=wanted,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("imported\n", "")


def test_making_a_client_asks_for_nothing(client, given, identity, vault):
    """Making the client sends nothing; without an address it is a ValueError."""
    assert vault.requests == []
    with pytest.raises(ValueError, match="vault_url"):
        make_client("", identity)


# --8<-- [start:wrong]
def get_secret(name):
    credential = DefaultAzureCredential()
    client = SecretClient(os.environ["AZURE_KEY_VAULT_URL"], credential)
    return client.get_secret(name).value


# --8<-- [end:wrong]


@pytest.fixture
def trusted(given, monkeypatch):
    """What is copied has no place for a certificate's authority but this one."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", given["AZURE_KEY_VAULT_CA"])
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "prod")  # no tools of a desk
    yield
    with warnings.catch_warnings():  # it closes nothing: not in another test, then
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_often_copied_takes_what_has_expired(client, trusted):
    """Often copied: a secret that has expired, or is not valid yet, is used as if it
    were right."""
    client.set_secret(NAME, PASSWORD, expires_on=days(-1))
    assert get_secret(NAME) == PASSWORD
    client.set_secret(NAME, "next", not_before=days(1))
    assert get_secret(NAME) == "next"


def test_often_copied_asks_every_time(first, trusted, vault):
    """Often copied: each call makes a client and a credential, asks for a token, and
    reads the secret."""
    before = len(vault.tokens)
    for _ in range(3):
        get_secret(NAME)
    assert len(vault.tokens) - before == 3
    assert len(reads(vault)) == 3


def test_often_copied_waits_for_minutes(first, trusted, vault, monkeypatch):
    """Often copied: each attempt may take five minutes to connect, and five more to be
    answered."""
    given = set()
    send = RequestsTransport.send

    def watch(self, request, **options):
        given.add((self.connection_config.timeout, self.connection_config.read_timeout))
        return send(self, request, **options)

    monkeypatch.setattr(RequestsTransport, "send", watch)
    get_secret(NAME)
    assert given == {(300, 300)}


def test_often_copied_to_see_more_logs_the_secret(given, identity, first, caplog):
    """Often copied: with `logging_enable=True`, to see more, the value is in the DEBUG
    log."""
    caplog.set_level(logging.DEBUG)
    url, ca = given["AZURE_KEY_VAULT_URL"], given["AZURE_KEY_VAULT_CA"]
    with make_client(
        url, identity, connection_verify=ca, logging_enable=True
    ) as client:
        read(client, NAME)
    assert any(PASSWORD in str(vars(record)) for record in caplog.records)


def test_often_copied_needs_a_vault_to_be_imported(monkeypatch):
    """Often copied: as a module's constant it is read while the module is imported, so
    without the variable not even a test can import it."""
    monkeypatch.delenv("AZURE_KEY_VAULT_URL", raising=False)
    with pytest.raises(KeyError, match="AZURE_KEY_VAULT_URL"):
        get_secret(NAME)
    with pytest.raises(ValueError, match="vault_url must be the URL"):
        SecretClient(os.environ.get("AZURE_KEY_VAULT_URL"), DefaultAzureCredential())
