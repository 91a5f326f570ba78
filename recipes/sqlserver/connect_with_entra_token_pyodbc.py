# /// script
# requires-python = ">=3.11"
# dependencies = ["pyodbc>=5.3"]
# ///
"""Connect with a Microsoft Entra token, with pyodbc.

The driver takes the token as bytes with their length before them. It believes that
length: bytes without it make the driver read whatever lies behind them in memory.
"""

import os
import re
import struct
import sys
from typing import Any, NamedTuple, Protocol

try:
    import pyodbc
except ImportError as error:  # the wheel is without libodbc.so.2
    raise ImportError(f"{error}: install unixODBC (apt-get install unixodbc)") from None


# --8<-- [start:connect]
pyodbc.pooling = False  # before the first connect: the pool does not know whose token
DRIVER = "Driver={ODBC Driver 18 for SQL Server};"
SQL_COPT_SS_ACCESS_TOKEN = 1256
PAIR = re.compile(r"\s*([^=;]+?)\s*=\s*(\{(?:[^}]|\}\})*\}|[^;]*)\s*(?:;|$)")
LOGIN = {"uid", "pwd", "authentication", "trusted_connection"}


class Credential(Protocol):
    """Any of azure-identity's, such as DefaultAzureCredential()."""

    def get_token(self, *scopes: str) -> Any: ...


def without_login(dsn: str) -> str:
    """The connection string without user and password: the token comes instead."""
    pairs = PAIR.findall(dsn)
    return ";".join(f"{k}={v}" for k, v in pairs if k.lower() not in LOGIN)


def pack(token: str) -> bytes:
    """The token as the driver wants it: its length in bytes, then UTF-16."""
    data = token.encode("utf-16-le")
    return struct.pack("<I", len(data)) + data


def connect(dsn: str, credential: Credential) -> pyodbc.Connection:
    """Connect as the one whom the credential names; the caller commits and closes.

    Raises what the credential raises when it has no token, and pyodbc.Error when the
    server refuses it.
    """
    token = credential.get_token("https://database.windows.net/.default").token
    conn = pyodbc.connect(
        DRIVER + without_login(dsn),
        attrs_before={SQL_COPT_SS_ACCESS_TOKEN: pack(token)},
        timeout=15,
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

    def get_token(self, *scopes: str) -> Token:
        print("asked for a token for", *scopes)
        return Token("eyJ0eXAiOiJKV1QifQ.e30.")


def main() -> None:
    dsn = os.environ.get("SQLSERVER_DSN") or sys.exit(NO_SERVER)
    print(without_login("Server=db.example.com;UID=shop;PWD={a;b}}c};Encrypt=yes"))
    try:
        connect(dsn, MadeUp()).close()
    except pyodbc.Error:
        print("refused, as it should be")


if __name__ == "__main__":
    main()
