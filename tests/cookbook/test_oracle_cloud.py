"""The stand-in for Oracle Cloud: on loopback, signed requests only, empty places."""

import base64
import email.utils
import hashlib
import re
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from cookbook import servers
from cookbook.engines import engine
from cookbook.engines.base import new_name
from cookbook.engines.in_process import behind
from cookbook.errors import UnavailableError

ONE = engine("oracle_cloud")


pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture
def place(server):
    address = ONE.create_place(server, new_name())
    yield address
    ONE.drop_place(server, address)


def ask(address, path="/n", *, method="GET", body=b"", change=None, sign=None):
    """Send a request that is signed as the services want it, but for the change."""
    one = behind(address)
    key = serialization.load_pem_private_key(one.key_file.read_bytes(), None)
    (key_id,) = one.keys
    headers = {
        "date": email.utils.formatdate(usegmt=True),
        "host": one.url.removeprefix("http://"),
    }
    signed = ["date", "(request-target)", "host"]
    if method == "POST":
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        headers |= {"content-length": str(len(body)), "content-type": "text/json"}
        headers |= {"x-content-sha256": digest}
        signed += ["content-length", "content-type", "x-content-sha256"]
    fields = {"algorithm": "rsa-sha256", "keyId": key_id, "version": "1"}
    fields |= {"headers": " ".join(sign or signed)}
    if change in headers:
        headers |= {change: CHANGES[change]}
    values = {**headers, "(request-target)": f"{method.lower()} {path}"}
    text = "\n".join(f"{name}: {values[name]}" for name in sign or signed)
    made = key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    fields["signature"] = base64.b64encode(made).decode()
    if change in fields:
        fields |= {change: CHANGES[change]}
    quoted = ",".join(f'{name}="{value}"' for name, value in fields.items())
    headers["authorization"] = f"Signature {quoted}"
    request = urllib.request.Request(
        one.url + (path if change != "path" else "/n/other"),
        body or None,
        {k: v for k, v in headers.items() if k != change or v},
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


CHANGES = {
    "date": email.utils.formatdate(time.time() - 3_600, usegmt=True),
    "host": "objectstorage.example.com",
    "signature": base64.b64encode(b"0" * 256).decode(),
    "keyId": "ocid1.tenancy.oc1..x/ocid1.user.oc1..x/00",
    "algorithm": "hmac-sha256",
    "version": "2",
    "x-content-sha256": base64.b64encode(b"0" * 32).decode(),
}


def test_says_what_it_is_on_loopback_only(server, place):
    assert server.product == "the cookbook's stand-in"
    assert re.fullmatch(r"[0-9a-f]{8}", server.version)
    assert server.stand_in_for == "Oracle Cloud Infrastructure"
    assert server.provider == "embedded"
    assert behind(place).server_address[0] == "127.0.0.1"
    assert ONE.identify(place) == (server.product, server.version)


def test_a_signed_request_is_answered(place):
    assert ask(place) == 200
    assert ask(place, "/n/x/b", method="POST", body=b"{}") == 404  # another's namespace


@pytest.mark.parametrize("change", ["path", *CHANGES])
def test_any_other_request_is_refused(place, change):
    method, body = ("POST", b"{}") if change == "x-content-sha256" else ("GET", b"")
    assert ask(place, method=method, body=body, change=change) == 401


def test_headers_that_are_not_signed_are_refused(place):
    assert ask(place, sign=["date", "(request-target)"]) == 401
    some = ["date", "(request-target)", "host"]
    assert ask(place, "/n/x/b", method="POST", body=b"{}", sign=some) == 401


def test_a_request_without_signature_is_refused(place):
    with pytest.raises(urllib.error.HTTPError, match="401") as caught:
        urllib.request.urlopen(f"{behind(place).url}/n", timeout=20)
    caught.value.close()


def test_a_place_is_apart_and_removed(server, place):
    other = ONE.create_place(server, new_name())
    one = behind(other)
    assert one.namespace != behind(place).namespace
    assert one.secret_id != behind(place).secret_id
    assert stat.S_IMODE(one.key_file.stat().st_mode) == 0o600
    ONE.drop_place(server, other)
    assert not one.config.parent.exists()
    with pytest.raises(OSError):
        ONE.identify(other)


def test_it_is_a_program(open_folder):
    command = [
        sys.executable,
        "-m",
        "cookbook.stand_ins.oracle_cloud",
        str(open_folder),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        try:
            said = dict(run.stdout.readline().strip().split("=", 1) for _ in range(3))
            assert said.keys() == ONE.variables("").keys()
            product, _ = ONE.identify(said["OCI_ENDPOINT"])
            assert product == "the cookbook's stand-in"
        finally:
            run.terminate()


def test_what_is_not_on_loopback_is_refused(monkeypatch):
    monkeypatch.setenv("OCI_ENDPOINT", "https://objectstorage.example.com")
    with pytest.raises(UnavailableError, match="not on loopback"):
        servers.choose(ONE)
