"""The stand-in for Secret Manager: apart from the net, and as strict as the service."""

import grpc
import pytest
from google.api_core import exceptions
from google.cloud.secretmanager_v1 import SecretManagerServiceClient
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import (
    SecretManagerServiceGrpcTransport,
)

from cookbook import servers
from cookbook.engines import engine
from cookbook.engines.base import new_name
from tests.cookbook.conftest import listening

ONE = engine("gcp_secrets")
AUTOMATIC = {"replication": {"automatic": {}}}


pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture
def client(server):
    host = ONE.variables(server.url)["SECRET_MANAGER_EMULATOR_HOST"]
    with grpc.insecure_channel(host) as channel:
        transport = SecretManagerServiceGrpcTransport(channel=channel)
        yield SecretManagerServiceClient(transport=transport)


def test_says_what_it_is_on_loopback_only(server):
    assert server.product == "the cookbook's stand-in"
    assert server.stand_in_for == "Google Secret Manager"
    assert server.version in server.identity
    assert listening() == ["127.0.0.1"]


def test_a_place_is_empty_its_own_and_removed(server, client):
    places = [ONE.create_place(server, new_name()) for _ in range(2)]
    mine, other = (f"projects/{place.rpartition('/')[2]}" for place in places)
    for parent in (mine, other):
        client.create_secret(parent=parent, secret_id="one", secret=AUTOMATIC)
        client.add_secret_version(
            parent=f"{parent}/secrets/one", payload={"data": b"1"}
        )
    ONE.drop_place(server, places[0])
    assert list(client.list_secrets(parent=mine)) == []
    assert [it.name for it in client.list_secrets(parent=other)] == [
        f"{other}/secrets/one"
    ]


def test_it_serves_from_outside(server, monkeypatch):
    for name, value in ONE.variables(server.url).items():
        monkeypatch.setenv(name, value)
    assert servers.choose(ONE).provider == "external"


def test_refuses_what_the_service_refuses(client):
    secret, version = "projects/p/secrets/one", "projects/p/secrets/one/versions/1"
    client.create_secret(parent="projects/p", secret_id="one", secret=AUTOMATIC)
    with pytest.raises(exceptions.AlreadyExists):
        client.create_secret(parent="projects/p", secret_id="one", secret=AUTOMATIC)
    for secret_id, wrong in (("a/b", AUTOMATIC), ("", AUTOMATIC), ("two", {})):
        with pytest.raises(exceptions.InvalidArgument):
            client.create_secret(parent="projects/p", secret_id=secret_id, secret=wrong)
    for payload in (
        {"data": b""},
        {"data": bytes(65_537)},
        {"data": b"1", "data_crc32c": 7},
    ):
        with pytest.raises(exceptions.InvalidArgument):
            client.add_secret_version(parent=secret, payload=payload)
    for name in (f"{secret}/versions/latest", version, "projects/p/secrets/two"):
        with pytest.raises((exceptions.NotFound, exceptions.InvalidArgument)):
            client.access_secret_version(name=name)
    client.add_secret_version(parent=secret, payload={"data": b"1"})
    client.disable_secret_version(name=version)
    with pytest.raises(exceptions.FailedPrecondition, match="DISABLED"):
        client.access_secret_version(name=f"{secret}/versions/latest")
    client.enable_secret_version(name=version)
    assert client.access_secret_version(name=version).payload.data == b"1"
    client.destroy_secret_version(name=version)
    with pytest.raises(exceptions.FailedPrecondition, match="DESTROYED"):
        client.enable_secret_version(name=version)
