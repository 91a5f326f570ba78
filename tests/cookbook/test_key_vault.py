"""The stand-in for Key Vault: on loopback, with TLS, as strict as the service."""

import json
import re
import ssl
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from cookbook import servers
from cookbook.engines import engine
from cookbook.engines.base import new_name
from cookbook.engines.in_process import behind
from cookbook.errors import UnavailableError

ONE = engine("key_vault")
API = "api-version=2025-07-01"


pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture
def place(server):
    address = ONE.create_place(server, new_name())
    yield address
    ONE.drop_place(server, address)


def ask(address, path, method="GET", body=None, headers=None):
    """The status, headers and body of an answer."""
    one = behind(address)
    data = None if body is None else json.dumps(body).encode()
    url = f"{one.url}/{path}"
    request = urllib.request.Request(url, data, headers or {}, method=method)
    context = ssl.create_default_context(cafile=one.ca)
    try:
        answer = urllib.request.urlopen(request, timeout=20, context=context)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        text = answer.read()
        return answer.status, answer.headers, json.loads(text) if text else None


def get_token(address):
    one = behind(address)
    headers = {"X-IDENTITY-HEADER": one.identity}
    path = f"identity?resource={one.resource}"
    return ask(address, path, headers=headers)[2]["access_token"]


@pytest.fixture
def vault(place):
    """Ask with a token; what is said of an error is its codes."""
    headers = {"Authorization": f"Bearer {get_token(place)}"}

    def ask_vault(path, method="GET", body=None, query=API):
        status, _, said = ask(place, f"{path}?{query}", method, body, headers)
        error = (said or {}).get("error")
        if error:
            said = (error["code"], error.get("innererror", {}).get("code"))
        return status, said

    return ask_vault


def test_says_what_it_is_on_loopback_only(server, place):
    assert server.product == "the cookbook's stand-in"
    assert re.fullmatch(r"[0-9a-f]{8}", server.version)
    assert server.stand_in_for == "Azure Key Vault"
    assert server.provider == "embedded"
    assert behind(place).server_address[0] == "127.0.0.1"
    assert ONE.identify(place) == (server.product, server.version)


def test_a_certificate_that_others_do_not_trust(place):
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(behind(place).url, timeout=20)


def test_asks_for_a_token_that_is_its_own(server, place):
    one = behind(place)
    other = ONE.create_place(server, new_name())
    tokens = ["", "Basic x", f"Bearer {get_token(other)}"]
    one.lasts = 0
    tokens.append(f"Bearer {get_token(place)}")
    ONE.drop_place(server, other)
    for token in tokens:
        status, headers, _ = ask(
            place, f"secrets/x?{API}", headers={"Authorization": token}
        )
        assert status == 401
        assert f'resource="{one.resource}"' in headers["WWW-Authenticate"]


def test_gives_tokens_to_the_identity_only(place):
    one = behind(place)
    path = f"identity?resource={one.resource}"
    assert ask(place, path)[0] == 401
    assert ask(place, path, headers={"X-IDENTITY-HEADER": "other"})[0] == 401
    other = "identity?resource=https://vault.example.com"
    assert ask(place, other, headers={"X-IDENTITY-HEADER": one.identity})[0] == 400


def test_versions_and_states(vault):
    _, first = vault("secrets/one", "PUT", {"value": "1"})
    _, second = vault(
        "secrets/one", "PUT", {"value": "2", "attributes": {"exp": 1, "nbf": 1}}
    )
    assert first["attributes"]["enabled"]
    version = first["id"].rpartition("/")[2]
    assert vault(f"secrets/one/{version}") == (200, first)
    assert vault("secrets/one/") == (200, second)  # expired, and given out all the same
    newest = second["id"].rpartition("/")[2]
    change = {"attributes": {"enabled": False}}
    status, changed = vault(f"secrets/one/{newest}", "PATCH", change)
    assert (status, "value" in changed) == (200, False)
    assert vault("secrets/one") == (403, ("Forbidden", "SecretDisabled"))
    assert vault(f"secrets/one/{version}")[0] == 200


def test_deleted_purged_and_new(vault):
    vault("secrets/one", "PUT", {"value": "1"})
    assert vault("secrets/one", "DELETE")[0] == 200
    assert vault("secrets/one") == (404, ("SecretNotFound", None))
    assert "value" not in vault("deletedsecrets/one")[1]
    conflict = (409, ("Conflict", "ObjectIsDeletedButRecoverable"))
    assert vault("secrets/one", "PUT", {"value": "2"}) == conflict
    assert vault("deletedsecrets/one", "DELETE") == (204, None)
    assert vault("deletedsecrets/one")[0] == 404
    assert vault("secrets/one", "PUT", {"value": "2"})[0] == 200


def test_refuses_what_the_service_refuses(place, vault):
    bad = (400, ("BadParameter", None))
    for path in ("secrets", "secrets/a_b", f"secrets/{'a' * 128}"):
        assert vault(path) == bad
    for body in ({"value": 1}, {}, {"value": "x" * 25_601}, [1], None):
        assert vault("secrets/one", "PUT", body) == bad
    for query in ("", "api-version=7.9"):
        assert vault("secrets/one", query=query) == bad
    for path in ("secrets/one", "secrets/one/1", "keys/one", "deletedsecrets/one"):
        assert vault(path)[0] == 404
    behind(place).rights = set()
    forbidden = (403, ("Forbidden", "ForbiddenByRbac"))
    assert vault("secrets/one") == forbidden
    assert vault("secrets/one", "PUT", {"value": "1"}) == forbidden


def test_a_place_is_removed(server):
    place = ONE.create_place(server, new_name())
    folder = behind(place).ca.parent
    ONE.drop_place(server, place)
    assert not folder.exists()
    with pytest.raises(OSError):
        ONE.identify(place)


def test_it_is_a_program_and_serves_from_outside(open_folder, monkeypatch):
    module = "cookbook.stand_ins.key_vault"
    command = [sys.executable, "-m", module, str(open_folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        try:
            said = dict(run.stdout.readline().strip().split("=", 1) for _ in range(4))
            assert said.keys() == ONE.variables("").keys()
            for name, value in said.items():
                monkeypatch.setenv(name, value)
            assert ONE.variables(ONE.external()) == said
            server = servers.choose(ONE)
            assert server.provider == "external"
        finally:
            run.terminate()


def test_what_is_not_on_loopback_is_refused(monkeypatch):
    monkeypatch.setenv("AZURE_KEY_VAULT_URL", "https://cook.vault.example.com")
    with pytest.raises(UnavailableError, match="not on loopback"):
        servers.choose(ONE)
