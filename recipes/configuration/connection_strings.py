# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql", "mysql", "redis"]
# ///
"""Write connection strings for every engine.

A password with `@`, `/`, `;` or `'` becomes another host or another option where it is
not quoted, and each driver has its own way to quote. Build the string from its parts.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

import psycopg


# --8<-- [start:forms]
@dataclass(frozen=True)
class Target:
    """What a string is built from; database is the service, for Oracle."""

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)


def url(target: Target, scheme: str, more: str = "") -> str:
    """A URL: everything that is not a letter or a digit is percent-encoded."""
    user, password, database = (
        quote(part, safe="") for part in (target.user, target.password, target.database)
    )
    host = f"{target.host}:{target.port}"
    return f"{scheme}://{user}:{password}@{host}/{database}{more}"


def libpq(target: Target) -> str:
    """KEYWORD='value', with a backslash before ' and before itself."""
    quoted = {
        key: str(value).replace("\\", "\\\\").replace("'", "\\'")
        for key, value in vars(target).items()
    }
    quoted["dbname"] = quoted.pop("database")
    return " ".join(f"{key}='{value}'" for key, value in quoted.items())


def odbc(target: Target) -> str:
    """KEYWORD={value}, with every } twice."""
    values = {
        "Server": f"tcp:{target.host},{target.port}",
        "Database": target.database,
        "UID": target.user,
        "PWD": target.password,
    }
    quoted = {key: value.replace("}", "}}") for key, value in values.items()}
    return (
        "".join(f"{key}={{{value}}};" for key, value in quoted.items()) + "Encrypt=yes"
    )


def db2(target: Target) -> str:
    """KEYWORD=value, as it is. Raises ValueError for what the driver would cut."""
    for value in (target.database, target.user, target.password):
        if ";" in value or value != value.strip():
            raise ValueError("Db2 takes no ; and no blank at an end: pass no string")
    return (
        f"DATABASE={target.database};HOSTNAME={target.host};PORT={target.port};"
        f"PROTOCOL=TCPIP;UID={target.user};PWD={target.password};"
    )


def pymysql(target: Target, scheme: str) -> str:
    """A URL. Raises ValueError for a password that PyMySQL would send in Latin-1."""
    if not target.password.isascii():
        raise ValueError("not ASCII: pass the password as bytes, in connect_args")
    return url(target, f"{scheme}+pymysql", "?charset=utf8mb4")


FORMS: dict[tuple[str, str], Callable[[Target], str]] = {
    ("PostgreSQL", "psycopg, a URL"): lambda it: url(it, "postgresql"),
    ("PostgreSQL", "psycopg, keywords"): libpq,
    ("PostgreSQL", "asyncpg"): lambda it: url(it, "postgresql"),
    ("PostgreSQL", "SQLAlchemy"): lambda it: url(it, "postgresql+psycopg"),
    ("MySQL", "SQLAlchemy"): lambda it: pymysql(it, "mysql"),
    ("MariaDB", "SQLAlchemy"): lambda it: pymysql(it, "mariadb"),
    ("Oracle", "oracledb"): lambda it: (
        f"{it.user}/{it.password}@{it.host}:{it.port}/{it.database}"
    ),
    ("SQL Server", "mssql-python"): odbc,
    ("SQL Server", "pyodbc"): lambda it: (
        f"Driver={{ODBC Driver 18 for SQL Server}};{odbc(it)}"
    ),
    ("Db2", "ibm_db"): db2,
    ("MongoDB", "pymongo"): lambda it: url(it, "mongodb", "?authSource=admin"),
    ("Redis", "redis-py"): lambda it: url(it, "redis"),
}
# --8<-- [end:forms]

PORTS = {
    **{"PostgreSQL": 5432, "MySQL": 3306, "MariaDB": 3306, "Oracle": 1521},
    **{"SQL Server": 1433, "Db2": 50000, "MongoDB": 27017, "Redis": 6379},
}
NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def main() -> None:
    given = urlsplit(os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER))
    parts = (given.hostname or "", given.port or 5432, given.path[1:])
    own = Target(*parts, unquote(given.username or ""), unquote(given.password or ""))
    for form in (libpq(own), url(own, "postgresql")):
        psycopg.connect(form, connect_timeout=5).close()
    print("| Engine: driver | String |\n|---|---|")
    for (engine, driver), build in FORMS.items():
        place = PORTS[engine], "0" if engine == "Redis" else "shop"
        example = Target("db.example.com", *place, "app", "p@ss/w:rd #1%}'")
        print(f"| {engine}: {driver} | `{build(example)}` |")


if __name__ == "__main__":
    main()
