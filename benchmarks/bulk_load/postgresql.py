"""COPY from Python, from a file, and psql's own."""

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import sqlalchemy as sa

from benchmarks.bulk_load import Load, Target, write_csv
from benchmarks.common import drivers
from benchmarks.servers import place
from cookbook.engines import engine
from cookbook.engines.base import on_path
from recipes.postgresql import (
    load_csv,
    load_rows,
    load_rows_asyncpg,
    load_rows_sqlalchemy,
)

Rows = Sequence[Any]


@dataclass(frozen=True)
class Table:
    """Its columns with their types, the rows for it, and its primary key."""

    columns: dict[str, str]
    rows: Callable[[int], list[Any]]
    key: tuple[str, ...] = ()


def readings(count: int) -> list[Any]:
    """The rows of the recipes' own example."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        (f"sensor {n % 3}", start + timedelta(seconds=n), Decimal(n) / 100, None)
        for n in range(count)
    ]


def numbers(count: int) -> list[Any]:
    return [(n, f"sensor {n % 3}", n / 7, None) for n in range(count)]


READINGS = Table(
    {
        "sensor": "text",
        "taken_at": "timestamptz",
        "value": "numeric(8, 2)",
        "note": "text",
    },
    readings,
)
READINGS_WITH_KEY = replace(READINGS, key=("sensor", "taken_at"))
# Of types whose values psycopg converts in C.
NUMBERS = Table(
    {"id": "int8", "sensor": "text", "value": "float8", "note": "text"}, numbers
)


@contextmanager
def target(table: Table, size: int, folder: str) -> Iterator[Target]:
    """A server of our own, and the ways to load into it."""
    rows = table.rows(size)
    path = write_csv(Path(folder, "reading.csv"), list(table.columns), rows)
    with (
        place("durable_postgresql") as (server, url),
        psycopg.connect(url, autocommit=True) as conn,
    ):
        parts = [f"{name} {kind}" for name, kind in table.columns.items()]
        if table.key:
            parts.append(f"PRIMARY KEY ({', '.join(table.key)})")
        conn.execute(f"CREATE TABLE reading ({', '.join(parts)})")

        def empty() -> None:
            conn.execute("TRUNCATE reading")
            conn.execute("CHECKPOINT")  # now, and not while a load is timed

        def count() -> int:
            row = conn.execute("SELECT count(*) FROM reading").fetchone()
            assert row
            return int(row[0])

        yield Target(
            rows,
            loads(url, path, list(table.columns)),
            empty,
            count,
            {server.product: server.version, **drivers("psycopg", "asyncpg")},
        )


def loads(url: str, path: Path, columns: Sequence[str]) -> list[Load]:
    """The recipes, the tool where there is one, and the loop."""

    def text(rows: Rows) -> None:
        with psycopg.connect(url) as conn:
            load_rows.load_rows(conn, "reading", columns, rows)

    def binary(rows: Rows) -> None:
        with psycopg.connect(url) as conn:
            load_rows.load_rows_binary(conn, "reading", columns, rows)

    async def with_asyncpg(rows: Rows) -> None:
        conn = await asyncpg.connect(url)
        await load_rows_asyncpg.load_rows(conn, "reading", columns, rows)
        await conn.close()

    def with_sqlalchemy(rows: Rows) -> None:
        address = sa.make_url(url).set(drivername="postgresql+psycopg")
        pool = sa.create_engine(address)
        with pool.begin() as conn:
            load_rows_sqlalchemy.load_rows(conn, "reading", columns, rows)
        pool.dispose()

    def from_file(_: Rows) -> None:
        with psycopg.connect(url) as conn:
            load_csv.load_csv(conn, "reading", path)

    def commit_each(rows: Rows) -> None:
        with psycopg.connect(url) as conn:
            for row in rows:
                conn.execute("INSERT INTO reading VALUES (%s, %s, %s, %s)", row)
                conn.commit()

    found = [
        Load("load_csv, psycopg", "recipe", from_file),
        Load("load_rows, psycopg", "recipe", text),
        Load("load_rows_binary, psycopg", "recipe", binary),
        Load(
            "load_rows, asyncpg", "recipe", lambda rows: asyncio.run(with_asyncpg(rows))
        ),
        Load("load_rows, SQLAlchemy", "recipe", with_sqlalchemy),
        Load("INSERT and commit for each row, psycopg", "wrong", commit_each),
    ]
    if psql := client():
        found.append(Load(r"psql \copy", "tool", lambda _: copy(psql, url, path)))
    return found


def client() -> Path | None:
    """psql: the one that came with the server, or the one on the PATH."""
    server = engine("postgresql").embedded()
    beside = server.path.with_name("psql") if server else None
    if beside and beside.is_file():
        return beside
    found = on_path("psql")
    return found.path if found else None


def copy(psql: Path, url: str, path: Path) -> None:
    parts = psycopg.conninfo.conninfo_to_dict(url)
    names = {"host": "PGHOST", "port": "PGPORT", "dbname": "PGDATABASE"}
    names |= {"user": "PGUSER", "password": "PGPASSWORD"}
    address = {env: str(parts[name]) for name, env in names.items()}
    subprocess.run(
        [
            *(psql, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--command"),
            rf"\copy reading from '{path}' with (format csv, header)",
        ],
        env={**os.environ, **address},
        check=True,
        stdout=subprocess.DEVNULL,
    )
