# /// script
# requires-python = ">=3.11"
# dependencies = ["asyncpg>=0.30"]
#
# [tool.cookbook]
# needs = ["postgresql_tls"]
# ///
"""Verify the server's certificate before the password leaves, with asyncpg.

The settings are those of Python's own ssl module, which checks signer and name.
"""

import asyncio
import os
import ssl
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg

NO_SERVER = (
    "Set POSTGRESQL_TLS_URL, for example"
    " postgresql://cook:cook@localhost:15433/cookbook"
    "?sslmode=verify-full&sslrootcert=build/tls/ca.pem"
    " after `docker compose up -d --wait postgresql_tls`"
)


# --8<-- [start:connect]
async def connect_verified(url: str, ca_file: Path) -> asyncpg.Connection:
    """Connect to a server that proves its host name by a certificate of ca_file.

    Raises ssl.SSLCertVerificationError, before the password is sent, when the
    certificate has another signer or another name; ConnectionError without TLS.
    """
    context = ssl.create_default_context(cafile=ca_file)
    return await asyncpg.connect(url, ssl=context, timeout=5, command_timeout=30)


async def is_encrypted(conn: asyncpg.Connection) -> bool:
    """Ask the server, which knows what it did."""
    query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    return bool(await conn.fetchval(query))


# --8<-- [end:connect]


async def run(url: str) -> None:
    parts = urlsplit(url)
    ca_file = Path(parse_qs(parts.query)["sslrootcert"][0])
    conn = await connect_verified(url, ca_file)
    try:
        print("encrypted:", await is_encrypted(conn))
    finally:
        await conn.close()
    try:
        await connect_verified(url.replace("@localhost", "@127.0.0.1"), ca_file)
    except ssl.SSLCertVerificationError as error:
        print("by another name:", error.verify_message.rstrip("."))


def main() -> None:
    url = os.environ.get("POSTGRESQL_TLS_URL") or sys.exit(NO_SERVER)
    asyncio.run(run(url))


if __name__ == "__main__":
    main()
