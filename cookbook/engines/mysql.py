"""MySQL, or MariaDB as its stand-in. A place is a database."""

import atexit
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from cookbook.engines import process
from cookbook.engines.base import Engine, Program, Server, Starter, on_path, with_path

if TYPE_CHECKING:  # drivers are imported late: not every extra is installed
    from pymysql.connections import Connection
    from pymysql.cursors import Cursor

_OPTIONS = [
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--character-set-server=utf8mb4",
    "--max-connections=200",
    # What the recipes for LOAD DATA LOCAL and for change data capture need.
    "--local-infile=1",
    "--server-id=1",
    "--log-bin=binlog",
    "--binlog-format=ROW",
    "--binlog-row-metadata=FULL",
    # The data is thrown away.
    "--innodb-flush-log-at-trx-commit=0",
    "--sync-binlog=0",
    "--innodb-doublewrite=0",
]


class MySQL(Engine):
    name = "mysql"
    title = "MySQL"
    env = "MYSQL_URL"
    example = "mysql://cook:cook@127.0.0.1:13306/cookbook"
    port = 3306
    dialect = "mysql+pymysql"
    install = "apt-get install mysql-server or mariadb-server"

    starter = Starter(
        body="""\
parts = urlsplit(address)
conn = pymysql.connect(
    host=parts.hostname,
    port=parts.port or 3306,
    user=unquote(parts.username or ""),
    password=unquote(parts.password or ""),
    database=parts.path[1:],
    connect_timeout=5,
)
with conn, conn.cursor() as cursor:
    cursor.execute("SELECT 6 * 7")
    row = cursor.fetchone()
assert row
return int(row[0])""",
        driver="import pymysql",
        dependency="pymysql[rsa]>=1.2",
        standard=("from urllib.parse import unquote, urlsplit",),
    )

    def native(self) -> Program | None:
        return on_path("mysqld", "mariadbd")

    def prepare(self, program: Program, folder: Path, password: str) -> None:
        data = f"--datadir={folder / 'data'}"
        if program.path.name == "mariadbd":
            install = on_path("mariadb-install-db")
            if not install:
                raise FileNotFoundError("mariadb-install-db is not on the PATH")
            command = [str(install.path), "--no-defaults", data, "--skip-test-db"]
            command += ["--auth-root-authentication-method=normal"]
        else:
            command = [
                str(program.path),
                "--no-defaults",
                "--initialize-insecure",
                data,
            ]
        process.run_as_server_user(command, folder)
        users = [  # --init-file wants one statement a line
            f"CREATE USER IF NOT EXISTS cook@'%' IDENTIFIED BY '{password}';",
            "GRANT ALL PRIVILEGES ON *.* TO cook@'%' WITH GRANT OPTION;",
            f"ALTER USER root@localhost IDENTIFIED BY '{password}';",
        ]
        process.secret_file(folder / "users.sql", "\n".join(users))

    def command(self, program: Program, folder: Path, port: int) -> list[str]:
        options = [
            f"--datadir={folder / 'data'}",
            f"--socket={folder / 'data' / 'socket'}",
            f"--pid-file={folder / 'data' / 'pid'}",
            f"--init-file={folder / 'users.sql'}",
            f"--port={port}",
        ]
        if program.path.name == "mysqld":
            options += ["--mysqlx=OFF", "--secure-file-priv="]
        return [str(program.path), "--no-defaults", *options, *_OPTIONS]

    def url(self, folder: Path, port: int, password: str) -> str:
        return f"mysql://cook:{password}@127.0.0.1:{port}/mysql"

    def container_url(self, folder: Path, port: int) -> str:
        return f"mysql://root:cook@127.0.0.1:{port}/mysql"

    def identify(self, url: str) -> tuple[str, str]:
        with _connect(url) as conn, conn.cursor() as cursor:
            cursor.execute("SELECT VERSION()")
            (version,) = cursor.fetchone()  # type: ignore[misc]
        product = "MariaDB" if "MariaDB" in version else "MySQL"
        return product, version.partition("-")[0]

    def create_place(self, server: Server, name: str) -> str:
        with _admin(server.url).cursor() as cursor:
            cursor.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        return with_path(server.url, name)

    def drop_place(self, server: Server, url: str) -> None:
        import pymysql

        name = urlsplit(url).path[1:]
        with _admin(server.url).cursor() as cursor:
            # DROP would wait for the locks of a connection that a test left open.
            cursor.execute(
                "SELECT id FROM information_schema.processlist WHERE db = %s", (name,)
            )
            for (number,) in cursor.fetchall():
                try:
                    cursor.execute(f"KILL {number:d}")
                except pymysql.err.OperationalError as error:
                    if error.args[0] != 1094:  # it has ended by itself
                        raise
            cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")


_admins: "dict[tuple[str, int], Connection[Cursor]]" = {}


def _admin(url: str) -> "Connection[Cursor]":
    """The connection for places that this thread keeps: to connect takes longer."""
    key = (url, threading.get_ident())
    if not (conn := _admins.get(key)) or not conn.open:
        conn = _admins[key] = _connect(url)
        atexit.register(_close, conn)
    return conn


def _close(conn: "Connection[Cursor]") -> None:
    if conn.open:
        conn.close()


def _connect(url: str) -> "Connection[Cursor]":
    import pymysql

    parts = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=unquote(parts.path[1:]) or None,
        connect_timeout=5,
        read_timeout=30,
        autocommit=True,
    )
