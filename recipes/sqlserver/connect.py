# /// script
# requires-python = ">=3.11"
# dependencies = ["mssql-python>=1.16"]
# ///
"""Connect to SQL Server.

The password may hold any character, the certificate is verified, and no wait is
endless. The connection string is built where the parts come from a vault or a form.
"""

import os
import sys

import mssql_python
from mssql_python import Connection


# --8<-- [start:string]
def connection_string(
    server: str, database: str, user: str, password: str, **options: str
) -> str:
    """The connection string of these, each value quoted.

    server is name,port; options are more keywords of the driver's. Raises ValueError
    for a value that no connection string can hold: an empty one, or a NUL in it.
    """
    values = {"Server": server, "Database": database, "UID": user, "PWD": password}
    values |= {"Encrypt": "yes", **options}
    for key, value in values.items():
        if not value or "\0" in value:
            raise ValueError(f"{key} is empty, or holds a NUL")
    quoted = {key: value.replace("}", "}}") for key, value in values.items()}
    return ";".join(f"{key}={{{value}}}" for key, value in quoted.items())


# --8<-- [end:string]


# --8<-- [start:connect]
def connect(dsn: str, login_timeout: int = 5, query_timeout: int = 30) -> Connection:
    """Connect; `with` commits, or rolls back after an error, and closes.

    The timeouts are in whole seconds. Raises mssql_python.OperationalError when nobody
    answers in time, or the certificate is not that of the server.
    """
    conn = mssql_python.connect(dsn, timeout=login_timeout)
    conn.timeout = query_timeout  # for each statement; without it there is none
    return conn


# --8<-- [end:connect]

NO_SERVER = (
    "Set SQLSERVER_DSN, for example Server=127.0.0.1,11433;Database=master;UID=sa;"
    "PWD=Cook_Book1;Encrypt=yes;TrustServerCertificate=yes"
    " after `docker compose up -d --wait sqlserver`"
)


def main() -> None:
    dsn = os.environ.get("SQLSERVER_DSN") or sys.exit(NO_SERVER)
    with connect(dsn) as conn:
        [[encrypted]] = conn.execute(
            "SELECT encrypt_option FROM sys.dm_exec_connections"
            " WHERE session_id = @@SPID"
        ).fetchall()
        print("the line is encrypted:", encrypted)
    print(connection_string("db.example.com,1433", "shop", "shop", "p;Encrypt=no}"))


if __name__ == "__main__":
    main()
