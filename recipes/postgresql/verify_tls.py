# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql_tls"]
# ///
"""Verify the server's certificate before the password leaves.

Encryption alone proves nothing about who is at the other end. Use this for every
connection that leaves the machine.
"""

import os
import sys
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

NO_SERVER = (
    "Set POSTGRESQL_TLS_URL, for example"
    " postgresql://cook:cook@localhost:15433/cookbook"
    "?sslmode=verify-full&sslrootcert=build/tls/ca.pem"
    " after `docker compose up -d --wait postgresql_tls`"
)


# --8<-- [start:connect]
def connect_verified(conninfo: str, ca_file: Path) -> psycopg.Connection:
    """Connect to a server that proves its host name by a certificate of ca_file.

    Raises OperationalError, before the password is sent, when the certificate has
    another signer or another name, or when the server has no TLS.
    """
    return psycopg.connect(
        conninfo,
        sslmode="verify-full",  # a keyword: it overrules a weaker one in conninfo
        sslrootcert=str(ca_file),
        connect_timeout=5,
    )


def is_encrypted(conn: psycopg.Connection) -> bool:
    """Ask the server, which knows what it did."""
    query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    row = conn.execute(query).fetchone()
    return bool(row and row[0])


# --8<-- [end:connect]


def main() -> None:
    url = os.environ.get("POSTGRESQL_TLS_URL") or sys.exit(NO_SERVER)
    ca_file = Path(str(conninfo_to_dict(url)["sslrootcert"]))
    with connect_verified(url, ca_file) as conn:
        print("encrypted:", is_encrypted(conn))
    try:
        connect_verified(make_conninfo(url, host="127.0.0.1"), ca_file)
    except psycopg.OperationalError as error:
        print("by another name:", str(error).rpartition("failed: ")[2])


if __name__ == "__main__":
    main()
