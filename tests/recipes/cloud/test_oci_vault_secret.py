"""oci_vault_secret: the SDK, and a stand-in that asks for its signatures."""

import base64
import json
import logging
import socket
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import oci
import pytest
from oci.exceptions import ConfigFileNotFound, RequestException, ServiceError

from cookbook.engines import engine
from cookbook.engines.in_process import behind
from cookbook.stand_ins.oracle_cloud import Refusal
from recipes.cloud.oci_vault_secret import Secret, make_client, read


@pytest.fixture
def stand_in(oracle_cloud):
    return behind(oracle_cloud)


@pytest.fixture
def file(oracle_cloud):
    return engine("oracle_cloud").variables(oracle_cloud)["OCI_CONFIG_FILE"]


@pytest.fixture
def secret_id(oracle_cloud):
    return engine("oracle_cloud").variables(oracle_cloud)["OCI_SECRET_ID"]


@pytest.fixture
def close():
    """Close clients after the test."""
    made = []

    def later(client):
        made.append(client)
        return client

    yield later
    for client in made:
        client.base_client.session.close()


@pytest.fixture
def client(file, stand_in, close):
    made = close(make_client("file", file, stand_in.url))
    made.retry_strategy.base_sleep_time_seconds = 0
    made.retry_strategy.decorrelated_jitter = 0
    return made


@pytest.fixture
def update(file, stand_in, secret_id, close):
    """Change the secret, as the vault's own interface does it."""
    config = oci.config.from_file(file)
    vaults = close(oci.vault.VaultsClient(config, service_endpoint=stand_in.url))
    models = oci.vault.models

    def update(value=None, *, stage=None, current=None):
        details = models.UpdateSecretDetails(current_version_number=current)
        if value is not None:
            content = base64.b64encode(value.encode()).decode()
            details.secret_content = models.Base64SecretContentDetails(
                content=content, stage=stage
            )
        vaults.update_secret(secret_id, details)

    return update


def reads(stand_in):
    return sum("/secretbundles/" in one.path for one in stand_in.requests)


class Clock:
    now = 1_000.0

    def __call__(self):
        return self.now


def test_value(client, secret_id, update):
    """The value is text, decoded from Base64 and from UTF-8."""
    update("pässwörd")
    assert Secret(client, secret_id).value() == "pässwörd"


def test_request_is_signed(client, secret_id, stand_in):
    """The request carries a signature of its method, path, host and date, which the
    stand-in verified with the public key."""
    Secret(client, secret_id).value()
    (request,) = stand_in.requests
    given = request.headers["authorization"]
    assert 'headers="date (request-target) host"' in given
    assert request.path == f"/20190301/secretbundles/{secret_id}"


def test_kept_for_its_time(client, secret_id, stand_in, update):
    """A value is read once in its time, and again after it: then a rotated secret is
    the new one."""
    update("old")
    clock = Clock()
    secret = Secret(client, secret_id, max_age=300, clock=clock)
    assert secret.value() == "old"
    update("new")
    clock.now += 299
    assert secret.value() == "old"
    assert reads(stand_in) == 1
    clock.now += 1
    assert secret.value() == "new"
    assert reads(stand_in) == 2


def test_refused_value_is_forgotten(client, secret_id, stand_in, update):
    """When the database refuses the old password, the next read gives the new one,
    before the time is over."""
    update("old")
    secret = Secret(client, secret_id)
    refused = secret.value()
    update("new")
    secret.forget(refused)
    assert secret.value() == "new"
    secret.forget(refused)  # another thread hears of it late: nothing to do
    assert secret.value() == "new"
    assert reads(stand_in) == 2


def test_threads_share_one_read(client, secret_id, stand_in):
    """Eight threads ask at once for a value that is not there: one request."""
    secret = Secret(client, secret_id)
    barrier = threading.Barrier(8)

    def ask():
        barrier.wait(20)
        return secret.value()

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask) for _ in range(8)]
        values = {one.result(20) for one in asking}
    assert len(values) == 1
    assert reads(stand_in) == 1


def test_versions_and_stages(client, secret_id, update):
    """A pending version is not the current one, and can be read before it is: by its
    stage or its number. When it becomes current, the old one is still there."""
    update("old")
    update("next", stage="PENDING")
    assert read(client, secret_id) == "old"
    assert read(client, secret_id, stage="PENDING") == "next"
    assert read(client, secret_id, version_number=3) == "next"
    update(current=3)
    assert read(client, secret_id) == "next"
    assert read(client, secret_id, stage="PREVIOUS") == "old"


def test_expired_is_not_given_out(client, secret_id, stand_in):
    """The vault cannot be reached when the time is over: an error, and not the old
    value. The next call asks again."""
    clock = Clock()
    secret = Secret(client, secret_id, clock=clock)
    value = secret.value()
    clock.now += 300

    def interfere(_):
        raise Refusal(503, "ServiceUnavailable")

    stand_in.interfere, usual = interfere, stand_in.interfere
    with pytest.raises(ServiceError) as caught:
        secret.value()
    assert caught.value.status == 503
    assert reads(stand_in) == 4  # one, then three attempts
    stand_in.interfere = usual
    assert secret.value() == value


def test_busy_once(client, secret_id, stand_in):
    """A vault that was too busy is asked again."""
    refused = []

    def interfere(request):
        if not refused:
            refused.append(request)
            raise Refusal(429, "TooManyRequests")

    stand_in.interfere = interfere
    assert Secret(client, secret_id).value()
    assert reads(stand_in) == 2


def test_no_such_secret(client, secret_id):
    """A secret that is not there, or that the policies do not give you, is a
    ServiceError with status 404: the service does not say which."""
    with pytest.raises(ServiceError) as caught:
        Secret(client, f"{secret_id}x").value()
    assert (caught.value.status, caught.value.code) == (404, "NotAuthorizedOrNotFound")


