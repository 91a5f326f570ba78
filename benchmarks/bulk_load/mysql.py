"""Inserts of many rows, LOAD DATA LOCAL from Python, and the client's own."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from benchmarks.bulk_load import Load, Target, write_csv
from benchmarks.common import drivers
from benchmarks.servers import place
from cookbook.engines.base import on_path
from recipes.mysql import (
    bulk_insert,
    bulk_insert_connector,
    load_data_local_infile,
    load_data_local_infile_connector,
    load_rows,
    load_rows_connector,
)

COLUMNS = ("id", "name", "value", "at")
Rows = Sequence[Any]


@contextmanager
def target(size: int, folder: str) -> Iterator[Target]:
    """A server of our own, and the ways to load into it."""
    rows = list(bulk_insert.sample(size))
    path = write_csv(Path(folder, "reading.csv"), COLUMNS, rows)
    with place("durable_mysql") as (server, url), bulk_insert.connect(url) as conn:
        cursor = conn.cursor()
        cursor.execute(bulk_insert.SCHEMA)

        def count() -> int:
            conn.commit()  # or it would see the table as it was
            cursor.execute("SELECT COUNT(*) FROM reading")
            return int(cursor.fetchall()[0][0])

        def empty() -> None:
            conn.commit()
            cursor.execute("TRUNCATE TABLE reading")

        stand_in = " (a stand-in for MySQL)" if server.stand_in_for else ""
        yield Target(
            rows,
            loads(url, path),
            empty,
            count,
            {
                server.product + stand_in: server.version,
                **drivers("PyMySQL", "mysql-connector-python"),
            },
        )


def loads(url: str, path: Path) -> list[Load]:
    """The recipes, the tool where there is one, and the loop."""
    folder = path.parent

    def insert(rows: Rows) -> None:
        with bulk_insert.connect(url) as conn:
            bulk_insert.insert_rows(conn, rows)

    def insert_connector(rows: Rows) -> None:
        with bulk_insert_connector.connect(url) as conn:
            bulk_insert_connector.insert_rows(conn, rows)

    def from_file(_: Rows) -> None:
        with load_data_local_infile.connect(url) as conn:
            load_data_local_infile.load_csv(conn, "reading", path)

    def from_file_connector(_: Rows) -> None:
        with load_data_local_infile_connector.connect(url, folder) as conn:
            load_data_local_infile_connector.load_csv(conn, "reading", path)

    def from_rows(rows: Rows) -> None:
        with load_rows.connect(url) as conn:
            load_rows.load_rows(conn, "reading", COLUMNS, rows)

    def from_rows_connector(rows: Rows) -> None:
        with load_rows_connector.connect(url) as conn:
            load_rows_connector.load_rows(conn, "reading", COLUMNS, rows)

    def commit_each(rows: Rows) -> None:
        with bulk_insert.connect(url) as conn, conn.cursor() as cursor:
            for row in rows:
                cursor.execute(bulk_insert.INSERT, row)
                conn.commit()

    found = [
        Load("load_csv, PyMySQL", "recipe", from_file),
        Load("load_csv, mysql-connector", "recipe", from_file_connector),
        Load("load_rows, PyMySQL", "recipe", from_rows),
        Load("load_rows, mysql-connector", "recipe", from_rows_connector),
        Load("insert_rows, PyMySQL", "recipe", insert),
        Load("insert_rows, mysql-connector", "recipe", insert_connector),
        Load("INSERT and commit for each row, PyMySQL", "wrong", commit_each),
    ]
    if client := on_path("mysql", "mariadb"):
        name = f"LOAD DATA LOCAL, {client.path.name} client"
        found.append(Load(name, "tool", lambda _: load(client.path, url, path)))
    return found


def load(client: Path, url: str, path: Path) -> None:
    parts = urlsplit(url)
    subprocess.run(
        [
            *(client, "--no-defaults", "--local-infile=1", "--protocol=tcp"),
            *(f"--host={parts.hostname}", f"--port={parts.port}"),
            *(f"--user={parts.username}", parts.path[1:], "--execute"),
            f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE reading CHARACTER SET utf8mb4"
            " FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' ESCAPED BY ''"
            f" IGNORE 1 LINES ({', '.join(COLUMNS)})",
        ],
        env={**os.environ, "MYSQL_PWD": unquote(parts.password or "")},
        check=True,
    )
