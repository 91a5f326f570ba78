# /// script
# requires-python = ">=3.11"
# dependencies = ["mssql-python>=1.16"]
# ///
"""Connect with a Microsoft Entra token.

In Azure a program proves who it is by a token, not by a password. The credential gives
one for each connection, so that no connection is opened with a token of yesterday.
"""

import os
import re
import sys
from typing import NamedTuple

import mssql_python
from mssql_python import Connection, TokenProvider

# --8<-- [start:connect]
PAIR = re.compile(r"\s*([^=;]+?)\s*=\s*(\{(?:[^}]|\}\})*\}|[^;]*)\s*(?:;|$)")
LOGIN = {"uid", "pwd", "authentication", "trusted_connection"}


def without_login(dsn: str) -> str:
    """The connection string without user and password: the token comes instead."""
    pairs = PAIR.findall(dsn)
    return ";".join(f"{k}={v}" for k, v in pairs if k.lower() not in LOGIN)


def connect(dsn: str, credential: TokenProvider) -> Connection:
    """Connect as the one whom the credential names; `with` commits and closes.

    credential is any of azure-identity's, such as DefaultAzureCredential(): make one
    for the process, since it keeps its token until shortly before the end. Raises
    mssql_python.OperationalError when it has no token, or the server refuses it.
    """
    conn = mssql_python.connect(
        without_login(dsn), token_provider=credential, timeout=15
    )
    conn.timeout = 30
    return conn


# --8<-- [end:connect]

NO_SERVER = (
    "Set SQLSERVER_DSN, for example Server=127.0.0.1,11433;Database=master;UID=sa;"
    "PWD=Cook_Book1;Encrypt=yes;TrustServerCertificate=yes"
    " after `docker compose up -d --wait sqlserver`"
)


class Token(NamedTuple):
    token: str


class MadeUp:
    """A credential with a token that nobody issued: a server in a container has no
    tenant. In Azure take one of azure-identity's."""

    def get_token(self, scope: str) -> Token:
        print("asked for a token for", scope)
        return Token("eyJ0eXAiOiJKV1QifQ.e30.")


def main() -> None:
    dsn = os.environ.get("SQLSERVER_DSN") or sys.exit(NO_SERVER)
    print(without_login("Server=db.example.com;UID=shop;PWD={a;b}}c};Encrypt=yes"))
    try:
        connect(dsn, MadeUp()).close()
    except mssql_python.OperationalError:
        print("refused, as it should be")


if __name__ == "__main__":
    main()
