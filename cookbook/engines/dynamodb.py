"""Amazon DynamoDB: MiniStack or DynamoDB Local as its stand-in.

Both keep the data of each access key apart, so a place is an access key of its own.
"""

import importlib.metadata
import importlib.util
import json
import os
import platform
import secrets
import sys
import urllib.error
import urllib.request
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, quote, unquote, urlsplit, urlunsplit

from cookbook import fetch as fetching
from cookbook.engines.base import Engine, Program, Server, Starter
from cookbook.engines.java import Artifact, get_jars, java
from cookbook.errors import UnavailableError

if TYPE_CHECKING:  # drivers are imported late: not every extra is installed
    from botocore.session import Session
    from mypy_boto3_dynamodb import DynamoDBClient

_REGION = "eu-central-1"
_VERSION = "3.3.1"
_JARS_SHA256 = "acf117fdd49f4ff91b2e01f10a45eb5677ca49e0eae2df2cb2926ae45037f3ec"
_JAVA = 17
# Without what it needs for its telemetry, which is switched off; one class of it must
# be there all the same.
_AWS = "software.amazon.awssdk"
_ARTIFACTS = (
    Artifact(
        f"software.amazon.dynamodb:DynamoDBLocal:{_VERSION}",
        without=(
            f"{_AWS}:cognitoidentity",
            f"{_AWS}:cognitoidentityprovider",
            f"{_AWS}:dynamodb-enhanced",
            f"{_AWS}:pinpoint",
            "org.mockito:mockito-core",
        ),
    ),
    Artifact(f"{_AWS}:pinpoint:2.25.50", without=("*:*",)),
)
_LAUNCHER = """\
import org.eclipse.jetty.server.HttpConfiguration;
import org.eclipse.jetty.server.HttpConnectionFactory;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import software.amazon.dynamodb.services.local.main.CommandLineInput;
import software.amazon.dynamodb.services.local.main.ServerRunner;

/** DynamoDB Local on loopback, saying its version: it has no options for that. */
public class Launcher {
    public static void main(String[] arguments) throws Exception {
        var input = new CommandLineInput(arguments);
        input.init();
        var local = ServerRunner.createServer(input);
        var field = local.getClass().getDeclaredField("server");
        field.setAccessible(true);
        for (var connector : ((Server) field.get(local)).getConnectors()) {
            ((ServerConnector) connector).setHost("127.0.0.1");
            connector.getConnectionFactory(HttpConnectionFactory.class)
                .getHttpConfiguration()
                .addCustomizer((request, headers) -> {
                    headers.add("X-DynamoDB-Local", input.getVersion());
                    return request;
                });
        }
        local.start();
        local.join();
    }
}
"""


