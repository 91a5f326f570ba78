# /// script
# requires-python = ">=3.11"
# dependencies = ["oci>=2.160"]
#
# [tool.cookbook]
# needs = ["oracle_cloud"]
# ///
"""Read a database password from Oracle's Vault.

The program keeps no password: it proves who it is with the key of the machine that it
runs on, reads the secret, and keeps it for some minutes. After a rotation it reads
again at once, and another attempt with the new password succeeds.
"""

import os
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Callable
from typing import Any, Literal

import oci

Where = Literal["file", "instance", "resource"]


# --8<-- [start:client]
def make_client(
    where: Where, file: str = "~/.oci/config", endpoint: str | None = None
) -> Any:
    """The client of one process, that signs as where the program runs tells it.

    file: with a person's key, on a desk. instance: on a compute instance. resource: in
    a function, a container instance or a job. Raises ValueError (another word),
    ConfigFileNotFound, InvalidConfig, OSError (not a place of that kind).
    """
    config: dict[str, Any] = {}
    match where:
        case "file":
            config = oci.config.from_file(file)
            signer = oci.Signer.from_config(config)
        case "instance":
            signer = oci.auth.signers.InstancePrincipalsSecurityTokenSigner()
        case "resource":
            signer = oci.auth.signers.get_resource_principals_signer()
        case _:
            raise ValueError(f"file, instance or resource, not {where!r}")
    retries = oci.retry.RetryStrategyBuilder(
        max_attempts=3, total_elapsed_time_seconds=20
    ).get_retry_strategy()
    return oci.secrets.SecretsClient(
        config,
        signer=signer,
        service_endpoint=endpoint,  # None: that of the region
        timeout=(3, 5),  # seconds to connect, and between two bytes
        retry_strategy=retries,
    )


# --8<-- [end:client]


# --8<-- [start:secret]
class Secret:
    """A secret, read again when max_age, in seconds, is over. Threads share it."""

    def __init__(
        self,
        client: Any,
        secret_id: str,
        max_age: float = 300,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._id = client, secret_id
        self._max_age, self._clock = max_age, clock
        self._lock = threading.Lock()
        self._kept: tuple[float, str] | None = None

    def value(self) -> str:
        """The secret's current version, as text.

        Raises ServiceError (404: no such secret, or not yours to read) and
        RequestException: then an expired value is not given out.
        """
        with self._lock:  # one reads, the others wait for it
            if self._kept and self._clock() < self._kept[0]:
                return self._kept[1]
            text = read(self._client, self._id)
            self._kept = self._clock() + self._max_age, text
            return text

    def forget(self, refused: str) -> None:
        """The database refused that value: read again, unless another one has."""
        with self._lock:
            if self._kept and self._kept[1] == refused:
                self._kept = None


def read(client: Any, secret_id: str, **version: Any) -> str:
    """One version of a secret: the current one, stage="PENDING", version_number=2."""
    content = client.get_secret_bundle(secret_id, **version).data.secret_bundle_content
    return b64decode(content.content, validate=True).decode()


# --8<-- [end:secret]

NO_SERVER = "Set OCI_CONFIG_FILE (~/.oci/config), and for a stand-in OCI_ENDPOINT"


def main() -> None:
    file = os.environ.get("OCI_CONFIG_FILE") or sys.exit(NO_SERVER)
    client = make_client("file", file, os.environ.get("OCI_ENDPOINT"))
    secret = Secret(client, os.environ["OCI_SECRET_ID"])
    print("characters:", len(secret.value()))
    client.base_client.session.close()


if __name__ == "__main__":
    main()
