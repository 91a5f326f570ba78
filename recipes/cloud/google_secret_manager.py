# /// script
# requires-python = ">=3.11"
# dependencies = ["google-cloud-secret-manager>=2.25", "google-crc32c>=1.7"]
# [tool.cookbook]
# needs = ["gcp_secrets"]
# ///
"""Read a password from Google Secret Manager.

A secret is read once and kept for some minutes, its checksum is verified, and a version
that replaces it is noticed. Use this where a program connects to a database again and
again, and the password is rotated while it runs.
"""

import logging
import os
import sys
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic

import grpc
from google.api_core.exceptions import DataLoss, ServerError, TooManyRequests
from google.api_core.retry import Retry, if_exception_type
from google.cloud.secretmanager_v1 import SecretManagerServiceClient
from google.cloud.secretmanager_v1.services.secret_manager_service import transports
from google_crc32c import value as crc32c

NO_SERVER = (
    "Set GOOGLE_CLOUD_PROJECT; for a stand-in also"
    " SECRET_MANAGER_EMULATOR_HOST, for example 127.0.0.1:19090"
    " after `docker compose up -d --wait gcp_secrets`"
)

# --8<-- [start:read]
# Reading twice does no harm. The client's own policy waits a minute, in steps of 2 s.
RETRY = Retry(
    if_exception_type(ServerError, TooManyRequests), initial=0.1, maximum=2, timeout=10
)


@dataclass(frozen=True)
class Secret:
    """One version of a secret. Its repr, and so a log or a traceback, hides it."""

    version: str  # projects/PROJECT/secrets/NAME/versions/NUMBER
    payload: bytes = field(repr=False)


def read(client: SecretManagerServiceClient, name: str) -> Secret:
    """The version of that name, which ends in /versions/NUMBER or /versions/latest.

    Raises NotFound, FailedPrecondition (it is disabled or destroyed), PermissionDenied
    or InvalidArgument at once; RetryError when ten seconds were not enough.
    """

    def attempt() -> Secret:
        answer = client.access_secret_version(name=name, retry=None, timeout=3)
        data = answer.payload.data
        if crc32c(data) != answer.payload.data_crc32c:
            raise DataLoss(f"{answer.name}: the checksum does not match")
        return Secret(answer.name, data)

    return RETRY(attempt)()


# --8<-- [end:read]


# --8<-- [start:cache]
class Secrets:
    """Secrets that were read, for all threads of a process: make one, and keep it."""

    def __init__(self, client: SecretManagerServiceClient, ttl: float = 300) -> None:
        """A new version, or one that was disabled, is noticed after ttl seconds."""
        self._client = client
        self._ttl = ttl
        self._lock = Lock()  # threads that come together make one request
        self._kept: dict[str, tuple[float, Secret]] = {}

    def get(self, name: str, refused: Secret | None = None) -> Secret:
        """The secret of that name. Raises what read() raises.

        refused: what the database did not accept; then it is read again.
        """
        with self._lock:
            until, secret = self._kept.get(name, (0.0, None))
            if secret and secret != refused and monotonic() < until:
                return secret
            self._kept.pop(name, None)  # if reading fails, nothing old is served
            secret = read(self._client, name)
            self._kept[name] = (monotonic() + self._ttl, secret)
            return secret


# --8<-- [end:cache]


# --8<-- [start:connect]
def connect() -> SecretManagerServiceClient:
    """A client of the service with Application Default Credentials, or of a stand-in.

    Raises DefaultCredentialsError, so never call it while a module is imported.
    """
    # The client's DEBUG log shows the payload of every answer.
    logging.getLogger("google.cloud.secretmanager_v1").setLevel(logging.INFO)
    if host := os.environ.get("SECRET_MANAGER_EMULATOR_HOST"):
        channel = grpc.insecure_channel(host)
        transport = transports.SecretManagerServiceGrpcTransport(channel=channel)
        return SecretManagerServiceClient(transport=transport)
    return SecretManagerServiceClient()


# --8<-- [end:connect]


def main() -> None:
    project = os.environ.get("GOOGLE_CLOUD_PROJECT") or sys.exit(NO_SERVER)
    name = f"projects/{project}/secrets/orders-db"
    with connect() as client:
        parent, _, secret_id = name.partition("/secrets/")
        new: dict[str, object] = {"replication": {"automatic": {}}}
        client.create_secret({"parent": parent, "secret_id": secret_id, "secret": new})
        client.add_secret_version({"parent": name, "payload": {"data": b"first one"}})
        secrets = Secrets(client)
        secrets.get(f"{name}/versions/latest")
        client.add_secret_version({"parent": name, "payload": {"data": b"second one"}})
        kept = secrets.get(f"{name}/versions/latest")
        print("from the cache: version", kept.version[-1])
        second = secrets.get(f"{name}/versions/latest", refused=kept)
        print("refused by the database, so read again: version", second.version[-1])
        print("what a log shows:", repr(second).replace(project, "PROJECT"))
        client.delete_secret(name=name)


if __name__ == "__main__":
    main()
