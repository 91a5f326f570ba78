"""Microsoft SQL Server. A place is a database."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cookbook.engines.base import Engine, Server, Starter
from cookbook.paths import ROOT

if TYPE_CHECKING:  # drivers are imported late: not every extra is installed
    import mssql_python

FILES = ROOT / "build/sqlserver"  # the container sees this folder as /files
_PAIR = re.compile(r"\s*([^=;]+?)\s*=\s*(\{(?:[^}]|\}\})*\}|[^;]*)\s*(?:;|$)")


class SQLServer(Engine):
    name = "sqlserver"
    title = "Microsoft SQL Server"
    env = "SQLSERVER_DSN"
    example = (
        "Server=127.0.0.1,11433;Database=master;UID=sa;PWD=Cook_Book1;"
        "Encrypt=yes;TrustServerCertificate=yes"
    )
    port = 1433

    starter = Starter(
        body="""\
with mssql_python.connect(address, timeout=5) as conn:
    return int(conn.execute("SELECT 6 * 7").fetchval())""",
        driver="import mssql_python",
        dependency="mssql-python>=1.16",
    )

    def container_url(self, folder: Path, port: int) -> str:
        return self.example.replace(",11433;", f",{port};")

    def container_environment(self, folder: Path) -> dict[str, str]:
        FILES.mkdir(parents=True, exist_ok=True)
        return {"COOKBOOK_SQLSERVER_FILES": str(FILES)}

    def identify(self, url: str) -> tuple[str, str]:
        with _connect(url) as conn:
            [[said, version]] = conn.execute(
                "SELECT @@VERSION, CAST(SERVERPROPERTY('ProductVersion') AS sysname)"
            ).fetchall()
        product = re.match(r"Microsoft (?:Azure )?SQL (?:Server|Edge|Azure)", said)
        return (product[0] if product else said.partition(" - ")[0]), version

    def create_place(self, server: Server, name: str) -> str:
        with _connect(server.url) as conn:
            conn.execute(f"CREATE DATABASE [{name}]")
            conn.execute(f"ALTER DATABASE [{name}] SET RECOVERY SIMPLE")
        return with_database(server.url, name)

    def drop_place(self, server: Server, url: str) -> None:
        name = database_of(url)
        with _connect(server.url) as conn:
            [[number]] = conn.execute("SELECT DB_ID(?)", name).fetchall()
            if number is None:
                return
            # It ends the connections that a test left open, and their transactions.
            conn.execute(
                f"ALTER DATABASE [{name}] SET SINGLE_USER WITH ROLLBACK IMMEDIATE"
            )
            conn.execute(f"DROP DATABASE [{name}]")


def with_database(dsn: str, name: str) -> str:
    """The same connection string, another database."""
    kept = [
        f"{key}={value}"
        for key, value in _PAIR.findall(dsn)
        if key.lower() != "database"
    ]
    return ";".join([*kept, f"Database={name}"])


def database_of(dsn: str) -> str:
    """The database that a connection string of ours names."""
    pairs = {key.lower(): value for key, value in _PAIR.findall(dsn)}
    return str(pairs["database"])


@contextmanager
def _connect(url: str) -> "Iterator[mssql_python.Connection]":
    """A connection that commits each statement; a database cannot be made in a
    transaction."""
    import mssql_python

    conn = mssql_python.connect(url, autocommit=True, timeout=10)
    try:
        conn.timeout = 60
        yield conn
    finally:
        conn.close()
