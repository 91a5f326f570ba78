"""BigQuery: always an emulator, a stand-in for the service. A place is a dataset.

An address here is that of the REST interface, with the project and the dataset as its
path, and that of the Storage API (gRPC) in its query.
"""

import json
import os
import re
import shutil
import socket
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from filelock import FileLock

from cookbook import fetch as fetching
from cookbook.engines import process
from cookbook.engines.base import Engine, Program, Server, Starter, with_path
from cookbook.errors import UnavailableError
from cookbook.paths import lock_of

_LOCK = lock_of("bigquery-emulator")
_STORAGE = "BIGQUERY_STORAGE_EMULATOR_HOST"  # the client libraries know no name for it
_GRPC = 9060  # inside the container


class BigQuery(Engine):
    name = "bigquery"
    title = "BigQuery"
    env = "BIGQUERY_EMULATOR_HOST"
    example = "http://127.0.0.1:19050/cookbook/cookbook?storage=127.0.0.1:19060"
    port = 9050
    further_ports = (_GRPC,)
    fetches = "bqemulator, an emulator on DuckDB, from PyPI (0.6 GB)"

    starter = Starter(
        body="""\
credentials = AnonymousCredentials()
with closing(bigquery.Client(credentials=credentials)) as client:
    (row,) = client.query_and_wait("SELECT 6 * 7")
return int(row[0])""",
        driver="""\
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery""",
        dependency="google-cloud-bigquery>=3.40",
        standard=("from contextlib import closing",),
    )

    @property
    def no_server(self) -> str:
        return (
            "Set GOOGLE_CLOUD_PROJECT and BIGQUERY_DATASET; for an emulator also"
            f" {self.env}, for example http://127.0.0.1:19050"
            f" after `docker compose up -d --wait {self.name}`"
        )

    def variables(self, address: str) -> dict[str, str]:
        parts = urlsplit(address)
        project, _, dataset = parts.path[1:].partition("/")
        return {
            self.env: f"http://{parts.netloc}",
            _STORAGE: _storage(address),
            "GOOGLE_CLOUD_PROJECT": project,
            "BIGQUERY_DATASET": dataset,
        }

    def external(self) -> str | None:
        """An emulator. The service itself is never used: it would cost money."""
        if not (host := os.environ.get(self.env)):
            return None
        storage = os.environ.get(_STORAGE) or "127.0.0.1:9060"
        project = os.environ.get("GOOGLE_CLOUD_PROJECT") or "cookbook"
        return f"{host.rstrip('/')}/{project}?storage={storage}"

    def native(self) -> Program | None:
        found = [*self.fetched.glob("lib/python*/site-packages/bqemulator-*.dist-info")]
        if not found:
            return None
        version = re.sub(r".*-(.*)\.dist-info", r"bqemulator \1", found[0].name)
        # Python itself may lie in the home directory of root.
        return Program(self.fetched / "bin" / "bqemulator", version, as_ourselves=True)

    @property
    def is_fetched(self) -> bool:
        return fetching.is_synced(self.fetched, _LOCK)

    def fetch(self, folder: Path) -> None:
        fetching.sync(folder, _LOCK)
        # DuckDB looks for its extensions here, and would get them from its vendor.
        ask = "import duckdb; print(*duckdb.sql('PRAGMA platform').fetchone())"
        platform = fetching.output([folder / "bin" / "python", "-c", ask], folder)
        for file in folder.glob("lib/python*/site-packages/duckdb_extension_*/*/v*/*"):
            place = folder / "home/.duckdb/extensions" / file.parent.name / platform
            place.mkdir(parents=True, exist_ok=True)
            shutil.move(file, place)

    def command(self, program: Program, folder: Path, port: int) -> list[str]:
        storage = process.free_port()
        self.further_port(folder, _GRPC).write_text(str(storage))
        home = program.path.parent.parent / "home"
        return [
            *("env", f"HOME={home}", str(program.path), "start", "--ephemeral"),
            *("--rest-host", "127.0.0.1", "--rest-port", str(port)),
            *("--grpc-host", "127.0.0.1", "--grpc-port", str(storage)),
            *("--project", "cookbook", "--no-admin", "--log-level", "warning"),
        ]

    def url(self, folder: Path, port: int, password: str) -> str:
        storage = int(self.further_port(folder, _GRPC).read_text())
        return f"http://127.0.0.1:{port}/cookbook?storage=127.0.0.1:{storage}"

    def identify(self, url: str) -> tuple[str, str]:
        """Both interfaces must answer: the second one is up after the first."""
        status, said = _ask(url, "GET", "/healthz")
        if status == 200 and "version" in said:
            found = "bqemulator", str(said["version"])
        else:  # the emulator in the container, which tells no version
            status, said = _ask(url, "GET", "/bigquery/v2/projects")
            if status != 200:
                raise UnavailableError(f"no emulator: it answered {status} {said}")
            found = "bigquery-emulator", "(tells no version)"
        host, _, port = _storage(url).rpartition(":")
        socket.create_connection((host, int(port)), timeout=5).close()
        return found

    def create_place(self, server: Server, name: str) -> str:
        """Make a dataset, when it is our turn.

        bqemulator has one connection to DuckDB, on which REST and gRPC get in each
        other's way. So there is one place at a time.
        """
        project = urlsplit(server.url).path[1:]
        reference = {"projectId": project, "datasetId": name}
        path = f"/bigquery/v2/projects/{project}/datasets"
        turn = _turn(server.url)
        turn.acquire(timeout=100, poll_interval=0.02)
        try:
            _must(_ask(server.url, "POST", path, {"datasetReference": reference}), 200)
        except BaseException:
            turn.release()
            raise
        return with_path(server.url, f"{project}/{name}")

    def drop_place(self, server: Server, url: str) -> None:
        project, _, name = urlsplit(url).path[1:].partition("/")
        path = f"/bigquery/v2/projects/{project}/datasets/{name}?deleteContents=true"
        try:
            _must(_ask(server.url, "DELETE", path), 200, 204, 404)
        finally:
            _turn(server.url).release()


_turns: dict[str, FileLock] = {}  # kept: a lock that is forgotten is let go


def _turn(url: str) -> FileLock:
    """The lock of that emulator, in its directory where it is one of ours."""
    port = _storage(url).rpartition(":")[2]
    files = process.base_folder().glob(f"bigquery-*/port-{_GRPC}")
    ours = [file.parent for file in files if file.read_text() == port]
    folder = ours[0] if ours else process.base_folder()
    return _turns.setdefault(port, FileLock(folder / f"bigquery-{port}.turn"))


def _storage(url: str) -> str:
    return parse_qs(urlsplit(url).query).get("storage", [""])[0]


def _ask(
    url: str, method: str, path: str, body: object = None
) -> tuple[int, dict[str, object]]:
    parts = urlsplit(url)
    if parts.scheme != "http":
        raise UnavailableError("an emulator's address starts with http://")
    conn = HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        header = {"Content-Type": "application/json"}
        conn.request(method, path, json.dumps(body) if body else None, header)
        answer = conn.getresponse()
        text = answer.read().decode("utf-8", "replace")
    finally:
        conn.close()
    try:
        said = json.loads(text)
    except ValueError:
        said = {"said": text[:200]}
    return answer.status, said if isinstance(said, dict) else {}


def _must(answer: tuple[int, dict[str, object]], *good: int) -> None:
    if answer[0] not in good:
        raise UnavailableError(f"the emulator answered {answer[0]}: {answer[1]}")
