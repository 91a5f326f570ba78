"""What the tests of this chapter share: clients, and a server on a lead."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import boto3
import botocore.session
import pytest
from botocore.config import Config
from pynamodb.exceptions import PynamoDBException

from cookbook.engines import engine

_session = boto3.Session()  # it reads the description of the service once


def connect(address: str, config: Config | None = None) -> Any:
    """A boto3 resource for an address of the engine's."""
    one = engine("dynamodb").variables(address)
    return _session.resource(
        "dynamodb",
        endpoint_url=one["AWS_ENDPOINT_URL"],
        aws_access_key_id=one["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=one["AWS_SECRET_ACCESS_KEY"],
        region_name=one["AWS_DEFAULT_REGION"],
        config=config or Config(connect_timeout=5, read_timeout=20),
    )


@pytest.fixture
def open_resource() -> Iterator[Callable[..., Any]]:
    """Make resources that are closed after the test."""
    opened = []

    def make(address: str, config: Config | None = None) -> Any:
        opened.append(connect(address, config))
        return opened[-1]

    yield make
    for resource in opened:
        resource.meta.client.close()


@pytest.fixture
def resource(dynamodb, open_resource) -> Any:
    """A boto3 resource in an empty place."""
    return open_resource(dynamodb)


@pytest.fixture
def aws(dynamodb, monkeypatch) -> Callable[[str], None]:
    """The environment that boto3 and PynamoDB read; call it to move it elsewhere."""

    def move(address: str) -> None:
        for name, value in engine("dynamodb").variables(address).items():
            monkeypatch.setenv(name, value)

    move(dynamodb)
    return move


@pytest.fixture(autouse=True)
def _one_loader(monkeypatch) -> None:
    """PynamoDB has a session for each connection: let them share what they read."""

    def get_session() -> botocore.session.Session:
        session = botocore.session.Session()
        loader = _session._session.get_component("data_loader")
        session.register_component("data_loader", loader)
        return session

    monkeypatch.setattr("pynamodb.connection.base.get_session", get_session)


@contextmanager
def connected(*models: Any) -> Iterator[None]:
    """PynamoDB models with connections of this test's own."""
    for model in models:
        model._connection = None
    try:
        yield
    finally:
        for model in models:
            if model._connection:
                model._connection.connection.client.close()
            model._connection = None


class Stage:
    """A server in front of the real one, whose answers a test may play itself.

    `plays[operation]` gets the request and a function that asks the real server. It
    returns the answer; an answer with "__type" is an error. `calls` counts them all.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        credentials, _, host = parts.netloc.rpartition("@")
        self.plays: dict[str, Callable[[dict, Callable[[dict], dict]], dict]] = {}
        self.calls: list[str] = []
        stage, upstream = self, f"{parts.scheme}://{host}/"

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = json.loads(
                    self.rfile.read(int(self.headers["Content-Length"]))
                )
                operation = self.headers["X-Amz-Target"].partition(".")[2]
                stage.calls.append(operation)

                def ask(request: dict) -> dict:
                    passed = {
                        name: value
                        for name, value in self.headers.items()
                        if name.lower() not in ("host", "content-length", "connection")
                    }
                    body = json.dumps(request).encode()
                    asked = urllib.request.Request(upstream, body, passed)
                    try:
                        with urllib.request.urlopen(asked, timeout=20) as answer:
                            return json.load(answer)
                    except urllib.error.HTTPError as error:
                        with error:
                            return json.load(error)

                answer = stage.plays.get(operation, lambda it, ask: ask(it))(
                    request, ask
                )
                body = json.dumps(answer).encode()
                self.send_response(400 if "__type" in answer else 200)
                self.send_header("Content-Type", "application/x-amz-json-1.0")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        netloc = f"{credentials}@127.0.0.1:{self._server.server_port}"
        self.url = urlunsplit(parts._replace(netloc=netloc))
        threading.Thread(target=self._server.serve_forever, args=(0.01,)).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def stage(dynamodb) -> Iterator[Stage]:
    """A stage in front of this test's place."""
    one = Stage(dynamodb)
    yield one
    one.close()


def throttled() -> dict:
    """The answer of a table that has no capacity left."""
    return {
        "__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException",
        "message": "Throughput exceeds the current capacity of your table.",
    }


def code(error: Any) -> str:
    """What DynamoDB said, through boto3 or PynamoDB."""
    if isinstance(error, PynamoDBException):
        return error.cause_response_code or str(error)
    return error.response["Error"]["Code"]
