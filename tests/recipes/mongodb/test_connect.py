import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from urllib.parse import urlsplit

import pymongo
import pytest
from pymongo import MongoClient
from pymongo.errors import (
    ConnectionFailure,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)
from pymongo.monitoring import CommandListener
from pymongo.uri_parser import parse_uri

from recipes.mongodb.connect import connect, make_uri


@pytest.fixture
def proxy(mongodb, fault_proxy):
    return fault_proxy(mongodb)


def visits(client):
    return client.get_default_database()["visit"]


@pytest.mark.parametrize("uri", [None, ""])
def test_missing_address(uri):
    """Without an address it raises ValueError; it does not go to localhost."""
    with pytest.raises(ValueError, match="address of MongoDB is missing"):
        connect(uri)


def test_reaches_the_database_of_the_address(mongodb):
    """The database is the one that the address names."""
    with connect(mongodb) as client:
        visits(client).insert_one({"page": "/start"})
        names = client.get_default_database().list_collection_names()
    assert names == ["visit"]
    assert client.get_default_database().name == urlsplit(mongodb).path[1:]


def test_nobody_there(proxy):
    """Nobody answers at the address: ServerSelectionTimeoutError in time, and at
    connect, not at the first order."""
    proxy.refuse()
    start = time.monotonic()
    with pytest.raises(ServerSelectionTimeoutError):
        connect(proxy.url, timeout=0.3)
    assert time.monotonic() - start < 3


def test_silent_from_the_start(proxy):
    """The address is silent: the attempt ends in time."""
    proxy.black_hole()
    with pytest.raises(PyMongoError) as raised:
        connect(proxy.url, timeout=0.3)
    assert raised.value.timeout
    proxy.black_hole(False)


def test_failed_attempt_leaves_no_client(proxy, monkeypatch):
    """A failed attempt closes its client: no thread of it stays behind."""
    closed = []
    close = MongoClient.close
    monkeypatch.setattr(
        MongoClient, "close", lambda self: (closed.append(self), close(self))
    )
    proxy.refuse()
    with pytest.raises(ConnectionFailure):
        connect(proxy.url, timeout=0.2)
    assert len(closed) == 1


def test_silent_server_is_given_up(proxy):
    """The server falls silent: a timeout after `timeout` seconds, retry included."""
    with connect(proxy.url, timeout=1) as client:
        proxy.black_hole()
        start = time.monotonic()
        with pytest.raises(PyMongoError) as raised:
            visits(client).find_one()
        assert raised.value.timeout
        assert 0.5 < time.monotonic() - start < 5
        proxy.black_hole(False)


def test_wait_for_a_connection_ends(proxy):
    """All connections are in use: the wait for one ends after `timeout` seconds too."""
    with connect(proxy.url, timeout=5, size=1) as client, ThreadPoolExecutor() as pool:

        def find():
            with pymongo.timeout(0.3):
                return visits(client).find_one()

        proxy.black_hole()
        busy = pool.submit(visits(client).find_one)
        found = find_error(find)
        if not isinstance(found, WaitQueueTimeoutError):  # we had been the first
            found = find_error(find)
        assert isinstance(found, WaitQueueTimeoutError)
        proxy.black_hole(False)
        busy.exception(timeout=10)


def find_error(call) -> PyMongoError:
    with pytest.raises(PyMongoError) as raised:
        call()
    return raised.value


def test_shorter_for_one_block(proxy):
    """`with pymongo.timeout(s)` sets another limit for the operations of one block."""
    with connect(proxy.url, timeout=60) as client:
        proxy.black_hole()
        start = time.monotonic()
        with pymongo.timeout(0.3), pytest.raises(PyMongoError) as raised:
            visits(client).find_one()
        assert raised.value.timeout
        assert time.monotonic() - start < 3
        proxy.black_hole(False)


class Told(CommandListener):
    """Keeps the limit that each command told the server, in milliseconds."""

    def __init__(self):
        self.limits = {}

    def started(self, event):
        self.limits[event.command_name] = event.command.get("maxTimeMS")

    def succeeded(self, event): ...

    def failed(self, event): ...


def test_server_is_told_the_limit(mongodb, monkeypatch):
    """The server hears of the limit as well, so that it stops working on it."""
    told = Told()
    listening = partial(MongoClient, event_listeners=[told])
    monkeypatch.setattr("recipes.mongodb.connect.MongoClient", listening)
    with connect(mongodb, timeout=4) as client:
        visits(client).find_one()
    assert 3000 < told.limits["find"] <= 4000


def test_dates_are_aware(mongodb):
    """A date comes back in UTC and says so."""
    at = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
    with connect(mongodb) as client:
        visits(client).insert_one({"at": at})
        found = visits(client).find_one()["at"]
    assert found == at
    assert found.tzinfo


def test_wrong_password(mongodb):
    """A wrong password is an OperationFailure at connect."""
    parts = urlsplit(mongodb)
    uri = make_uri(f"{parts.hostname}:{parts.port}", "anna", "wrong", "shop")
    with pytest.raises(OperationFailure, match="Authentication failed"):
        connect(f"{uri}&directConnection=true&authMechanism=SCRAM-SHA-256")


@pytest.mark.parametrize(
    "password", ["p@ss/w#rd", "a:b%41c", "ü ?&=", "x@evil.example"]
)
def test_any_password(password):
    """A password of any characters arrives as it is, and names no other host."""
    parsed = parse_uri(make_uri("db.example.com:27017", "anna@shop", password, "shop"))
    assert parsed["password"] == password
    assert parsed["username"] == "anna@shop"
    assert parsed["nodelist"] == [("db.example.com", 27017)]
    assert parsed["database"] == "shop"
    assert parsed["options"]["authSource"] == "admin"


# --8<-- [start:wrong]
def connect_as_often_copied(environ):
    client = MongoClient(environ.get("MONGO_URI"))
    return client["shop"]


# --8<-- [end:wrong]


def test_often_copied_goes_to_localhost():
    """Often copied: the variable is not set, and the client takes localhost:27017."""
    client = connect_as_often_copied({}).client
    assert "host=['localhost:27017']" in repr(client)
    client.close()


def test_often_copied_waits_half_a_minute(proxy):
    """Often copied: the constructor succeeds without a server. The first operation
    waits 30 s for one, and an answer is waited for without end."""
    proxy.refuse()
    client = connect_as_often_copied({"MONGO_URI": proxy.url}).client
    assert client.options.server_selection_timeout == 30
    assert client.options.timeout is None
    assert client.options.pool_options.socket_timeout is None
    client.close()


def test_often_copied_naive_dates(mongodb):
    """Often copied: dates come back without a zone, and compare with no aware one."""
    at = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
    with MongoClient(mongodb) as client:
        visits(client).insert_one({"at": at})
        found = visits(client).find_one()["at"]
    with pytest.raises(TypeError, match="offset-naive and offset-aware"):
        assert found < at


def test_often_copied_password_in_an_f_string():
    """Often copied: with the password `p@ss/w` in an f-string, the client looks for
    the host `ss`; a percent sign changes the password."""
    parsed = parse_uri(f"mongodb://anna:{'p@ss/w'}@db.example.com/shop")
    assert parsed["nodelist"] == [("ss", 27017)]
    parsed = parse_uri(f"mongodb://anna:{'a%41c'}@db.example.com/shop")
    assert parsed["password"] == "aAc"
