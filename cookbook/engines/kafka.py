"""Apache Kafka. A place is a prefix: of topics, groups and transactional ids."""

import socket
import struct
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cookbook.engines import process
from cookbook.engines.base import Engine, Program, Server, Starter
from cookbook.engines.java import Artifact, get_jars, java
from cookbook.errors import UnavailableError

if TYPE_CHECKING:  # drivers are imported late: not every extra is installed
    from confluent_kafka.admin import AdminClient

VERSION = "4.3.1"  # as the image in docker-compose.yml
_JAVA = 17
_JARS_SHA256 = "bb63a7765962eb0de1065027ce45e3dfe9d95b1113d7725462264c3bfed70ab2"

_ARTIFACTS = (
    Artifact(f"org.apache.kafka:kafka_2.13:{VERSION}"),
    Artifact("org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"),
)

# What the same lines of docker-compose.yml say to the container.
_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
}

# A broker does not tell its version. It tells which metadata.version it supports, and
# each release of Kafka ends with one of these (org.apache.kafka.server.common).
_RELEASES = {
    **{7: "3.3", 8: "3.4", 11: "3.5", 14: "3.6", 19: "3.7", 20: "3.8", 21: "3.9"},
    **{25: "4.0", 27: "4.1", 29: "4.2", 30: "4.3"},
}


class Kafka(Engine):
    name = "kafka"
    title = "Apache Kafka"
    env = "KAFKA_BOOTSTRAP_SERVERS"
    example = "127.0.0.1:19092"
    port = 19092
    install = "with a JDK (apt-get install default-jdk-headless maven)"
    fetches = f"Apache Kafka {VERSION} from Maven Central, with mvn; runs on Java 17"

    starter = Starter(
        body="""\
with AdminClient({"bootstrap.servers": address}) as admin:
    brokers = admin.list_topics(timeout=10).brokers
return 42 if brokers else 0""",
        driver="from confluent_kafka.admin import AdminClient",
        dependency="confluent-kafka>=2.13.2",
    )

    def variables(self, address: str) -> dict[str, str]:
        """The place, `kafka://SERVERS/PREFIX`, is two variables."""
        servers, _, prefix = address.removeprefix("kafka://").partition("/")
        return {self.env: servers} | ({"KAFKA_TOPIC": prefix} if prefix else {})

    def native(self) -> Program | None:
        runtime = java(_JAVA)
        if not runtime or not self.is_fetched:
            return None
        return Program(runtime.path, f"{self.title} {VERSION}")

    def fetch(self, folder: Path) -> None:
        get_jars(_ARTIFACTS, folder / "lib", _JARS_SHA256, _JAVA)

    def prepare(self, program: Program, folder: Path, password: str) -> None:
        self._configure(folder, broker=1, controller=2)  # the ports come later
        process.run_as_server_user(
            [
                *(*self._java(program), "kafka.tools.StorageTool", "format"),
                *("--cluster-id", "cookbookcookbookcookbo"),
                *("--config", str(folder / "server.properties")),
            ],
            folder,
        )

    def command(self, program: Program, folder: Path, port: int) -> list[str]:
        self._configure(folder, port, process.free_port())
        settings = str(folder / "server.properties")
        return [*self._java(program), "kafka.Kafka", settings]

    def _java(self, program: Program) -> list[str]:
        return [
            *(str(program.path), "-Xmx512m", "-XX:+UseSerialGC"),
            *("-XX:TieredStopAtLevel=1", "-Dlog4j2.level=WARN"),
            *("-cp", f"{self.fetched}/lib/*"),
        ]

    def _configure(self, folder: Path, broker: int, controller: int) -> None:
        listeners = (
            f"PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}"
        )
        settings = {
            **_SETTINGS,
            "log.dirs": str(folder / "data"),
            "listeners": listeners,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        }
        text = "".join(f"{name}={value}\n" for name, value in settings.items())
        (folder / "server.properties").write_text(text, "utf-8")

    def url(self, folder: Path, port: int, password: str) -> str:
        return f"127.0.0.1:{port}"

    def container_environment(self, folder: Path) -> dict[str, str]:
        # The broker sends its clients to this port, so Docker cannot choose it later.
        return {"COOKBOOK_KAFKA_PORT": str(process.free_port())}

    def identify(self, url: str) -> tuple[str, str]:
        level = _supported_metadata_version(url.partition(",")[0])
        with _admin(url) as admin:
            if not admin.list_topics(timeout=5).brokers:
                raise UnavailableError("no broker of the cluster takes requests yet")
        if level is None:
            return "a broker that is not Apache Kafka's", ""
        return self.title, _RELEASES.get(level, f"with metadata.version {level}")

    def create_place(self, server: Server, name: str) -> str:
        return f"kafka://{server.url}/{name}"

    def drop_place(self, server: Server, url: str) -> None:
        """Delete topics and groups with the prefix.

        A group that still has members stays: without topics it holds nothing, and the
        broker forgets it some time after they are gone.
        """
        prefix = url.rpartition("/")[2]
        with _admin(server.url) as admin:
            listed = admin.list_consumer_groups(request_timeout=10).result()
            names = [group.group_id for group in listed.valid]
            if groups := [name for name in names if name.startswith(prefix)]:
                for left in admin.delete_consumer_groups(groups).values():
                    left.exception(timeout=10)
            names = list(admin.list_topics(timeout=10).topics)
            if topics := [name for name in names if name.startswith(prefix)]:
                for gone in admin.delete_topics(topics).values():
                    gone.result(timeout=10)


def _admin(servers: str) -> "AdminClient":
    from confluent_kafka.admin import AdminClient

    return AdminClient({"bootstrap.servers": servers, "log_level": 4})


def _supported_metadata_version(address: str) -> int | None:
    """Ask a broker for the greatest metadata.version that it supports.

    The request is ApiVersions (key 18) in version 3; no client in Python makes it
    public. None: the broker has no such feature, so it is another product.
    """
    host, _, port = address.rpartition(":")
    name = b"cookbook"
    text = bytes([len(name) + 1]) + name
    request = struct.pack(">hhih", 18, 3, 1, len(name)) + name + b"\0"
    request += text + text + b"\0"
    with closing(socket.create_connection((host.strip("[]"), int(port)), 5)) as sock:
        sock.sendall(struct.pack(">i", len(request)) + request)
        with sock.makefile("rb") as answer:
            return _read_answer(answer)


def _read_answer(answer: BinaryIO) -> int | None:
    _, _, error = struct.unpack(">iih", answer.read(10))
    if error:
        return None  # too old for version 3
    for _ in range(_varint(answer) - 1):
        answer.read(6)  # an API with its versions
        _skip_tags(answer)
    answer.read(4)  # throttle time
    for _ in range(_varint(answer)):
        tag, size = _varint(answer), _varint(answer)
        if tag != 0:
            answer.read(size)
            continue
        for _ in range(_varint(answer) - 1):  # the supported features
            feature = answer.read(_varint(answer) - 1)
            _, greatest = struct.unpack(">hh", answer.read(4))
            _skip_tags(answer)
            if feature == b"metadata.version":
                return int(greatest)
    return None


def _skip_tags(answer: BinaryIO) -> None:
    for _ in range(_varint(answer)):
        _varint(answer)
        answer.read(_varint(answer))


def _varint(answer: BinaryIO) -> int:
    value = shift = 0
    while True:
        (byte,) = answer.read(1)
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
        shift += 7
