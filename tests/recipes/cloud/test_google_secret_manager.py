import logging
import os
import subprocess
import sys
import traceback
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import grpc
import pytest
from google.api_core.exceptions import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    RetryError,
)
from google.auth.exceptions import DefaultCredentialsError
from google.cloud.secretmanager_v1 import SecretManagerServiceClient

from cookbook.engines import engine
from cookbook.paths import ROOT
from recipes.cloud import google_secret_manager as recipe
from recipes.cloud.google_secret_manager import Secrets, connect, read
from tests.recipes.support.grpc_proxy import GrpcProxy

PASSWORD = b"hunter2-hunter2"
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def environment(gcp_secrets, monkeypatch) -> dict[str, str]:
    """The variables of the recipe, set."""
    variables = engine("gcp_secrets").variables(gcp_secrets)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def admin(environment) -> Iterator[SecretManagerServiceClient]:
    """The client of those who own the passwords, past the proxy."""
    with connect() as client:
        yield client


@pytest.fixture
def proxy(environment, monkeypatch) -> Iterator[GrpcProxy]:
    """What the recipe talks to: it passes on, counts, and fails on demand."""
    proxy = GrpcProxy(environment["SECRET_MANAGER_EMULATOR_HOST"])
    monkeypatch.setenv("SECRET_MANAGER_EMULATOR_HOST", proxy.host)
    yield proxy
    proxy.close()


@pytest.fixture
def client(admin, proxy) -> Iterator[SecretManagerServiceClient]:
    with connect() as client:
        yield client


