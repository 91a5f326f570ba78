"""Google Secret Manager's protobuf service, over gRPC without TLS, in memory.

`python -m cookbook.stand_ins.gcp_secrets PORT`. It has the calls that read, add and
change secrets of one project or many, and refuses what the service would: names that
are not there or not well formed, versions that are disabled or destroyed, payloads that
are empty, too large, or not what their checksum says. It asks nobody who they are.
"""

import re
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
from google.cloud.secretmanager_v1.types import resources, service
from google.protobuf.empty_pb2 import Empty
from google_crc32c import value as crc32c

from cookbook.stand_ins import version_of

SERVICE = "google.cloud.secretmanager.v1.SecretManagerService"
VERSION = version_of("gcp_secrets")
IDENTITY = (("cookbook-stand-in", VERSION),)  # in the metadata of every answer

State = resources.SecretVersion.State
_LARGEST = 64 * 1024  # bytes


class RefusedError(Exception):
    """What the service would answer in place of what was asked for."""

    def __init__(self, code: grpc.StatusCode, said: str) -> None:
        super().__init__(said)
        self.code = code


@dataclass
class Version:
    data: bytes
    state: int = State.ENABLED


class Secrets:
    """What the service keeps: the versions of each secret, by the secret's name."""

    def __init__(self) -> None:
        self._kept: dict[str, list[Version]] = {}

    def CreateSecret(self, asked: service.CreateSecretRequest) -> resources.Secret:
        name = f"{asked.parent}/secrets/{asked.secret_id}"
        if not re.fullmatch(r"projects/[\w-]+/secrets/[\w-]{1,255}", name, re.ASCII):
            raise _invalid(f"[{name}] is no name for a secret")
        if "replication" not in asked.secret:
            raise _invalid("Secret.replication must be provided")
        if name in self._kept:
            raise RefusedError(
                grpc.StatusCode.ALREADY_EXISTS, f"Secret [{name}] already exists."
            )
        self._kept[name] = []
        return resources.Secret(name=name, replication=asked.secret.replication)

    def ListSecrets(
        self, asked: service.ListSecretsRequest
    ) -> service.ListSecretsResponse:
        names = [name for name in self._kept if name.startswith(f"{asked.parent}/")]
        found = [resources.Secret(name=name) for name in names]
        return service.ListSecretsResponse(secrets=found, total_size=len(found))

    def DeleteSecret(self, asked: service.DeleteSecretRequest) -> Empty:
        self._versions(asked.name)
        del self._kept[asked.name]
        return Empty()

    def AddSecretVersion(
        self, asked: service.AddSecretVersionRequest
    ) -> resources.SecretVersion:
        versions = self._versions(asked.parent)
        data = asked.payload.data
        if not 0 < len(data) <= _LARGEST:
            raise _invalid(f"Secret Payload must have 1 to {_LARGEST} bytes.")
        if "data_crc32c" in asked.payload and asked.payload.data_crc32c != crc32c(data):
            raise _invalid("The checksum of the Secret Payload does not match.")
        versions.append(Version(data))
        return self._describe(f"{asked.parent}/versions/{len(versions)}")

    def AccessSecretVersion(
        self, asked: service.AccessSecretVersionRequest
    ) -> service.AccessSecretVersionResponse:
        name, version = self._find(asked.name)
        if version.state != State.ENABLED:
            raise _precondition(name, version)
        payload = resources.SecretPayload(
            data=version.data, data_crc32c=crc32c(version.data)
        )
        return service.AccessSecretVersionResponse(name=name, payload=payload)

    def EnableSecretVersion(
        self, asked: service.EnableSecretVersionRequest
    ) -> resources.SecretVersion:
        return self._change(asked.name, State.ENABLED)

    def DisableSecretVersion(
        self, asked: service.DisableSecretVersionRequest
    ) -> resources.SecretVersion:
        return self._change(asked.name, State.DISABLED)

    def DestroySecretVersion(
        self, asked: service.DestroySecretVersionRequest
    ) -> resources.SecretVersion:
        return self._change(asked.name, State.DESTROYED)

    def _versions(self, name: str) -> list[Version]:
        try:
            return self._kept[name]
        except KeyError:
            said = f"Secret [{name}] not found or has no versions."
            raise RefusedError(grpc.StatusCode.NOT_FOUND, said) from None

    def _find(self, name: str) -> tuple[str, Version]:
        """A version by its number, or the newest of any state as `latest`."""
        parts = re.fullmatch(r"(projects/[^/]+/secrets/[^/]+)/versions/(\w+)", name)
        if not parts or not re.fullmatch(r"latest|[1-9]\d*", parts[2], re.ASCII):
            raise _invalid(f"[{name}] is no name of a version")
        secret, wanted = parts.groups()
        versions = self._versions(secret)
        number = len(versions) if wanted == "latest" else int(wanted)
        if not 0 < number <= len(versions):
            said = f"Secret Version [{name}] not found."
            raise RefusedError(grpc.StatusCode.NOT_FOUND, said)
        return f"{secret}/versions/{number}", versions[number - 1]

    def _change(self, name: str, state: int) -> resources.SecretVersion:
        name, version = self._find(name)
        if version.state == State.DESTROYED:
            raise _precondition(name, version)
        version.state = state
        if state == State.DESTROYED:
            version.data = b""
        return self._describe(name)

    def _describe(self, name: str) -> resources.SecretVersion:
        return resources.SecretVersion(name=name, state=self._find(name)[1].state)


def _invalid(said: str) -> RefusedError:
    return RefusedError(grpc.StatusCode.INVALID_ARGUMENT, said)


def _precondition(name: str, version: Version) -> RefusedError:
    said = f"Secret Version [{name}] is in {State(version.state).name} state."
    return RefusedError(grpc.StatusCode.FAILED_PRECONDITION, said)


def make_server(port: int) -> grpc.Server:
    """A server on that port of loopback, not started yet."""
    secrets, lock = Secrets(), threading.Lock()

    def handler(name: str) -> grpc.RpcMethodHandler:
        call: Callable[[Any], Any] = getattr(secrets, name)

        def answer(asked: Any, context: grpc.ServicerContext) -> Any:
            context.send_initial_metadata(IDENTITY)
            try:
                with lock:
                    return call(asked)
            except RefusedError as refused:
                context.abort(refused.code, str(refused))

        return grpc.unary_unary_rpc_method_handler(
            answer,
            getattr(service, f"{name}Request").deserialize,
            lambda said: (
                said.SerializeToString()
                if isinstance(said, Empty)
                else type(said).serialize(said)
            ),
        )

    calls = [name for name in vars(Secrets) if name[0].isupper()]
    handlers = {name: handler(name) for name in calls}
    server = grpc.server(
        ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)]
    )  # a port that is taken is an error
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(SERVICE, handlers)]
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    return server


if __name__ == "__main__":
    running = make_server(int(sys.argv[1]))
    running.start()
    running.wait_for_termination()
