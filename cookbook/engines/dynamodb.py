"""Amazon DynamoDB: MiniStack or DynamoDB Local as its stand-in.

Both keep the data of each access key apart, so a place is an access key of its own.
"""

import platform
from contextlib import closing
from pathlib import Path
from typing import ClassVar

from cookbook import fetch as fetching
from cookbook.engines.aws import AWS, asks, make_client
from cookbook.engines.base import Program, Server
from cookbook.engines.java import Artifact, get_jars, java
from cookbook.errors import UnavailableError

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


class DynamoDB(AWS):
    service = "dynamodb"
    endpoints = ("AWS_ENDPOINT_URL_DYNAMODB",)

    name = "dynamodb"
    title = "Amazon DynamoDB"
    env = "AWS_ENDPOINT_URL"
    example = "http://127.0.0.1:18000"
    port = 8000
    fetches: ClassVar[str | None] = (
        f"DynamoDB Local {_VERSION}, with Maven and a JDK from {_JAVA} on"
    )

    starter = asks("dynamodb", 'list_tables()["TableNames"]')

    def identify(self, url: str) -> tuple[str, str]:
        headers, _ = self.health(url)
        if "X-DynamoDB-Local" in headers:
            return "DynamoDB Local", headers["X-DynamoDB-Local"]
        if headers.get("Server", "").startswith("Jetty("):  # it does not say more
            return "DynamoDB Local", f"on {headers['Server']}"
        try:
            return super().identify(url)
        except ValueError:
            raise ValueError("it is neither MiniStack nor DynamoDB Local") from None

    def create_place(self, server: Server, name: str) -> str:
        url = super().create_place(server, name)
        with closing(make_client(self, url)) as client:
            tables = client.list_tables()["TableNames"]
        if tables:
            raise UnavailableError(
                "the server shows the same tables to every access key:"
                " start DynamoDB Local without -sharedDb"
            )
        return url

    def drop_place(self, server: Server, url: str) -> None:
        with closing(make_client(self, url)) as client:
            for page in client.get_paginator("list_tables").paginate():
                for table in page["TableNames"]:
                    found = client.describe_table(TableName=table)["Table"]
                    if found.get("DeletionProtectionEnabled"):
                        client.update_table(
                            TableName=table, DeletionProtectionEnabled=False
                        )
                    client.delete_table(TableName=table)

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
            return super().command(program, folder, port)
        runtime = java(_JAVA)
        assert runtime
        place = program.path.parent
        return [
            *(str(runtime.path), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
            *("-XX:-UsePerfData", f"-Djava.io.tmpdir={folder / 'tmp'}"),
            *(f"-Djava.library.path={place}", "-cp", f"{place}:{place}/*"),
            *("Launcher", "-inMemory", "-disableTelemetry", "-port", str(port)),
        ]