@pytest.fixture
def name(admin, environment) -> str:
    """A secret with one version."""
    parent = f"projects/{environment['GOOGLE_CLOUD_PROJECT']}"
    made = admin.create_secret(
        parent=parent, secret_id="orders-db", secret={"replication": {"automatic": {}}}
    )
    add(admin, made.name, PASSWORD)
    return made.name


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time that the cache sees."""
    now = [1000.0]
    monkeypatch.setattr(recipe, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def soon(monkeypatch) -> None:
    """Give up after a fifth of a second, not after ten."""
    monkeypatch.setattr(recipe, "RETRY", recipe.RETRY.with_timeout(0.2))


def add(admin, name, password) -> None:
    admin.add_secret_version(parent=name, payload={"data": password})


def test_pinned_or_latest(client, admin, name):
    """A number means that version for ever; `latest` is the newest, and says which."""
    add(admin, name, b"second")
    pinned, latest = (read(client, f"{name}/versions/{it}") for it in ("1", "latest"))
    assert (pinned.version, pinned.payload) == (f"{name}/versions/1", PASSWORD)
    assert (latest.version, latest.payload) == (f"{name}/versions/2", b"second")


def test_bytes_come_as_they_are(client, admin, name):
    """A payload is bytes: what is no UTF-8 comes unchanged."""
    every_byte = bytes(range(256))
    add(admin, name, every_byte)
    assert read(client, f"{name}/versions/latest").payload == every_byte


def test_one_request_for_all_threads(client, proxy, name):
    """Eight threads that ask at the same moment, and later ones, make one request."""
    secrets, barrier = Secrets(client), Barrier(8)

    def ask(_: int) -> bytes:
        barrier.wait(30)
        return secrets.get(f"{name}/versions/latest").payload

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {PASSWORD}
    secrets.get(f"{name}/versions/latest")
    assert proxy.calls == ["AccessSecretVersion"]


def test_rotation_is_noticed(client, proxy, admin, name, clock):
    """A new version is picked up when the time is over, and not a second before."""
    secrets, latest = Secrets(client, ttl=300), f"{name}/versions/latest"
    assert secrets.get(latest).payload == PASSWORD
    add(admin, name, b"second")
    clock[0] += 299
    assert secrets.get(latest).payload == PASSWORD
    clock[0] += 1
    assert secrets.get(latest).payload == b"second"
    assert len(proxy.calls) == 2


def test_refused_password_is_read_again(client, proxy, admin, name):
    """A password that the database refused is read again at once; others are not."""
    secrets, latest = Secrets(client), f"{name}/versions/latest"
    first = secrets.get(latest)
    add(admin, name, b"second")
    second = secrets.get(latest, refused=first)
    assert second.payload == b"second"
    assert secrets.get(latest, refused=first) == second  # another thread was quicker
    assert len(proxy.calls) == 2


def test_refused_password_is_not_served_again(client, proxy, name, soon):
    """If the service is away just then, the refused password is gone from the cache."""
    secrets, latest = Secrets(client), f"{name}/versions/latest"
    first = secrets.get(latest)
    proxy.fail([UNAVAILABLE] * 99)
    with pytest.raises(RetryError):
        secrets.get(latest, refused=first)
    with pytest.raises(RetryError):
        secrets.get(latest)


@pytest.mark.parametrize(
    ("change", "said"), [("disable", "DISABLED"), ("destroy", "DESTROYED")]
)
def test_withdrawn_version(client, proxy, admin, name, clock, change, said):
    """A version that was disabled or destroyed is an error that says so, at once, also
    where it was in the cache until its time was over."""
    secrets, pinned = Secrets(client, ttl=300), f"{name}/versions/1"
    secrets.get(pinned)
    getattr(admin, f"{change}_secret_version")(name=pinned)
    clock[0] += 300
    for _ in range(2):
        with pytest.raises(FailedPrecondition, match=rf"versions/1\] is in {said}"):
            secrets.get(pinned)
    assert len(proxy.calls) == 3


def test_newest_version_is_disabled(client, admin, name):
    """`latest` is the newest version in any state: disabled, it is an error, and the
    version before it is not served in its place."""
    add(admin, name, b"second")
    admin.disable_secret_version(name=f"{name}/versions/2")
    with pytest.raises(FailedPrecondition, match=r"versions/2\] is in DISABLED"):
        read(client, f"{name}/versions/latest")


def test_what_is_not_there(client, proxy, name):
    """A secret or a version that does not exist is NotFound, at once."""
    for wrong in (f"{name}/versions/7", f"{name}s/versions/latest"):
        with pytest.raises(NotFound, match="not found"):
            read(client, wrong)
    with pytest.raises(InvalidArgument):
        read(client, f"{name}/versions/newest")
    assert len(proxy.calls) == 3


def test_damaged_payload_is_read_again(client, proxy, name):
    """A payload that does not fit its checksum is read again."""
    proxy.damages = [(b"hunter2", b"hunter3")]
    assert read(client, f"{name}/versions/1").payload == PASSWORD
    assert len(proxy.calls) == 2


def test_damaged_payload_is_never_returned(client, proxy, name, soon):
    """A payload that stays damaged is an error, which does not show it."""
    proxy.damages = [(b"hunter2", b"hunter3")] * 99
    with pytest.raises(RetryError, match="the checksum does not match") as caught:
        read(client, f"{name}/versions/1")
    assert b"hunter".decode() not in "".join(traceback.format_exception(caught.value))


def test_outage_is_waited_out(client, proxy, name):
    """Unavailable, overloaded or late: the call is repeated, and answered."""
    overloaded = grpc.StatusCode.RESOURCE_EXHAUSTED
    proxy.fail([UNAVAILABLE, overloaded, grpc.StatusCode.DEADLINE_EXCEEDED])
    assert read(client, f"{name}/versions/1").payload == PASSWORD
    assert len(proxy.calls) == 4


def test_outage_ends_in_an_error(client, proxy, name, soon):
    """An outage that lasts is RetryError, with the reason in it."""
    proxy.fail([UNAVAILABLE] * 99)
    with pytest.raises(RetryError, match="the proxy was told to"):
        read(client, f"{name}/versions/1")


def test_limits():
    """No attempt starts after ten seconds."""
    assert recipe.RETRY.timeout == 10


def test_each_attempt_has_three_seconds(client, proxy, name):
    """Each attempt has a deadline of three seconds, which the server is told."""
    proxy.fail([UNAVAILABLE])
    read(client, f"{name}/versions/1")
    assert proxy.deadlines == [pytest.approx(3, abs=1), pytest.approx(3, abs=1)]


def test_refusal_is_not_repeated(client, proxy, name):
    """Who may not read the secret is told so at once."""
    proxy.fail([grpc.StatusCode.PERMISSION_DENIED])
    with pytest.raises(Exception, match="403 the proxy was told to"):
        read(client, f"{name}/versions/1")
    assert len(proxy.calls) == 1


@pytest.fixture
def log(caplog, monkeypatch):
    """All that is logged, down to DEBUG, also where Google's loggers are set apart."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(logging.getLogger("google"), "propagate", True)
    return caplog


