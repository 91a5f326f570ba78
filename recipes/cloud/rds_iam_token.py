# /// script
# requires-python = ">=3.11"
# dependencies = ["boto3>=1.40", "psycopg[binary,pool]>=3.3", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["postgresql_tls"]
# ///
"""Log in to Amazon RDS with an IAM token.

The password is a signature that is good for 15 minutes. A pool lives longer, so it asks
for a new one for every connection that it makes, and for no other.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

import boto3
import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier
from psycopg_pool import ConnectionPool
from sqlalchemy import Engine, create_engine, event, text

Login = Callable[[], dict[str, Any]]


# --8<-- [start:login]
def make_login(
    rds: Any, host: str, port: int, user: str, dbname: str, ca_file: str
) -> Login:
    """A function that gives psycopg.connect() its arguments, with a new token.

    host is the instance's own endpoint: the token is signed for it, and the certificate
    names it. ca_file has the authorities of RDS. It raises NoCredentialsError.
    """

    def login() -> dict[str, Any]:
        token = rds.generate_db_auth_token(  # signed here: no request is sent
            DBHostname=host, Port=port, DBUsername=user
        )
        return {
            "host": host,
            "port": port,
            "user": user,
            "dbname": dbname,
            "password": token,
            "sslmode": "verify-full",  # the token goes over the line as it is
            "sslrootcert": ca_file,
            "connect_timeout": 5,
            "options": "-c statement_timeout=30s",
        }

    return login


# --8<-- [end:login]


# --8<-- [start:pool]
def open_pool(login: Login, size: int = 10, wait: float = 10) -> ConnectionPool:
    """A pool of psycopg's. wait: for a connection, in seconds; then PoolTimeout."""
    pool = ConnectionPool(
        kwargs=login,  # the function: it is called for each new connection
        min_size=1,
        max_size=size,
        timeout=wait,
        check=ConnectionPool.check_connection,
        open=False,
    )
    pool.open(wait=True, timeout=wait)  # closes itself if it fails
    return pool


# --8<-- [end:pool]


# --8<-- [start:engine]
def make_engine(login: Login) -> Engine:
    """An engine of SQLAlchemy's. Its URL, which logs may show, has no token."""
    engine = create_engine("postgresql+psycopg://", pool_pre_ping=True)

    @event.listens_for(engine, "do_connect")
    def give_token(_dialect: Any, _record: Any, _args: Any, named: Any) -> None:
        named.update(login())

    return engine


# --8<-- [end:engine]

NO_SERVER = (
    "Set POSTGRESQL_TLS_URL, for example"
    " postgresql://cook:cook@localhost:15433/cookbook"
    "?sslmode=verify-full&sslrootcert=build/tls/ca.pem"
    " after `docker compose up -d --wait postgresql_tls`"
)


def main() -> None:
    url = os.environ.get("POSTGRESQL_TLS_URL") or sys.exit(NO_SERVER)
    at = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    keys: Any = {"aws_access_key_id": "example", "aws_secret_access_key": "example"}
    rds = boto3.client("rds", region_name="eu-central-1", **keys)
    with psycopg.connect(url, connect_timeout=5, autocommit=True) as admin:
        role = f"app_{at['dbname']}"
        admin.execute(SQL("CREATE ROLE {} LOGIN").format(Identifier(role)))
        to = (at["host"], int(at["port"]), role, at["dbname"], at["sslrootcert"])
        sign = make_login(rds, *to)
        made = []

        def login() -> dict[str, Any]:
            # RDS checks the signature. This server takes it for a password.
            made.append(sign())
            token = made[-1]["password"].encode()
            admin.pgconn.change_password(role.encode(), token)
            return made[-1]

        try:
            with open_pool(login) as pool:
                for _ in range(5):
                    with pool.connection() as conn:
                        conn.execute("SELECT 1")
            print("psycopg_pool: borrowed 5 times, tokens made:", len(made))
            engine = make_engine(login)
            for _ in range(5):
                with engine.connect() as connection:
                    connection.execute(text("SELECT 1"))
            engine.dispose()
            print("SQLAlchemy: borrowed 5 times, tokens made in all:", len(made))
        finally:
            admin.execute(SQL("DROP ROLE {}").format(Identifier(role)))


if __name__ == "__main__":
    main()
