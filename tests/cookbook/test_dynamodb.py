"""The two stand-ins for DynamoDB: apart from each other, from the net, and from AWS."""

import http.server
import subprocess
import threading

import pytest

from cookbook import servers
from cookbook.engines import engine
from cookbook.engines.aws import make_client
from cookbook.engines.base import new_name
from cookbook.engines.java import java
from cookbook.errors import UnavailableError
from cookbook.servers import Servers
from tests.cookbook.conftest import listening

ONE = engine("dynamodb")
TABLE = {
    "TableName": "one",
    "BillingMode": "PAY_PER_REQUEST",
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
    "DeletionProtectionEnabled": True,
}


pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture(autouse=True)
def _no_other_endpoint(monkeypatch):
    for name in ("AWS_ENDPOINT_URL_DYNAMODB", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=["embedded", "native"])
def server(start, request):
    return start(request.param)


def client(address: str):
    return make_client(ONE, address)


def test_says_what_it_is(server):
    name = {"embedded": "MiniStack", "native": "DynamoDB Local"}[server.provider]
    assert server.product == name
    assert server.identity == f"{name} {server.version}"
    assert server.stand_in_for == "Amazon DynamoDB"


def test_listens_on_loopback_only(server):
    assert listening() == ["127.0.0.1"]


def test_a_place_is_empty_its_own_and_removed(server):
    places = [ONE.create_place(server, new_name()) for _ in range(2)]
    client(places[0]).create_table(**TABLE)
    assert client(places[1]).list_tables()["TableNames"] == []
    assert client(server.url).list_tables()["TableNames"] == []
    ONE.drop_place(server, places[0])
    assert client(places[0]).list_tables()["TableNames"] == []


def test_external(server, monkeypatch):
    given = ONE.variables(server.url)["AWS_ENDPOINT_URL"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", given)
    assert servers.choose(ONE).provider == "external"


def test_tables_of_somebody_else_are_left_alone(monkeypatch):
    """As DynamoDB Local has with -sharedDb."""
    if not ONE.native():
        pytest.skip("DynamoDB Local is not here: cookbook fetch dynamodb")
    command = type(ONE).command
    monkeypatch.setattr(type(ONE), "command", lambda *it: [*command(*it), "-sharedDb"])
    started = Servers()
    started.start(["dynamodb"], "native")
    shared = started.running["dynamodb"]
    try:
        client(shared.url).create_table(**TABLE)
        with pytest.raises(UnavailableError, match="-sharedDb"):
            ONE.create_place(shared, new_name())
        assert client(shared.url).list_tables()["TableNames"] == ["one"]
    finally:
        started.stop()


def test_address_and_variables(monkeypatch):
    assert ONE.external() is None
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a/b+c@d:e")
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    assert ONE.external() is None  # keys alone: that would be an account of somebody's
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:18000")
    assert ONE.variables(ONE.external()) == {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:18000",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "a/b+c@d:e",
        "AWS_DEFAULT_REGION": "us-west-2",
    }


def test_a_refused_address_is_one_line(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    with pytest.raises(UnavailableError) as caught:
        servers.choose(ONE)
    assert "\n" not in str(caught.value)
    assert "AWS_ENDPOINT_URL is set, but Amazon DynamoDB cannot" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["dynamodb", "dynamodb_local"])
def test_what_is_no_stand_in_is_refused(name, monkeypatch):
    """The service itself, say: tests would make and delete tables there."""
    handler = http.server.SimpleHTTPRequestHandler
    monkeypatch.setattr(handler, "log_message", lambda *_: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as other:
        threading.Thread(target=other.serve_forever, args=(0.01,)).start()
        endpoint = f"http://127.0.0.1:{other.server_port}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(UnavailableError, match="neither MiniStack nor DynamoDB"):
            servers.choose(engine(name))
        other.shutdown()


def test_costs_are_not_counted_by_ministack(monkeypatch):
    started = Servers()
    started.start(["dynamodb"], "embedded")
    try:
        given = ONE.variables(started.running["dynamodb"].url)["AWS_ENDPOINT_URL"]
        monkeypatch.setenv("AWS_ENDPOINT_URL", given)
        with pytest.raises(UnavailableError, match="it is MiniStack"):
            servers.choose(engine("dynamodb_local"))
    finally:
        started.stop()


def test_finds_a_java_that_is_new_enough():
    found = java(8)
    if not found:
        pytest.skip("there is no Java")
    assert subprocess.run([found.path, "-version"], capture_output=True).returncode == 0
    assert java(999) is None
