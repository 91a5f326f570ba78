"""Google Secret Manager: always a stand-in for the service. A place is a project.

An address here is `grpc://host:port/project`.
"""

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cookbook.engines.base import Engine, Program, Server, Starter, with_path
from cookbook.stand_ins import NAME, version_of

if TYPE_CHECKING:  # drivers are imported late: not every extra is installed
    from google.cloud.secretmanager_v1 import SecretManagerServiceClient


class GCPSecrets(Engine):
    name = "gcp_secrets"
    title = "Google Secret Manager"
    env = "SECRET_MANAGER_EMULATOR_HOST"
    example = "grpc://127.0.0.1:19090/cookbook"
    port = 9090
    install = "pip install google-cloud-secret-manager google-crc32c"

    starter = Starter(
        body="""\
parts = urlsplit(f"//{address.rpartition('//')[2]}")
with grpc.insecure_channel(parts.netloc) as channel:
    transport = SecretManagerServiceGrpcTransport(channel=channel)
    client = SecretManagerServiceClient(transport=transport)
    return 42 + len(list(client.list_secrets(parent="projects/none", timeout=5)))""",
        driver="""\
import grpc
from google.cloud.secretmanager_v1 import SecretManagerServiceClient
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import (
    SecretManagerServiceGrpcTransport,
)""",
        dependency="google-cloud-secret-manager>=2.25",
        standard=("from urllib.parse import urlsplit",),
    )

    @property
    def no_server(self) -> str:
        return (
            "Set GOOGLE_CLOUD_PROJECT; for a stand-in also"
            f" {self.env}, for example 127.0.0.1:19090"
            f" after `docker compose up -d --wait {self.name}`"
        )

    def variables(self, address: str) -> dict[str, str]:
        parts = urlsplit(address)
        return {self.env: parts.netloc, "GOOGLE_CLOUD_PROJECT": parts.path[1:]}

    def external(self) -> str | None:
        """A stand-in. The service itself is never used: it would cost money."""
        if not (host := os.environ.get(self.env)):
            return None
        project = os.environ.get("GOOGLE_CLOUD_PROJECT") or "cookbook"
        return f"grpc://{host}/{project}"

    def embedded(self) -> Program | None:
        if not importlib.util.find_spec("google_crc32c"):
            return None
        try:
            library = version("google-cloud-secret-manager")
        except PackageNotFoundError:
            return None
        said = f"{NAME} {version_of(self.name)}, protobuf of {library}"
        return Program(Path(sys.executable), said, as_ourselves=True)

    def command(self, program: Program, folder: Path, port: int) -> list[str]:
        module = "cookbook.stand_ins.gcp_secrets"
        return [str(program.path), "-m", module, str(port)]

    def url(self, folder: Path, port: int, password: str) -> str:
        return f"grpc://127.0.0.1:{port}/cookbook"

    def identify(self, url: str) -> tuple[str, str]:
        with _client(url) as (client, metadata):
            client.list_secrets(parent=_parent(url), timeout=5)
        if ours := metadata.get("cookbook-stand-in"):
            return NAME, ours
        return "gcp-secret-manager-emulator", "(tells no version)"

    def create_place(self, server: Server, name: str) -> str:
        """A project: the stand-in keeps what is in them apart."""
        return with_path(server.url, name.replace("_", "-"))

    def drop_place(self, server: Server, url: str) -> None:
        with _client(url) as (client, _):
            for secret in client.list_secrets(parent=_parent(url), timeout=5):
                client.delete_secret(name=secret.name, timeout=5)


def _parent(url: str) -> str:
    return f"projects/{urlsplit(url).path[1:]}"


@contextmanager
def _client(url: str) -> "Iterator[tuple[SecretManagerServiceClient, dict[str, str]]]":
    """A client, and the metadata of the answers that it will have had."""
    import grpc
    from google.cloud.secretmanager_v1 import SecretManagerServiceClient
    from google.cloud.secretmanager_v1.services.secret_manager_service import transports

    metadata: dict[str, str] = {}

    class Listen(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
        def intercept_unary_unary(self, ask: Any, details: Any, asked: Any) -> Any:
            call = ask(details, asked)
            metadata.update(call.initial_metadata())
            return call

    with grpc.insecure_channel(urlsplit(url).netloc) as channel:
        listening = grpc.intercept_channel(channel, Listen())
        transport = transports.SecretManagerServiceGrpcTransport(channel=listening)
        yield SecretManagerServiceClient(transport=transport), metadata
