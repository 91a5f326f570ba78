"""The stand-in for Azure Blob Storage: on loopback, with a key, and emptied."""

import os
from contextlib import closing

import pytest

from cookbook import servers
from cookbook.engines import engine
from cookbook.engines.azurite import _LOCK, _connect
from cookbook.engines.base import Address, new_name
from cookbook.errors import UnavailableError
from tests.cookbook.conftest import listening, only_server

ONE = engine("azurite")


pytestmark = pytest.mark.usefixtures("alone")


def test_says_what_it_is_on_loopback_only(server):
    assert (server.product, server.stand_in_for) == ("Azurite", "Azure Blob Storage")
    assert server.version in _LOCK.read_text("utf-8")
    assert listening() == ["127.0.0.1"]
    assert only_server().uids().real == os.getuid()


def test_a_place_is_empty_and_removed(server):
    places = [ONE.create_place(server, new_name()) for _ in range(2)]
    names = [ONE.variables(place)["AZURE_STORAGE_CONTAINER"] for place in places]
    with closing(_connect(server.url)) as client:
        for name in (names[0], f"{names[0]}-other", names[1]):
            client.create_container(name).upload_blob("a/b", b"1")
        ONE.drop_place(server, places[0])
        assert [it.name for it in client.list_containers()] == [names[1]]
        ONE.drop_place(server, places[1])
        assert list(client.list_containers()) == []


def test_another_key_is_refused(server, monkeypatch):
    for name, value in ONE.variables(server.url).items():
        monkeypatch.setenv(name, value)
    assert servers.choose(ONE).provider == "external"
    monkeypatch.setenv("AZURE_STORAGE_KEY", "Y29vaw==")
    with pytest.raises(UnavailableError, match="AZURE_STORAGE_BLOB_ENDPOINT is set"):
        servers.choose(ONE)


def test_address_and_variables(monkeypatch):
    assert ONE.external() is None
    given = {
        "AZURE_STORAGE_BLOB_ENDPOINT": "https://example.blob.core.windows.net",
        "AZURE_STORAGE_ACCOUNT": "example",
        "AZURE_STORAGE_KEY": "a/b+c==",
        "AZURE_STORAGE_CONTAINER": "shop",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    address = ONE.external()
    assert ONE.variables(address) == given
    assert "b+c" not in repr(Address(address))
    assert "b%2Bc" not in repr(Address(address))


def test_the_lock_names_no_registry_and_has_every_hash():
    text = _LOCK.read_text("utf-8")
    assert '"resolved"' not in text
    assert text.count('"integrity"') == text.count('"node_modules/')
