"""InfluxDB 2. A place is a bucket, with the buckets and tasks that are named after it.

One address holds what clients want in four variables:
`http://:TOKEN@127.0.0.1:18086/?org=cookbook&bucket=cookbook`.
"""

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit, urlunsplit

from cookbook import fetch
from cookbook.engines.base import Engine, Program, Server, Starter
from cookbook.errors import UnavailableError

if TYPE_CHECKING:  # drivers are imported late: not every extra is installed
    from influxdb_client import InfluxDBClient

_MODULE = "github.com/influxdata/influxdb/v2"
_VERSION = "v2.9.1"  # as in docker-compose.yml
_SUM = "h1:lCCimWY/VpSmNyfOUm5WqKhZijlgJA8JHSD/+39XXuA="  # a SHA-256, as in go.sum


class InfluxDB(Engine):
    name = "influxdb"
    title = "InfluxDB"
    env = "INFLUXDB_V2_URL"
    example = "http://:cook@127.0.0.1:18086/?org=cookbook&bucket=cookbook"
    port = 8086
    install = "put influxd 2 on the PATH"
    fetches = (
        f"influxd {_VERSION}, built from its Go module with Go 1.25, Rust, a C compiler"
        " and pkg-config: 7 minutes, 110 MB (2 GB while it builds)"
    )

    starter = Starter(
        body="""\
# A recipe is given the pieces in variables; a test, all of them in one address.
parts = urlsplit(address)
token = parts.password or os.environ["INFLUXDB_V2_TOKEN"]
(org,) = parse_qs(parts.query).get("org") or [os.environ["INFLUXDB_V2_ORG"]]
url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
with InfluxDBClient(url, token, org=org, timeout=5_000) as client:
    flux = 'import "array" array.from(rows: [{_value: 6 * 7}])'
    (table,) = client.query_api().query(flux)
return int(table.records[0].get_value())""",
        driver="from influxdb_client import InfluxDBClient",
        dependency="influxdb-client>=1.50",
        standard=("from urllib.parse import parse_qs, urlsplit",),
    )

    @property
    def no_server(self) -> str:
        return (
            "Set INFLUXDB_V2_URL, INFLUXDB_V2_TOKEN, INFLUXDB_V2_ORG and"
            " INFLUXDB_V2_BUCKET, for example to what .env.example says"
            " after `docker compose up -d --wait influxdb`"
        )

    def variables(self, address: str) -> dict[str, str]:
        parts = urlsplit(address)
        options = {key: value for key, (value, *_) in parse_qs(parts.query).items()}
        netloc = parts.netloc.rpartition("@")[2]
        return {
            "INFLUXDB_V2_URL": urlunsplit((parts.scheme, netloc, "", "", "")),
            "INFLUXDB_V2_TOKEN": unquote(parts.password or ""),
            "INFLUXDB_V2_ORG": options.get("org", ""),
            "INFLUXDB_V2_BUCKET": options.get("bucket", ""),
        }

    def external(self) -> str | None:
        if not (url := os.environ.get(self.env)):
            return None
        given = {key: os.environ.get(key, "") for key in self.variables("")}
        return _address(
            url,
            given["INFLUXDB_V2_TOKEN"],
            given["INFLUXDB_V2_ORG"],
            given["INFLUXDB_V2_BUCKET"],
        )

    def native(self) -> Program | None:
        on_the_path = shutil.which("influxd")
        paths = [Path(on_the_path)] if on_the_path else []
        return next(
            filter(None, map(_program, [*paths, self.fetched / "influxd"])), None
        )

    def fetch(self, folder: Path) -> None:
        go = fetch.tool("go", "install Go 1.25 or later")
        fetch.tool("cargo", "install Rust")
        fetch.tool("cc", "install a C compiler")
        fetch.tool("pkg-config", "install pkg-config")
        cache = folder / "cache"
        cache.mkdir()
        environment = {
            **os.environ,
            "GOBIN": str(cache),
            "GOCACHE": str(cache),  # with the Rust library and what it is built of
            "PKG_CONFIG": str(cache / "pkg-config"),  # the one that builds that library
            "RUSTFLAGS": "--cap-lints=warn",
            # The library asks rustup for an old Rust; a newer one does.
            "RUSTUP_TOOLCHAIN": os.environ.get("RUSTUP_TOOLCHAIN", "stable"),
        }
        done = subprocess.run(
            [go, "mod", "download", "-json", f"{_MODULE}@{_VERSION}"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
        )
        module = json.loads(done.stdout or "{}")
        if done.returncode or module.get("Sum") != _SUM:
            raise UnavailableError(
                f"{_MODULE} {_VERSION} is not what was expected:"
                f" {module.get('Error') or module.get('Sum')}"
            )
        source = Path(module["Dir"])
        fetch.run(
            [go, "install", "github.com/influxdata/pkg-config"], source, environment
        )
        fetch.run(
            [
                *(go, "build", "-trimpath", "-tags", "sqlite_foreign_keys,sqlite_json"),
                *("-ldflags", f"-s -w -X main.version={_VERSION}"),
                *("-o", folder / "influxd", "./cmd/influxd"),
            ],
            source,
            environment,
        )
        shutil.rmtree(cache)

    def command(self, program: Program, folder: Path, port: int) -> list[str]:
        data = folder / "data"
        return [
            *(str(program.path), "--http-bind-address", f"127.0.0.1:{port}"),
            *("--bolt-path", str(data / "bolt"), "--sqlite-path", str(data / "sqlite")),
            *("--engine-path", str(data / "engine"), "--log-level", "warn"),
            *("--reporting-disabled", "--ui-disabled"),
            # A test waits until a bucket has forgotten what is too old.
            *("--storage-retention-check-interval", "1s"),
        ]

    def environment(self, folder: Path, port: int) -> dict[str, str]:
        return {"HOME": str(folder / "data")}

    def url(self, folder: Path, port: int, password: str) -> str:
        return _address(f"http://127.0.0.1:{port}", password, "cookbook", "cookbook")

    def settle(self, url: str) -> None:
        from influxdb_client import OnboardingRequest
        from influxdb_client.service.setup_service import SetupService

        given = self.variables(url)
        with _connect(url) as client:
            service = SetupService(client.api_client)
            if service.get_setup().allowed:
                request = OnboardingRequest(
                    username="cook",
                    password=secrets.token_urlsafe(16),
                    org=given["INFLUXDB_V2_ORG"],
                    bucket=given["INFLUXDB_V2_BUCKET"],
                    token=given["INFLUXDB_V2_TOKEN"],
                )
                service.post_setup(request)

    def identify(self, url: str) -> tuple[str, str]:
        from influxdb_client.rest import ApiException
        from influxdb_client.service.health_service import HealthService

        with _connect(url) as client:
            bucket = self.variables(url)["INFLUXDB_V2_BUCKET"]
            try:  # what needs the token; the health is public
                client.buckets_api().find_buckets(name=bucket, org=client.org)
            except ApiException as error:  # its text has all the headers in it
                raise UnavailableError(error.message) from None
            version = HealthService(client.api_client).get_health().version
        return "InfluxDB", version.removeprefix("v")

    def create_place(self, server: Server, name: str) -> str:
        with _connect(server.url) as client:
            client.buckets_api().create_bucket(bucket_name=name)
        given = self.variables(server.url)
        return _address(
            given["INFLUXDB_V2_URL"],
            given["INFLUXDB_V2_TOKEN"],
            given["INFLUXDB_V2_ORG"],
            name,
        )

    def drop_place(self, server: Server, url: str) -> None:
        name = self.variables(url)["INFLUXDB_V2_BUCKET"]
        with _connect(server.url) as client:
            for task in client.tasks_api().find_tasks_iter():
                if name in task.name:
                    client.tasks_api().delete_task(task.id)
            for bucket in client.buckets_api().find_buckets_iter():
                if bucket.name.startswith(name):
                    client.buckets_api().delete_bucket(bucket)


def _address(url: str, token: str, org: str, bucket: str) -> str:
    parts = urlsplit(url)
    query = urlencode({"org": org, "bucket": bucket})
    netloc = f":{quote(token, safe='')}@{parts.netloc}"
    return urlunsplit((parts.scheme, netloc, "/", query, ""))


@contextmanager
def _connect(address: str) -> "Iterator[InfluxDBClient]":
    from influxdb_client import InfluxDBClient

    given = InfluxDB().variables(address)
    with InfluxDBClient(
        given["INFLUXDB_V2_URL"],
        given["INFLUXDB_V2_TOKEN"],
        org=given["INFLUXDB_V2_ORG"],
        timeout=10_000,
    ) as client:
        yield client


def _program(path: Path) -> Program | None:
    """influxd 2: it has no --version, and InfluxDB 1 has the same name."""
    try:
        done = subprocess.run([path, "version"], capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    said = done.stdout.decode().split()
    if said[:1] != ["InfluxDB"] or not said[1].startswith("v2."):
        return None
    return Program(path.resolve(), " ".join(said[:2]))