class DynamoDB(Engine):
    service: ClassVar[str] = "dynamodb"  # what boto3 and MiniStack call it
    endpoints: ClassVar[tuple[str, ...]] = (  # the first that is set counts
        "AWS_ENDPOINT_URL_DYNAMODB",
        "AWS_ENDPOINT_URL",
    )

    name = "dynamodb"
    title = "Amazon DynamoDB"
    env = "AWS_ENDPOINT_URL"
    example = "http://127.0.0.1:18000"
    port = 8000
    install = "pip install ministack"
    fetches: ClassVar[str | None] = (
        f"DynamoDB Local {_VERSION}, with Maven and a JDK from {_JAVA} on"
    )

    starter = Starter(
        body="""\
parts = urlsplit(address)  # what is not in it comes from the environment
client = boto3.client(
    "dynamodb",
    endpoint_url=f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}",
    aws_access_key_id=parts.username,
    aws_secret_access_key=parts.password,
    region_name=dict(parse_qsl(parts.query)).get("region"),
)
return 42 + len(client.list_tables()["TableNames"])""",
        driver="import boto3",
        dependency="boto3>=1.40",
        standard=("from urllib.parse import parse_qsl, urlsplit",),
    )

    @property
    def no_server(self) -> str:
        return (
            f"Set {self.env}, for example {self.example}, with AWS_ACCESS_KEY_ID,"
            " AWS_SECRET_ACCESS_KEY and AWS_DEFAULT_REGION"
            f" after `docker compose up -d --wait {self.name}`"
        )

    def variables(self, address: str) -> dict[str, str]:
        """One address holds them all: http://key:secret@host:port/?region=name."""
        parts = urlsplit(address)
        host = parts.netloc.rpartition("@")[2]
        return {
            self.env: urlunsplit((parts.scheme, host, "", "", "")),
            "AWS_ACCESS_KEY_ID": unquote(parts.username or "cook"),
            "AWS_SECRET_ACCESS_KEY": unquote(parts.password or "cook"),
            "AWS_DEFAULT_REGION": parse_qs(parts.query).get("region", [_REGION])[0],
        }

    def external(self) -> str | None:
        get = os.environ.get
        endpoint = next(filter(None, map(get, self.endpoints)), None)
        if not endpoint:  # never an account in the cloud that happens to be at hand
            return None
        parts = urlsplit(endpoint)
        key = get("AWS_ACCESS_KEY_ID") or "cook"
        secret = get("AWS_SECRET_ACCESS_KEY") or "cook"
        region = get("AWS_DEFAULT_REGION") or get("AWS_REGION") or _REGION
        host = parts.netloc.rpartition("@")[2]
        netloc = f"{quote(key, safe='')}:{quote(secret, safe='')}@{host}"
        return urlunsplit((parts.scheme, netloc, "/", f"region={region}", ""))

    def identify(self, url: str) -> tuple[str, str]:
        endpoint = self.variables(url)[self.env]
        headers, body = _get(f"{endpoint}/_ministack/health")
        if "X-DynamoDB-Local" in headers:
            return "DynamoDB Local", headers["X-DynamoDB-Local"]
        if headers.get("Server", "").startswith("Jetty("):  # it does not say more
            return "DynamoDB Local", f"on {headers['Server']}"
        if b'"iot_mtls"' in body:
            return "MiniStack", json.loads(body)["version"]
        raise ValueError("it is neither MiniStack nor DynamoDB Local")

    def create_place(self, server: Server, name: str) -> str:
        url = account_of_its_own(server.url)
        with closing(_client(url)) as client:
            tables = client.list_tables()["TableNames"]
        if tables:
            raise UnavailableError(
                "the server shows the same tables to every access key:"
                " start DynamoDB Local without -sharedDb"
            )
        return url

    def drop_place(self, server: Server, url: str) -> None:
        with closing(_client(url)) as client:
            for page in client.get_paginator("list_tables").paginate():
                for table in page["TableNames"]:
                    found = client.describe_table(TableName=table)["Table"]
                    if found.get("DeletionProtectionEnabled"):
                        client.update_table(
                            TableName=table, DeletionProtectionEnabled=False
                        )
                    client.delete_table(TableName=table)

    def embedded(self) -> Program | None:
        if not importlib.util.find_spec("ministack"):
            return None
        version = importlib.metadata.version("ministack")
        return Program(Path(sys.executable), f"MiniStack {version}", as_ourselves=True)

    def native(self) -> Program | None:
        jar = self.fetched / "bin" / f"DynamoDBLocal-{_VERSION}.jar"
        if not jar.is_file() or not java(_JAVA):
            return None
        # Another user might not be let into the directory of its libraries.
        return Program(jar, f"DynamoDB Local {_VERSION}", as_ourselves=True)

    def fetch(self, folder: Path) -> None:
        if platform.machine() not in ("x86_64", "AMD64"):
            raise UnavailableError("Maven has the SQLite that it needs for x86-64 only")
        place = folder / "bin"
        runtime = get_jars(_ARTIFACTS, place, _JARS_SHA256, _JAVA)
        source = folder / "Launcher.java"
        source.write_text(_LAUNCHER, "utf-8")
        fetching.run(
            [
                *(runtime.path.with_name("javac"), "--release", str(_JAVA)),
                *("-cp", f"{place}/*", "-d", place, source),
            ],
            folder,
        )

    def command(self, program: Program, folder: Path, port: int) -> list[str]:
        if program.path.suffix != ".jar":
            return [str(program.path), "-m", "ministack"]
        runtime = java(_JAVA)
        assert runtime
        place = program.path.parent
        return [
            *(str(runtime.path), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
            *("-XX:-UsePerfData", f"-Djava.io.tmpdir={folder / 'tmp'}"),
            *(f"-Djava.library.path={place}", "-cp", f"{place}:{place}/*"),
            *("Launcher", "-inMemory", "-disableTelemetry", "-port", str(port)),
        ]

    def environment(self, folder: Path, port: int) -> dict[str, str]:
        """For MiniStack, which listens to the world and serves all of AWS by itself."""
        return {
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "SERVICES": self.service,
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "DOCKER_HOST": "unix:///nonexistent",  # it removes containers it calls old
            "LOG_LEVEL": "WARNING",
        }

    def url(self, folder: Path, port: int, password: str) -> str:
        # No password guards it: any access key is let in.
        return f"http://cook:cook@127.0.0.1:{port}/?region={_REGION}"


def account_of_its_own(url: str) -> str:
    """The address with a new access key."""
    # Twelve digits: what MiniStack takes for the number of an account.
    key = f"{secrets.randbelow(10**12):012}"
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{key}:cook@{host}"))


def _get(url: str) -> tuple[dict[str, str], bytes]:
    """Headers and body of the answer, also where it is an error: that is an answer."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
            return dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return dict(error.headers), error.read()


@cache
def _session() -> "Session":
    from botocore.session import Session

    return Session()  # it reads the description of a service once


def make_client(one: DynamoDB, address: str) -> Any:
    """A client of that engine's service."""
    from botocore.config import Config

    given = one.variables(address)
    return _session().create_client(
        one.service,
        endpoint_url=given[one.env],
        aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
        region_name=given["AWS_DEFAULT_REGION"],
        config=Config(connect_timeout=5, read_timeout=30),
    )


def _client(address: str) -> "DynamoDBClient":
    return make_client(DynamoDB(), address)  # type: ignore[no-any-return]
