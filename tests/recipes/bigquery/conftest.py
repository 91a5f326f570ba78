"""What the tests of this chapter share: a client, and a proxy that records."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery as driver

from cookbook.engines import engine


@pytest.fixture
def environment(bigquery, monkeypatch) -> dict[str, str]:
    """The variables of a recipe, set."""
    variables = engine("bigquery").variables(bigquery)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def dataset(environment) -> str:
    return environment["BIGQUERY_DATASET"]


@pytest.fixture
def client(environment, dataset) -> Iterator[driver.Client]:
    """A client for a dataset without tables."""
    config = driver.QueryJobConfig(default_dataset=f"cookbook.{dataset}")
    with closing(
        driver.Client(
            credentials=AnonymousCredentials(), default_query_job_config=config
        )
    ) as client:
        yield client


@pytest.fixture
def sql(client) -> Callable[..., list[tuple]]:
    """Run SQL beside the recipe, and return the rows."""

    def run(text: str) -> list[tuple]:
        job = client.query(text, retry=None, job_retry=None)
        return [row.values() for row in job.result(retry=None)]

    return run


class Recorder:
    """An HTTP proxy before the emulator: records requests; fails and lies on demand.

    `requests` are (method, path, body) in their order; the body is decoded JSON.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream)
        self.requests: list[tuple[str, str, dict]] = []
        self.failures: list[int] = []  # the status of the next answers, used up
        self.replace: tuple[bytes, bytes] = (b"", b"")  # in the answers
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,)).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def sent(self, method: str, end_of_path: str) -> list[dict]:
        """The bodies of the requests to such a path."""
        return [
            body
            for verb, path, body in self.requests
            if verb == method and path.partition("?")[0].endswith(end_of_path)
        ]

    def _handler(recorder) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def _pass_on(self) -> None:
                data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                try:
                    body = json.loads(data) if data else {}
                except ValueError:
                    body = {}
                recorder.requests.append((self.command, self.path, body))
                if recorder.failures:
                    status, answer = recorder.failures.pop(0), b"{}"
                    headers = {"Content-Type": "application/json"}
                else:
                    status, headers, answer = self._ask(data)
                if recorder.replace[0]:
                    answer = answer.replace(*recorder.replace)
                self.send_response_only(status)
                for name, value in headers.items():
                    self.send_header(name, value.replace(there, recorder.url))
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def _ask(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
                conn = http.client.HTTPConnection(recorder.upstream.netloc, timeout=30)
                with closing(conn):
                    headers = {k: v for k, v in self.headers.items() if k != "Host"}
                    conn.request(self.command, self.path, data, headers)
                    answer = conn.getresponse()
                    passed = {
                        name: value
                        for name in ("Content-Type", "Location", "ETag")
                        if (value := answer.headers.get(name))
                    }
                    return answer.status, passed, answer.read()

            def log_message(self, *_: object) -> None:
                pass

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on

        there = recorder.upstream.geturl()
        return Handler


@pytest.fixture
def recorded(recorder, client) -> Iterator[driver.Client]:
    """A client whose requests are recorded."""
    with closing(
        driver.Client(
            credentials=AnonymousCredentials(),
            default_query_job_config=client.default_query_job_config,
        )
    ) as recorded:
        yield recorded


@pytest.fixture
def recorder(environment, monkeypatch) -> Iterator[Recorder]:
    """A recording proxy, in the variable that the client reads."""
    recorder = Recorder(environment["BIGQUERY_EMULATOR_HOST"])
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", recorder.url)
    yield recorder
    recorder.close()
