# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "pymysql[rsa]>=1.2", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Build a database URL from its parts.

A password with `@`, `/` or `%` in an f-string becomes another host or another password.
Build the URL from its parts, and name the driver: what SQLAlchemy takes without a name
has changed.
"""

import os
import sys
from pathlib import Path

from sqlalchemy import URL, create_engine, make_url, text

# --8<-- [start:build]
DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",  # what hosting platforms write
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}


def build_url(
    kind: str,
    *,
    host: str,
    database: str,
    user: str,
    password: str,
    port: int | None = None,
) -> URL:
    """The URL of a database on a server; without a port, the driver takes its own.

    Raises ValueError where the kind is unknown or a part is empty.
    """
    if kind not in DRIVERS:
        raise ValueError(f"{kind!r} is none of {', '.join(DRIVERS)}")
    parts = {"host": host, "database": database, "user": user, "password": password}
    if empty := [name for name, value in parts.items() if not value]:
        raise ValueError(f"empty: {', '.join(empty)}")
    return URL.create(DRIVERS[kind], user, password, host, port, database)


def file_url(path: Path) -> URL:
    """The URL of a SQLite file, whatever signs its name holds."""
    return URL.create("sqlite", database=str(path))


# --8<-- [end:build]


# --8<-- [start:read]
def name_driver(address: str) -> URL:
    """Read an address from the environment; add the driver where it names none.

    Raises ArgumentError where it is no URL; the message does not repeat it.
    """
    url = make_url(address)
    return url.set(drivername=DRIVERS.get(url.drivername, url.drivername))


# --8<-- [end:read]

NO_SERVER = (
    "Set DATABASE_URL, for example"
    " postgresql+psycopg://cook:cook@127.0.0.1:15432/cookbook or"
    " sqlite:///app.db"
)


def main() -> None:
    address = os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER)
    url = build_url(
        "postgresql",
        host="db.example.com",
        database="shop",
        user="app",
        password="p@ss/w#rd",  # noqa: S106
    )
    print("to look at:", url)
    print("to pass on:", url.render_as_string(hide_password=False))
    print("of a file: ", file_url(Path("what?.db")))
    engine = create_engine(name_driver(address))
    with engine.connect() as conn:
        print("the answer:", conn.execute(text("SELECT 6 * 7")).scalar_one())
    engine.dispose()


if __name__ == "__main__":
    main()
