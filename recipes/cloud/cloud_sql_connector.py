# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "aiohttp>=3.11",
#     "cloud-sql-python-connector[pg8000]>=1.18",
#     "pg8000>=1.31",
#     "sqlalchemy>=2.1",
# ]
# [tool.cookbook]
# needs = ["cloud_sql"]
# ///
"""Connect to Google Cloud SQL without a password.

The connector gets a certificate for an hour, and logs in as a service account. Use it
where a program runs at Google, or has a service account: there is no password to store
or to rotate, and no network to open.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pg8000.dbapi
from aiohttp import ClientResponseError
from google.cloud.sql.connector import Connector
from sqlalchemy import Engine, create_engine, text

NO_SERVER = (
    "Set CLOUD_SQL_INSTANCE, CLOUD_SQL_USER and CLOUD_SQL_DATABASE,"
    " for example by `cookbook run` with the cookbook's stand-in"
)


# --8<-- [start:pool]
@contextmanager
def open_pool(
    instance: str,
    user: str,
    database: str,
    password: str | None = None,
    size: int = 5,
    api: str | None = None,
) -> Iterator[Engine]:
    """A pool of at most size connections: open one in each process, for its whole life.

    instance: PROJECT:REGION:NAME. user: without a password, the e-mail address of the
    service account. api: of a stand-in. To connect raises ConnectionError (refused by
    the API), ValueError (another region), sqlalchemy.exc.DBAPIError (login refused).
    """
    with Connector(
        # In the background it would renew while a serverless program is frozen.
        refresh_strategy="lazy",
        enable_iam_auth=password is None,
        sqladmin_api_endpoint=api,
    ) as connector:

        def connect() -> pg8000.dbapi.Connection:
            try:
                return connector.connect(
                    instance,
                    "pg8000",
                    user=user,
                    password=password,
                    db=database,
                    startup_params={"statement_timeout": "5s"},
                )
            except ClientResponseError as error:  # its repr has the access token in it
                said = f"{instance}: {error.status} {error.message}"
                raise ConnectionError(said) from None

        engine = create_engine(
            "postgresql+pg8000://",
            creator=connect,
            pool_size=size,
            max_overflow=0,
            pool_timeout=10,
            pool_pre_ping=True,
        )
        try:
            yield engine
        finally:
            engine.dispose()  # the connector closes itself, and not its connections


# --8<-- [end:pool]


# --8<-- [start:use]
def who_am_i(engine: Engine) -> str:
    """The user that the database sees."""
    with engine.connect() as conn:
        return str(conn.scalar(text("SELECT current_user")))


# --8<-- [end:use]


def main() -> None:
    instance = os.environ.get("CLOUD_SQL_INSTANCE") or sys.exit(NO_SERVER)
    user = os.environ.get("CLOUD_SQL_USER") or sys.exit(NO_SERVER)
    database = os.environ.get("CLOUD_SQL_DATABASE") or sys.exit(NO_SERVER)
    api = os.environ.get("CLOUD_SQL_API")
    with open_pool(instance, user, database, api=api) as engine:
        print("logged in as", who_am_i(engine))
        print("once more, on the same connection:", who_am_i(engine))
    with open_pool(instance.replace(":", ":no-", 1), user, database, api=api) as engine:
        try:
            who_am_i(engine)
        except ValueError as error:
            print("another region:", str(error).partition(": ")[2])


if __name__ == "__main__":
    main()
