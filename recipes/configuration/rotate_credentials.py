# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary,pool]>=3.3"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Change a password while the program runs.

The pool asks for the password each time it connects, so a new one needs no restart. The
order of the steps decides whether a request fails.
"""

import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


# --8<-- [start:pool]
def open_pool(
    address: str,
    read_password: Callable[[], str],
    *,
    wait: float = 10,
    max_lifetime: float = 600,
) -> ConnectionPool:
    """Open a pool that reads the password for every new connection. address has none.

    In seconds: how long a request waits while logins are refused, and the age at which
    a connection is replaced. Raises PoolTimeout if it cannot log in within wait.
    """
    pool = ConnectionPool(
        lambda: make_conninfo(address, password=read_password()),
        min_size=2,
        max_size=10,
        timeout=wait,
        max_lifetime=max_lifetime,
        check=ConnectionPool.check_connection,
        kwargs={"connect_timeout": 5, "options": "-c statement_timeout=30s"},
        open=False,
    )
    pool.open(wait=True, timeout=wait)  # closes itself if it fails
    return pool


# --8<-- [end:pool]


# --8<-- [start:rotate]
def rotate(admin: psycopg.Connection, role: str, file: Path) -> None:
    """Give the role a new password, which is in the file afterwards.

    admin is in autocommit. If this dies half-way, the new password is in file.new.
    Raises OperationalError (no such role, not allowed): then the old one is valid.
    """
    password = secrets.token_urlsafe(32)
    new = file.with_suffix(".new")
    write_private(new, password)  # first, or a crash could lose it
    # Sent as a hash: a statement with the password in it would be in the server's log.
    admin.pgconn.change_password(role.encode(), password.encode())
    new.replace(file)  # in one step: nobody reads half of it


def write_private(file: Path, text: str) -> None:
    file.unlink(missing_ok=True)
    file.touch(mode=0o600, exist_ok=False)
    file.write_text(text, "utf-8")


# --8<-- [end:rotate]


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    file = Path("password")
    with psycopg.connect(url, connect_timeout=5, autocommit=True) as admin:
        role = f"app_{admin.info.dbname}"
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        try:
            rotate(admin, role, file)
            address = make_conninfo(url, user=role, password=None)
            with open_pool(address, file.read_text) as pool:
                for _ in range(3):
                    rotate(admin, role, file)
                    pool.drain()  # or wait for max_lifetime
                    with pool.connection() as conn:
                        print("served:", *conn.execute("SELECT 6 * 7").fetchall()[0])
        finally:
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


if __name__ == "__main__":
    main()
