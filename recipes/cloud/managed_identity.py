# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "azure-core>=1.35",
#     "azure-identity>=1.25",
#     "psycopg[binary,pool]>=3.3",
# ]
#
# [tool.cookbook]
# needs = ["postgresql_tls"]
# ///
"""Log in at a database of Azure with a managed identity.

The password is a token that ends after about an hour. So each connection of the pool
asks for one of its own, and the deployment says which identity gives it.
"""

import os
import sys
import time
from typing import Any

import psycopg
from azure.core.credentials import AccessToken, TokenCredential
from azure.identity import DefaultAzureCredential
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool


# --8<-- [start:credential]
def get_credential(**options: Any) -> TokenCredential:
    """The credential that AZURE_TOKEN_CREDENTIALS names; make one for the process.

    In Azure that is ManagedIdentityCredential or WorkloadIdentityCredential, at your
    desk AzureCliCredential. AZURE_CLIENT_ID says which of several identities is meant.
    options: azure-core's, such as transport. Raises ValueError without a name, or with
    that of a group: `prod` and `dev` are chains again.
    """
    if os.environ.get("AZURE_TOKEN_CREDENTIALS", "").strip().lower() in {"prod", "dev"}:
        raise ValueError("AZURE_TOKEN_CREDENTIALS must name one credential, no group")
    return DefaultAzureCredential(require_envvar=True, **options)


# --8<-- [end:credential]

# --8<-- [start:pool]
SCOPE = "https://ossrdbms-aad.database.windows.net/.default"


def open_pool(
    conninfo: str, credential: TokenCredential, *, size: int = 10, wait: float = 10
) -> ConnectionPool:
    """Open a pool whose connections log in with a token; close it, or use `with`.

    conninfo: host, dbname, sslrootcert, and as user the name of the identity. Raises
    ClientAuthenticationError (no token), psycopg.OperationalError (wrong certificate,
    token refused), PoolTimeout (a caller waited longer than wait seconds).
    """

    def login() -> dict[str, Any]:
        return {
            "password": credential.get_token(SCOPE).token,
            "sslmode": "verify-full",  # whoever has the token is you
            "connect_timeout": 5,
            "options": "-c statement_timeout=30s",
        }

    # The pool would try again in silence, and say no more than that it timed out.
    psycopg.connect(conninfo, **login()).close()
    pool = ConnectionPool(
        conninfo,
        kwargs=login,  # a function: called for each connection
        min_size=1,
        max_size=size,
        timeout=wait,
        max_lifetime=30 * 60,  # so an identity that lost its rights is out by then
        check=ConnectionPool.check_connection,
        open=False,
    )
    pool.open(wait=True, timeout=wait)
    return pool


# --8<-- [end:pool]

NO_SERVER = (
    "Set POSTGRESQL_TLS_URL, for example"
    " postgresql://cook:cook@localhost:15433/cookbook"
    "?sslmode=verify-full&sslrootcert=build/tls/ca.pem"
    " after `docker compose up -d --wait postgresql_tls`"
)


class PasswordAsToken:
    """Stands for an identity: a server in a container has no tenant. Its token is the
    password; in Azure take get_credential()."""

    def __init__(self, password: str) -> None:
        self._password = password
        self.asked: list[str] = []

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        self.asked += scopes
        return AccessToken(self._password, int(time.time()) + 3600)


def main() -> None:
    url = os.environ.get("POSTGRESQL_TLS_URL") or sys.exit(NO_SERVER)
    credential = PasswordAsToken(str(conninfo_to_dict(url)["password"]))
    query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    with (
        open_pool(url, credential, size=2) as pool,
        pool.connection() as one,
        pool.connection() as two,
    ):
        for number, conn in enumerate((one, two), 1):
            row = conn.execute(query).fetchone()
            print(f"connection {number} is encrypted:", bool(row and row[0]))
    print("tokens:", len(credential.asked), "for", *set(credential.asked))


if __name__ == "__main__":
    main()
