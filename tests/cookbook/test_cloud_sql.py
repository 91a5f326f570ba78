"""The stand-in for Cloud SQL: as strict as the service, on loopback, and removed."""

import contextlib
import socket
import ssl
from pathlib import Path

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cookbook.engines import engine
from cookbook.engines.base import new_name
from cookbook.engines.cloud_sql import instances
from cookbook.servers import Servers
from cookbook.stand_ins.cloud_sql import PORT, Authority, _pem, _private

ONE = engine("cloud_sql")


@pytest.fixture
def server(monkeypatch):
    for name in ONE.variables(""):
        monkeypatch.delenv(name, raising=False)
    started = Servers()
    started.start(["cloud_sql"], "embedded")
    return started.running["cloud_sql"]


@pytest.fixture
def place(server):
    place = ONE.create_place(server, new_name())
    yield place
    ONE.drop_place(server, place)


def test_says_what_it_is(server):
    assert (server.product, server.stand_in_for) == (
        "the cookbook's stand-in",
        "Google Cloud SQL",
    )
    assert "before PostgreSQL" in server.version


def test_a_place_is_its_own_and_removed(server, place):
    other = ONE.create_place(server, new_name())
    given = ONE.variables(other)
    key = given["GOOGLE_APPLICATION_CREDENTIALS"]
    assert Path(key).stat().st_mode & 0o077 == 0
    behind = instances[other].postgresql
    assert instances[place].address.startswith("127.")
    with psycopg.connect(behind) as conn:
        conn.execute("CREATE TABLE t (i int)")
    ONE.drop_place(server, other)
    assert not Path(key).exists()
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(behind)


@pytest.mark.parametrize("kind", ["none", "own"])
def test_a_certificate_of_its_own_authority_is_wanted(place, kind, tmp_path):
    instance = instances[place]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=_pem(instance.authority.certificate))
    if kind == "own":
        other = Authority("Google Cloud SQL Client CA")
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = other.sign(key.public_key(), "x")
        file = tmp_path / "client.pem"
        file.write_text(_private(key) + _pem(certificate))
        context.load_cert_chain(file)
    answer = b""
    with (
        contextlib.suppress(ssl.SSLError, ConnectionError),  # TLS 1.3 tells it late
        socket.create_connection((instance.address, PORT), 10) as plain,
        context.wrap_socket(plain) as conn,
    ):
        conn.sendall((8).to_bytes(4) + (80877103).to_bytes(4))
        answer = conn.recv(1)
    assert answer == b""
    assert instance.connections == 0


def test_tokens_are_wanted(place):
    instance = instances[place]
    project, _, name = instance.name.split(":")
    path = f"/sql/v1beta4/projects/{project}/instances/{name}/connectSettings"
    instance.tokens["of a login"] = "https://.../sqlservice.login", 2.0**40
    for token, status in (("", 401), ("wrong", 401), ("of a login", 403)):
        with pytest.raises(Exception) as caught:
            instance.ask("GET", path, token, {})
        assert caught.value.status == status
    for assertion in ("", "a.b.c"):
        with pytest.raises(Exception, match="invalid_grant"):
            instance.token(assertion)
