"""Oracle Database, in a container only. A place is a user, and so a schema."""

import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cookbook.engines.base import Engine, Server, Starter

if TYPE_CHECKING:  # drivers are imported late: not every extra is installed
    import oracledb

_IN_USE = "ORA-01940"  # a user who is still connected cannot be dropped
_GONE = ("ORA-00030", "ORA-00031", "ORA-00026")  # a session that ends or has ended


class Oracle(Engine):
    name = "oracle"
    title = "Oracle Database"
    env = "ORACLE_DSN"
    example = "cook/cook@127.0.0.1:11521/FREEPDB1"
    port = 1521

    starter = Starter(
        body="""\
with oracledb.connect(address, tcp_connect_timeout=5) as conn, conn.cursor() as cursor:
    cursor.execute("SELECT 6 * 7 FROM dual")
    (answer,) = cursor.fetchone()
return int(answer)""",
        driver="import oracledb",
        dependency="oracledb>=3.4",
    )

    def container_url(self, folder: Path, port: int) -> str:
        return f"system/cook_system@127.0.0.1:{port}/FREEPDB1"

    def identify(self, url: str) -> tuple[str, str]:
        with _connect(url) as conn:
            return "Oracle Database", conn.version

    def create_place(self, server: Server, name: str) -> str:
        password = f"Cook_{secrets.token_hex(8)}"  # of what a password policy may ask
        with _connect(server.url) as conn, conn.cursor() as cursor:
            cursor.execute(
                f'CREATE USER {name} IDENTIFIED BY "{password}"'
                " DEFAULT TABLESPACE users QUOTA UNLIMITED ON users"
            )
            roles = ["CONNECT", "RESOURCE", "CREATE VIEW"]
            if int(conn.version.partition(".")[0]) >= 23:
                roles = ["DB_DEVELOPER_ROLE"]
            # The catalog role: DBMS_XPLAN and tests that look at waiting sessions.
            cursor.execute(f"GRANT {', '.join(roles)}, SELECT_CATALOG_ROLE TO {name}")
        return f"{name}/{password}@{server.url.rpartition('@')[2]}"

    def drop_place(self, server: Server, url: str) -> None:
        import oracledb

        name = url.partition("/")[0]
        with _connect(server.url) as conn, conn.cursor() as cursor:
            give_up = time.monotonic() + 30
            while True:
                _end_sessions(cursor, name)
                try:
                    cursor.execute(f"DROP USER {name} CASCADE")
                except oracledb.DatabaseError as error:
                    if _IN_USE not in str(error) or time.monotonic() > give_up:
                        raise
                    time.sleep(0.1)  # a killed session needs a moment to go
                else:
                    return


def _end_sessions(cursor: "oracledb.Cursor", name: str) -> None:
    import oracledb

    query = "SELECT sid, serial# FROM v$session WHERE username = UPPER(:name)"
    cursor.execute(query, name=name)
    for sid, serial in cursor.fetchall():
        try:
            cursor.execute(f"ALTER SYSTEM KILL SESSION '{sid},{serial}' IMMEDIATE")
        except oracledb.DatabaseError as error:
            if not any(code in str(error) for code in _GONE):
                raise


def _connect(url: str) -> "oracledb.Connection":
    import oracledb

    # A small server refuses connections while it is busy with others.
    conn = oracledb.connect(url, tcp_connect_timeout=5, retry_count=5, retry_delay=2)
    conn.call_timeout = 60_000
    return conn