def has_password(shown: object) -> bool:
    text = str(shown)
    return PASSWORD.decode() in text or b64encode(PASSWORD).decode() in text


def test_secret_is_shown_nowhere(client, admin, name, log):
    """The payload is in no repr, no log record and no error, even with DEBUG on for all
    loggers."""
    secrets = Secrets(client)
    secret = secrets.get(f"{name}/versions/latest")
    admin.disable_secret_version(name=secret.version)
    with pytest.raises(FailedPrecondition) as caught:
        secrets.get(f"{name}/versions/latest", refused=secret)
    said = traceback.TracebackException.from_exception(
        caught.value, capture_locals=True
    )
    assert repr(secret) == f"Secret(version='{name}/versions/1')"
    shown = [secret, vars(secrets), *map(vars, log.records), *said.format()]
    assert not any(map(has_password, shown))


def test_import_asks_for_nothing(tmp_path):
    """Importing the recipe needs no account; connecting without one is an error."""
    script = (
        "from recipes.cloud.google_secret_manager import connect\n"
        "print('imported')\n"
        "connect()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, **no_account(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "imported\n"
    assert "DefaultCredentialsError" in done.stderr


def no_account(tmp_path) -> dict[str, str]:
    """Variables with which Application Default Credentials find nothing."""
    return {
        "CLOUDSDK_CONFIG": str(tmp_path),
        "GOOGLE_APPLICATION_CREDENTIALS": "",
        "NO_GCE_CHECK": "true",
        "SECRET_MANAGER_EMULATOR_HOST": "",
    }


def test_without_an_account(monkeypatch, tmp_path):
    """Without a stand-in, the client has Application Default Credentials, or none."""
    for variable, value in no_account(tmp_path).items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(DefaultCredentialsError):
        connect()


# --8<-- [start:wrong]
def get_secret(client, name):
    response = client.access_secret_version(request={"name": name})
    return response.payload.data.decode("UTF-8")


# --8<-- [end:wrong]


def test_often_copied_takes_what_is_damaged(client, proxy, name):
    """Often copied: without the checksum, a damaged password is returned as if it were
    right."""
    proxy.damages = [(b"hunter2", b"hunter3")]
    assert get_secret(client, f"{name}/versions/1") == "hunter3-hunter3"


def test_often_copied_asks_every_time(client, proxy, name):
    """Often copied: each call is a request, which is billed and counts for the quota,
    and may wait for a minute."""
    for _ in range(3):
        get_secret(client, f"{name}/versions/latest")
    assert len(proxy.calls) == 3
    assert proxy.deadlines == [pytest.approx(60, abs=10)] * 3


def test_often_copied_logs_the_password(client, name, log):
    """Often copied: with DEBUG on for Google's loggers, the payload is in the log."""
    log.set_level(logging.DEBUG, "google.cloud.secretmanager_v1")
    get_secret(client, f"{name}/versions/1")
    assert any(has_password(vars(record)) for record in log.records)


def test_often_copied_knows_text_only(client, admin, name):
    """Often copied: a payload that is no UTF-8, such as a key, is a UnicodeDecodeError,
    and the error has the secret in it."""
    add(admin, name, b"\xff" + PASSWORD)
    with pytest.raises(UnicodeDecodeError) as caught:
        get_secret(client, f"{name}/versions/latest")
    assert PASSWORD in caught.value.object
