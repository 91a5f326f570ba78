# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "rich>=14"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Copy a table from PostgreSQL to PostgreSQL.

What one server sends for COPY, the other one reads: Python passes the bytes on, and
makes no values of them. Use it when both ends are PostgreSQL.
"""

import os
import sys
from collections.abc import Callable
from itertools import islice
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier
from rich.console import Console
from rich.progress import Progress

Connection = psycopg.Connection[tuple[Any, ...]]


# --8<-- [start:copy]
def copy_table(
    source: Connection,
    target: Connection,
    table: str,
    key: str,
    report: Callable[[int], object] = bool,
    size: int = 200_000,
) -> int:
    """Copy the rows after the greatest key of the target; return how many.

    Commits after each `size` rows, and tells `report` how many they were. A name may
    not have a schema. Raises ValueError if the columns differ, psycopg.Error if a row
    is refused: then its batch is not there, and the next call goes on with it.
    """
    if (own := columns(target, table)) != columns(source, table) or not own:
        raise ValueError(f"{table} is not the same at the target: {own}")
    parts = {
        "table": Identifier(table),
        "key": Identifier(key),
        "names": SQL(", ").join(Identifier(name) for name, _type in own),
    }
    greatest = SQL("SELECT max({key}) FROM {table}").format(**parts)
    into = SQL("COPY {table} ({names}) FROM STDIN (FORMAT binary)").format(**parts)
    copied = 0
    while True:
        ((last,),) = target.execute(greatest).fetchall()
        after = (
            SQL("true") if last is None else SQL("{} > {}").format(parts["key"], last)
        )
        out = SQL(
            "COPY (SELECT {names} FROM {table} WHERE {after} ORDER BY {key}"
            " LIMIT {size}) TO STDOUT (FORMAT binary)"
        ).format(after=after, size=size, **parts)
        with source.cursor().copy(out) as reader, target.cursor() as cursor:
            with cursor.copy(into) as writer:
                while block := b"".join(islice(reader, 500)):  # a row is too little
                    writer.write(block)
            target.commit()
            rows = cursor.rowcount
        if not rows:
            return copied
        copied += rows
        report(rows)


def columns(conn: Connection, table: str) -> list[tuple[Any, ...]]:
    """Names and types: in the binary format, they have to be the same."""
    return conn.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = to_regclass(quote_ident(%s)) AND attnum > 0"
        " AND NOT attisdropped AND attgenerated = '' ORDER BY attname",
        (table,),
    ).fetchall()


# --8<-- [end:copy]


# --8<-- [start:checksum]
def checksum(conn: Connection, table: str) -> tuple[int, int]:
    """The number of the rows, and a sum of their hashes, made by the server."""
    names = SQL(", ").join(Identifier(name) for name, _type in columns(conn, table))
    query = SQL(
        "SELECT count(*), coalesce(sum(('x' || left(md5(row({})::text), 16))::bit(64)"
        "::bigint), 0)::text FROM {}"
    )
    conn.execute("SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET bytea_output = hex")
    ((count, total),) = conn.execute(query.format(names, Identifier(table))).fetchall()
    return count, int(total)


# --8<-- [end:checksum]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    with psycopg.connect(url, connect_timeout=5) as conn:
        for schema in ("old", "new"):
            name = SQL("{}.item").format(Identifier(schema))
            conn.execute(SQL("CREATE SCHEMA {}").format(Identifier(schema)))
            conn.execute(SQL("CREATE TABLE {} (id bigint PRIMARY KEY)").format(name))
        conn.execute("INSERT INTO old.item SELECT generate_series(1, 500)")
    with (
        psycopg.connect(url, options="-c search_path=old", connect_timeout=5) as source,
        psycopg.connect(url, options="-c search_path=new", connect_timeout=5) as target,
        Progress(console=Console(stderr=True)) as bar,
    ):
        task = bar.add_task("item", total=checksum(source, "item")[0])
        copied = copy_table(
            source, target, "item", "id", lambda rows: bar.advance(task, rows)
        )
        print("copied:", copied)
        print("equal:", checksum(source, "item") == checksum(target, "item"))


if __name__ == "__main__":
    main()
