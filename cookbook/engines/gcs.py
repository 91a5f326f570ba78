"""Google Cloud Storage: always fake-gcs-server, a stand-in. A place is a bucket.

An address is `http://host:port/bucket?version=1.56.1`: the program on the disk says
which version it is; the server does not.
"""

import json
import mmap
import os
import re
import shutil
import subprocess
import urllib.request
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from cookbook import fetch
from cookbook.engines.base import Engine, Program, Server, Starter, with_path
from cookbook.errors import UnavailableError

_PRODUCT = "fake-gcs-server"
_MODULE = "github.com/fsouza/fake-gcs-server"
_VERSION = "v1.56.1"  # as in docker-compose.yml
_SUM = "h1:K03sAvbLvDz4hAynpCCUqnNRp+ik9JFSvHbkD/wTPOU="  # a SHA-256, as in go.sum


class GCS(Engine):
    name = "gcs"
    title = "Google Cloud Storage"
    env = "STORAGE_EMULATOR_HOST"
    example = "http://127.0.0.1:14443/cookbook"
    port = 4443
    install = f"put {_PRODUCT} on the PATH"
    fetches = f"{_PRODUCT} {_VERSION}, built from its Go module with Go 1.26 (50 MB)"

    starter = Starter(
        body="""\
parts = urlsplit(address)
with storage.Client(
    credentials=AnonymousCredentials(),
    client_options={"api_endpoint": f"{parts.scheme}://{parts.netloc}"},
) as client:
    return 42 + len(list(client.list_blobs(parts.path[1:], timeout=5)))""",
        driver="""\
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage""",
        dependency="google-cloud-storage>=3.6",
        standard=("from urllib.parse import urlsplit",),
    )

    @property
    def no_server(self) -> str:
        return (
            f"Set STORAGE_BUCKET; for an emulator also {self.env},"
            " for example http://127.0.0.1:14443"
            f" after `docker compose up -d --wait {self.name}`"
        )

    def variables(self, address: str) -> dict[str, str]:
        parts = urlsplit(address)
        return {self.env: f"http://{parts.netloc}", "STORAGE_BUCKET": parts.path[1:]}

    def external(self) -> str | None:
        """An emulator. The service itself is never used: it would cost money."""
        if not (host := os.environ.get(self.env)):
            return None
        return f"{host.rstrip('/')}/"

    def native(self) -> Program | None:
        on_the_path = shutil.which(_PRODUCT)
        paths = [Path(on_the_path)] if on_the_path else []
        found = map(_program, [*paths, self.fetched / _PRODUCT])
        return next(filter(None, found), None)

    def fetch(self, folder: Path) -> None:
        go = fetch.tool("go", "install Go 1.26 or later")
        asked = (go, "mod", "download", "-json", f"{_MODULE}@{_VERSION}")
        done = subprocess.run(asked, cwd=folder, stdout=subprocess.PIPE)
        module = json.loads(done.stdout or "{}")
        if done.returncode or module.get("Sum") != _SUM:
            raise UnavailableError(
                f"{_MODULE} {_VERSION} is not what was expected:"
                f" {module.get('Error') or module.get('Sum')}"
            )
        cache = folder / "cache"
        cache.mkdir()
        environment = {**os.environ, "GOBIN": str(folder), "GOCACHE": str(cache)}
        install = (go, "install", "-trimpath", "-ldflags", "-s -w")
        fetch.run([*install, f"{_MODULE}@{_VERSION}"], folder, environment)
        shutil.rmtree(cache)

    def command(self, program: Program, folder: Path, port: int) -> list[str]:
        (folder / "version").write_text(program.version.rpartition(" ")[2])
        return [
            *(str(program.path), "-backend", "memory", "-scheme", "http"),
            *("-host", "127.0.0.1", "-port", str(port), "-log-level", "warn"),
            *("-public-host", f"127.0.0.1:{port}"),
        ]

    def url(self, folder: Path, port: int, password: str) -> str:
        version = (folder / "version").read_text()
        return f"http://127.0.0.1:{port}/?version={version}"

    def container_url(self, folder: Path, port: int) -> str:
        return f"http://127.0.0.1:{port}/"

    def identify(self, url: str) -> tuple[str, str]:
        health = f"{self.variables(url)[self.env]}/_internal/healthcheck"
        with urllib.request.urlopen(health, timeout=5) as answer:  # noqa: S310
            if answer.read():
                raise UnavailableError(f"it is no {_PRODUCT}")
        told = parse_qs(urlsplit(url).query).get("version")
        return _PRODUCT, told[0] if told else "(tells no version)"

    def create_place(self, server: Server, name: str) -> str:
        _ask(server.url, "POST", "?project=cookbook", {"name": name})
        return with_path(server.url, name)

    def drop_place(self, server: Server, url: str) -> None:
        bucket = f"/{urlsplit(url).path[1:]}"
        while found := _ask(url, "GET", f"{bucket}/o").get("items"):
            for item in found:
                _ask(url, "DELETE", f"{bucket}/o/{quote(item['name'], safe='')}")
        _ask(url, "DELETE", bucket)


def _ask(url: str, method: str, path: str, body: object = None) -> dict[str, Any]:
    """Google's client would ask for more, in a thread of its own."""
    parts = urlsplit(url)
    conn = HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    with closing(conn):
        header = {"Content-Type": "application/json"}
        sent = json.dumps(body) if body else None
        conn.request(method, f"/storage/v1/b{path}", sent, header)
        answer = conn.getresponse()
        said = answer.read()
    if answer.status not in (200, 204):
        raise UnavailableError(f"the emulator answered {answer.status}: {said[:200]!r}")
    found: dict[str, Any] = json.loads(said or b"{}")
    return found


def _program(path: Path) -> Program | None:
    """It has no --version, but Go writes into a program which module it is."""
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text,
        ):
            found = re.findall(rb"mod\t%b\tv([\w.+-]+)" % _MODULE.encode(), text)
    except (OSError, ValueError):
        return None
    version = found[0].decode() if found else "of its own build"
    return Program(path.resolve(), f"{_PRODUCT} {version}")