def test_limits(file, close):
    """Three seconds to connect and five to wait, three attempts within twenty; and
    without an endpoint, that of the region, over TLS."""
    client = close(make_client("file", file))
    assert client.base_client.timeout == (3, 5)
    limits = [vars(one) for one in client.retry_strategy.checkers.checkers]
    assert {"max_attempts": 3} in limits
    assert {"time_limit_seconds": 20} in limits
    assert client.base_client.endpoint.startswith("https://secrets.vaults.eu-frankfurt")


def test_nobody_answers(file, secret_id, close):
    """A vault that cannot be reached: RequestException."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    client = close(make_client("file", file, f"http://127.0.0.1:{port}"))
    client.retry_strategy = oci.retry.NoneRetryStrategy()
    with pytest.raises(RequestException):
        Secret(client, secret_id).value()


def test_no_configuration_file(tmp_path):
    """Without a configuration file: ConfigFileNotFound, with its name."""
    with pytest.raises(ConfigFileNotFound, match="none"):
        make_client("file", str(tmp_path / "none"))


@pytest.fixture
def function(stand_in, monkeypatch):
    """What a function finds in its environment: a token and a key for it."""

    def encode(part):
        return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")

    key = stand_in.key_file.read_text()
    (public,) = stand_in.keys.values()
    numbers = public.public_numbers()
    jwk = json.dumps({"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)})
    claims = {"exp": int(time.time()) + 3_600, "jwk": jwk, "res_tenant": "t"}
    token = f"{encode({'alg': 'none'})}.{encode(claims)}.{encode('signed')}"
    stand_in.keys = {f"ST${token}": public}  # the key of the person is none any more
    for name, value in (
        ("VERSION", "2.2"),
        ("RPST", token),
        ("PRIVATE_PEM", key),
        ("REGION", "eu-frankfurt-1"),
    ):
        monkeypatch.setenv(f"OCI_RESOURCE_PRINCIPAL_{name}", value)
    return token


def number(value):
    octets = value.to_bytes((value.bit_length() + 7) // 8)
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")


def test_in_a_function(function, stand_in, secret_id, close):
    """In a function the request is signed with the token and the key of its
    environment: no file is read."""
    client = close(make_client("resource", "/nonexistent", stand_in.url))
    assert Secret(client, secret_id).value()
    assert f'keyId="ST${function}"' in stand_in.requests[0].headers["authorization"]


def test_not_in_a_function(monkeypatch):
    """Asked for the signature of a function elsewhere: OSError, at once."""
    monkeypatch.delenv("OCI_RESOURCE_PRINCIPAL_VERSION", raising=False)
    with pytest.raises(OSError, match="OCI_RESOURCE_PRINCIPAL_VERSION"):
        make_client("resource")


def test_signer_of_an_instance(monkeypatch):
    """On an instance, the SDK's signer for one is asked for: here there is none."""

    class Asked(Exception):
        pass

    def signer():
        raise Asked

    name = "InstancePrincipalsSecurityTokenSigner"
    monkeypatch.setattr(oci.auth.signers, name, signer)
    with pytest.raises(Asked):
        make_client("instance")


def test_another_word():
    """Another word for where: ValueError with those that are known."""
    with pytest.raises(ValueError, match="file, instance or resource"):
        make_client("laptop")


def test_secret_is_not_shown(
    file, secret_id, stand_in, update, close, caplog, capsys, monkeypatch
):
    """The value is in no log, error or object that is shown, neither as it is, nor as
    Base64, also where the SDK is told to log requests; nor is the private key."""
    monkeypatch.setattr(HTTPConnection, "debuglevel", 0)  # which the SDK sets
    caplog.set_level(logging.DEBUG)
    value = "hunter2-in-a-vault"
    update(value)
    with Path(file).open("a") as config:
        config.write("log_requests=true\n")
    client = close(make_client("file", file, stand_in.url))
    secret = Secret(client, secret_id)
    assert secret.value() == value
    shown = [repr(secret), str(secret), repr(client)]
    for wanted in ({"version_number": 99}, {"stage": "PENDING"}):
        with pytest.raises(ServiceError) as caught:
            read(client, secret_id, **wanted)
        shown += traceback.format_exception(caught.value)
    out = "".join((*shown, caplog.text, *capsys.readouterr()))
    encoded = base64.b64encode(value.encode()).decode()
    key = stand_in.key_file.read_text().splitlines()[1]
    assert "Request: GET" in out  # what the SDK logs is there
    assert not any(one in out for one in (value, encoded, key))


# --8<-- [start:wrong]
def get_secret_as_copied(client, secret_id):
    bundle = client.get_secret_bundle(secret_id)
    logging.info("got the secret: %s", bundle.data)
    return bundle.data.secret_bundle_content.content


# --8<-- [end:wrong]


def test_often_copied_is_not_decoded(client, secret_id, update):
    """Often copied: `content` is Base64, and the database refuses it as a password."""
    update("hunter2")
    assert get_secret_as_copied(client, secret_id) == "aHVudGVyMg=="


def test_often_copied_logs_the_secret(client, secret_id, update, caplog):
    """Often copied: what the SDK returns shows the secret when it is logged."""
    caplog.set_level(logging.INFO)
    update("hunter2")
    get_secret_as_copied(client, secret_id)
    assert base64.b64encode(b"hunter2").decode() in caplog.text


def test_often_copied_asks_each_time(client, secret_id, stand_in):
    """Often copied: each connection asks the vault, which limits how often."""
    for _ in range(5):
        get_secret_as_copied(client, secret_id)
    assert reads(stand_in) == 5
