"""IBM Db2. A place is a schema; an address here is a URL, a recipe gets DB2_DSN."""

import contextlib
import os
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from cookbook.engines.base import Engine, Server, Starter
from cookbook.errors import UnavailableError

if TYPE_CHECKING:  # drivers are imported late: not every extra is installed
    import ibm_db_dbi

# What is in a schema, and in which order it goes: a view before what it shows.
_DROP = {
    "VIEW": "SELECT TABNAME FROM SYSCAT.TABLES WHERE TABSCHEMA = ? AND TYPE = 'V'",
    "ALIAS": "SELECT TABNAME FROM SYSCAT.TABLES WHERE TABSCHEMA = ? AND TYPE = 'A'",
    "TABLE": "SELECT TABNAME FROM SYSCAT.TABLES WHERE TABSCHEMA = ? AND TYPE = 'T'",
    "SEQUENCE": "SELECT SEQNAME FROM SYSCAT.SEQUENCES"
    " WHERE SEQSCHEMA = ? AND SEQTYPE = 'S'",
}


class Db2(Engine):
    name = "db2"
    title = "IBM Db2"
    env = "DB2_DSN"
    example = "db2://db2inst1:cook@127.0.0.1:15000/COOKBOOK"
    port = 50000

    starter = Starter(
        body="""\
with closing(ibm_db_dbi.connect(f"{address};CONNECTTIMEOUT=5", "", "")) as conn:
    cursor = conn.cursor()
    cursor.execute("VALUES 6 * 7")
    row = cursor.fetchone()
assert row
return int(row[0])""",
        driver="import ibm_db_dbi",
        dependency="ibm-db>=3.3",
        standard=("from contextlib import closing",),
    )

    @property
    def no_server(self) -> str:
        example = self.variables(self.example)[self.env]
        return super().no_server.replace(self.example, example)

    def variables(self, address: str) -> dict[str, str]:
        return {self.env: to_dsn(address)}

    def external(self) -> str | None:
        dsn = os.environ.get(self.env)
        return to_url(dsn) if dsn else None

    def url(self, folder: object, port: int, password: str) -> str:
        return f"db2://db2inst1:{quote(password, safe='')}@127.0.0.1:{port}/COOKBOOK"

    def identify(self, url: str) -> tuple[str, str]:
        with contextlib.closing(_connect(url)) as conn:
            [[level]] = _rows(conn, "SELECT SERVICE_LEVEL FROM SYSIBMADM.ENV_INST_INFO")
        product, _, version = str(level).partition(" v")  # "DB2 v12.1.4.0"
        return self.title if product == "DB2" else product, version

    def create_place(self, server: Server, name: str) -> str:
        schema = name.upper()  # so that nobody has to quote it
        with contextlib.closing(_connect(server.url)) as conn:
            _run(conn, f"CREATE SCHEMA {schema}")
        # The program's name tells the connections of this place from all others.
        keywords = urlencode({"CURRENTSCHEMA": schema, "PROGRAMNAME": schema})
        return urlunsplit(urlsplit(server.url)._replace(query=keywords))

    def drop_place(self, server: Server, url: str) -> None:
        schema = dict(parse_qsl(urlsplit(url).query))["CURRENTSCHEMA"]
        with contextlib.closing(_connect(server.url)) as conn:
            _end_connections(conn, schema)
            _run(conn, "SET CURRENT LOCK TIMEOUT 10")
            for kind, query in _DROP.items():
                for (name,) in _rows(conn, query, schema):
                    with contextlib.suppress(_not_there()):  # it went with another one
                        _run(conn, f'DROP {kind} {schema}."{name}"')
            _run(conn, f"DROP SCHEMA {schema} RESTRICT")


def to_dsn(url: str) -> str:
    """db2://user:password@host:port/DATABASE?KEYWORD=value as a connection string."""
    parts = urlsplit(url)
    keywords = {
        "DATABASE": unquote(parts.path[1:]),
        "HOSTNAME": parts.hostname or "127.0.0.1",
        "PORT": str(parts.port or 50000),
        "PROTOCOL": "TCPIP",
        "UID": unquote(parts.username or ""),
        "PWD": unquote(parts.password or ""),
        **dict(parse_qsl(parts.query)),
    }
    return "".join(f"{keyword}={value};" for keyword, value in keywords.items())


def to_url(dsn: str) -> str:
    """Back again. Raises UnavailableError where the string names no host."""
    pairs = [part.partition("=") for part in dsn.split(";") if part.strip()]
    # Of a keyword that comes twice the driver takes the first.
    known = {key.strip().upper(): value.lstrip() for key, _, value in reversed(pairs)}
    if not known.get("HOSTNAME") or not known.get("DATABASE"):
        raise UnavailableError(
            "DB2_DSN is set, but has no DATABASE or no HOSTNAME:"
            " DATABASE=COOKBOOK;HOSTNAME=127.0.0.1;PORT=15000;UID=...;PWD=..."
        )
    who = ":".join(quote(known.pop(key, ""), safe="") for key in ("UID", "PWD"))
    where = f"{known.pop('HOSTNAME')}:{known.pop('PORT', '50000')}"
    path = quote(known.pop("DATABASE"))
    known.pop("PROTOCOL", None)
    return urlunsplit(("db2", f"{who}@{where}", path, urlencode(known), ""))


def _connect(url: str) -> "ibm_db_dbi.Connection":
    import ibm_db
    import ibm_db_dbi

    options = {ibm_db.SQL_ATTR_AUTOCOMMIT: ibm_db.SQL_AUTOCOMMIT_ON}
    return ibm_db_dbi.connect(
        f"CONNECTTIMEOUT=5;{to_dsn(url)}", "", "", conn_options=options
    )


def _run(conn: "ibm_db_dbi.Connection", statement: str) -> None:
    with contextlib.closing(conn.cursor()) as cursor:
        cursor.execute(statement)


def _rows(
    conn: "ibm_db_dbi.Connection", query: str, *values: str
) -> list[tuple[object, ...]]:
    with contextlib.closing(conn.cursor()) as cursor:
        cursor.execute(query, values)
        return list(cursor.fetchall())


def _end_connections(conn: "ibm_db_dbi.Connection", program: str) -> None:
    """End what a test left open. The server does so in its own time: wait for it."""
    query = (
        "SELECT APPLICATION_HANDLE FROM TABLE(MON_GET_CONNECTION(NULL, -1))"
        " WHERE APPLICATION_NAME = ?"
    )
    deadline = time.monotonic() + 10
    while handles := [row[0] for row in _rows(conn, query, program)]:
        if time.monotonic() > deadline:
            raise UnavailableError(f"connections to {program} would not end")
        listed = ", ".join(map(str, handles))
        _run(conn, f"CALL SYSPROC.ADMIN_CMD('FORCE APPLICATION ({listed})')")
        time.sleep(0.05)


def _not_there() -> type[Exception]:
    """SQLSTATE 42704, as the driver raises it."""
    import ibm_db_dbi

    error: type[Exception] = ibm_db_dbi.ProgrammingError
    return error
