"""The stand-in for Cloud Storage: on loopback, and emptied after each test."""

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

from cookbook import servers
from cookbook.engines import engine
from cookbook.engines.base import new_name
from cookbook.engines.gcs import _program
from tests.cookbook.conftest import listening

ONE = engine("gcs")


pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture(autouse=True)
def _in_one_thread(monkeypatch):
    # Else the client asks for the bucket as well, in a thread of its own.
    monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")


@pytest.fixture
def client(server):
    endpoint = ONE.variables(server.url)["STORAGE_EMULATOR_HOST"]
    credentials = AnonymousCredentials()
    with Client("p", credentials, client_options={"api_endpoint": endpoint}) as client:
        yield client


def test_says_what_it_is_on_loopback_only(server):
    assert (server.product, server.stand_in_for) == (
        "fake-gcs-server",
        "Google Cloud Storage",
    )
    assert server.identity == f"fake-gcs-server {server.version}"
    assert listening() == ["127.0.0.1"]


def test_a_place_is_empty_its_own_and_removed(server, client):
    places = [ONE.create_place(server, new_name()) for _ in range(2)]
    mine, other = (
        client.bucket(ONE.variables(place)["STORAGE_BUCKET"]) for place in places
    )
    for bucket in (mine, other):
        assert list(bucket.list_blobs()) == []
        bucket.blob("a/b c").upload_from_string(b"1")
    ONE.drop_place(server, places[0])
    assert not mine.exists()
    assert [blob.name for blob in other.list_blobs()] == ["a/b c"]
    ONE.drop_place(server, places[1])


def test_it_serves_from_outside(server, monkeypatch):
    for name, value in ONE.variables(server.url).items():
        monkeypatch.setenv(name, value)
    choice = servers.choose(ONE)
    assert choice.provider == "external"
    assert choice.identity == "fake-gcs-server (tells no version)"


def test_the_program_says_its_version(tmp_path):
    program = tmp_path / "fake-gcs-server"
    program.write_bytes(b"..\nmod\tgithub.com/fsouza/fake-gcs-server\tv1.2.3\th1:x\n..")
    assert _program(program).version == "fake-gcs-server 1.2.3"
    program.write_bytes(b"of another kind")
    assert _program(program).version == "fake-gcs-server of its own build"
    assert _program(tmp_path / "none") is None
