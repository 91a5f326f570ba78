"""What the tests of InfluxDB share: clients, a look at what is stored, a gateway."""

import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit, urlunsplit

import pytest
from influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS

from cookbook.engines import engine


@pytest.fixture
def connect() -> Iterator[Callable[..., InfluxDBClient]]:
    """Make a client for an address; closed after the test."""
    clients = []

    def make(address: str, **options) -> InfluxDBClient:
        url, token, org, _ = engine("influxdb").variables(address).values()
        clients.append(InfluxDBClient(url, token, org=org, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(influxdb, connect) -> InfluxDBClient:
    return connect(influxdb)


@pytest.fixture
def bucket(influxdb) -> str:
    """The name of the empty bucket."""
    return engine("influxdb").variables(influxdb)["INFLUXDB_V2_BUCKET"]


@pytest.fixture
def stored(client, bucket) -> Callable[..., list]:
    """What the server holds, sorted: columns of it, all points of all times."""

    def read(*columns: str, bucket: str = bucket) -> list:
        flux = "from(bucket: _bucket) |> range(start: 0, stop: 2200-01-01T00:00:00Z)"
        tables = client.query_api().query(flux, params={"_bucket": bucket})
        rows = [
            tuple(record.values.get(name) for name in columns or ("_value",))
            for table in tables
            for record in table.records
        ]
        return sorted(rows) if columns[1:] else sorted(value for (value,) in rows)

    return read


@pytest.fixture
def put(client, bucket) -> Callable[..., None]:
    """Store lines or points, or raise."""

    def write(*records, bucket: str = bucket, **options) -> None:
        writer = client.write_api(write_options=SYNCHRONOUS)
        writer.write(bucket, record=list(records), **options)

    return write


class Gateway:
    """In front of the server, as a load balancer is: it answers some writes itself.

    `answers` holds (status, headers) for the writes to come; then it passes them on.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.writes = 0
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                is_write = self.path.startswith("/api/v2/write")
                gateway.writes += is_write
                if is_write and gateway.answers:
                    status, headers = gateway.answers.pop(0)
                    return self.answer(status, headers, b'{"message": "busy"}')
                server = HTTPConnection(parts.hostname, parts.port, timeout=10)
                server.request("POST", self.path, body, dict(self.headers))
                answer = server.getresponse()
                content = answer.read()
                server.close()
                return self.answer(answer.status, {}, content)

            def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        host, port = self._server.server_address[:2]
        credentials = parts.netloc.rpartition("@")[0]
        self.url = urlunsplit(parts._replace(netloc=f"{credentials}@{host}:{port}"))
        serve = self._server.serve_forever
        threading.Thread(target=serve, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def gateway(influxdb) -> Iterator[Gateway]:
    gateway = Gateway(influxdb)
    yield gateway
    gateway.close()
