# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "azure-core>=1.35", "azure-identity>=1.25", "azure-keyvault-secrets>=4.10",
#     "psycopg[binary]>=3.2",
# ]
# [tool.cookbook]
# needs = ["key_vault", "postgresql_tls"]
# ///
"""Read a database password from Azure Key Vault.

The secret is kept for some minutes, and read again as soon as the database refuses it.
A secret that has expired is an error: the vault itself gives it out.
"""

import os
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock
from time import monotonic
from typing import Any
from uuid import uuid4

import psycopg
from azure.core.credentials import TokenCredential
from azure.identity import ManagedIdentityCredential
from azure.keyvault.secrets import SecretClient
from psycopg.conninfo import conninfo_to_dict


# --8<-- [start:cache]
@dataclass(frozen=True)
class Secret:
    version: str
    value: str = field(repr=False)
    expires_on: datetime | None

    @property
    def has_expired(self) -> bool:
        return self.expires_on is not None and self.expires_on <= datetime.now(UTC)


def read(client: SecretClient, name: str, version: str | None = None) -> Secret:
    """A version of a secret, or the newest one, if it is valid now.

    Raises ValueError (it has expired, or is not valid yet), ResourceNotFoundError, and
    HttpResponseError, whose message says if it is disabled, or not yours to read.
    """
    found = client.get_secret(name, version)
    its = found.properties
    secret = Secret(its.version or "", found.value or "", its.expires_on)
    if secret.has_expired:
        raise ValueError(f"{its.id} expired on {its.expires_on}")
    if its.not_before and datetime.now(UTC) < its.not_before:
        raise ValueError(f"{its.id} is not valid before {its.not_before}")
    return secret


class SecretCache:
    """A secret, kept for ttl seconds, or until it expires. Threads may share it."""

    ttl = 300.0

    def __init__(self, client: SecretClient, name: str, version: str = "") -> None:
        self._wanted, self._lock = (client, name, version), Lock()
        self._kept: tuple[float, Secret] | None = None

    def get(self, refused: Secret | None = None) -> Secret:
        """The secret; a newly read one if the kept one is what was refused."""
        with self._lock:  # one request, however many threads want it
            until, secret = self._kept or (0.0, None)
            fresh = monotonic() < until
            if secret and fresh and secret is not refused and not secret.has_expired:
                return secret
            self._kept = None  # if reading fails, nothing old is given out
            secret = read(*self._wanted)
            self._kept = monotonic() + self.ttl, secret
            return secret


# --8<-- [end:cache]


# --8<-- [start:connect]
def make_client(url: str, credential: TokenCredential, **options: Any) -> SecretClient:
    """A client for the whole process. Sends nothing yet; options are azure-core's."""
    limits = {"connection_timeout": 3, "read_timeout": 5, "retry_total": 2}
    return SecretClient(url, credential, **limits, **options)


def connect(cache: SecretCache, conninfo: str) -> psycopg.Connection:
    """Log in as the user in conninfo, with the secret as the password.

    A password that the database refuses is read again, and tried if it is another one.
    Raises OperationalError, and what read() raises.
    """
    secret = cache.get()
    try:
        return psycopg.connect(conninfo, password=secret.value, connect_timeout=5)
    except psycopg.OperationalError as error:
        if not (error.pgconn and error.pgconn.used_password):
            raise  # no server, no TLS: the password is not the reason
        newer = cache.get(refused=secret)
        if newer.version == secret.version:
            raise  # the same again would only count as one more failed login
    return psycopg.connect(conninfo, password=newer.value, connect_timeout=5)


# --8<-- [end:connect]

NO_SERVER = (
    "Set AZURE_KEY_VAULT_URL; for the cookbook's stand-in also"
    " AZURE_KEY_VAULT_CA, IDENTITY_ENDPOINT and IDENTITY_HEADER"
)


def main() -> None:
    url = os.environ.get("AZURE_KEY_VAULT_URL") or sys.exit(NO_SERVER)
    conninfo = os.environ["POSTGRESQL_TLS_URL"]
    name, ca = f"cookbook-{uuid4()}", os.environ.get("AZURE_KEY_VAULT_CA") or True
    with (
        ManagedIdentityCredential(connection_verify=ca) as identity,
        make_client(url, identity, connection_verify=ca) as client,
    ):
        client.set_secret(name, "the password of last month")
        try:
            cache = SecretCache(client, name)
            old = cache.get()
            client.set_secret(name, str(conninfo_to_dict(conninfo)["password"]))
            with connect(cache, conninfo) as conn:
                print("encrypted:", conn.pgconn.ssl_in_use)
            print("the kept one was read again:", cache.get().version != old.version)
        finally:
            client.begin_delete_secret(name).wait()
            client.purge_deleted_secret(name)


if __name__ == "__main__":
    main()
