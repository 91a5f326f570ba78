# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Read every change of a table from PostgreSQL's log, in the order of the commits.

A query for new rows misses deletes, and rows that commit late; the log has them all.
Use it for a cache, a search index or a copy. The server needs wal_level = logical.
"""

import os
import struct
import sys
from collections.abc import Iterator
from io import BytesIO
from typing import Any, NamedTuple

import psycopg

# --8<-- [start:read]
Row = dict[str, str | None]  # values are PostgreSQL's text, None for NULL


class Change(NamedTuple):
    table: str
    kind: str  # insert, update, delete or truncate
    row: Row  # the new one; of a delete, the key
    old: Row  # what the log has of the old one: its key, if that has changed


def create_slot(conn: psycopg.Connection, slot: str, temporary: bool = False) -> None:
    """From now on the server keeps its log until the slot is advanced, or dropped."""
    create = "SELECT pg_create_logical_replication_slot(%s, 'pgoutput', %s)"
    conn.execute(create, (slot, temporary))


def read(
    conn: psycopg.Connection, slot: str, publication: str, limit: int = 1000
) -> list[tuple[str, list[Change]]]:
    """What was committed since advance(), until `limit` changes are full.

    A pair for each transaction: where it ends in the log, and its changes.
    """
    found = conn.execute(
        "SELECT data FROM pg_logical_slot_peek_binary_changes(%s, NULL, %s,"
        " 'proto_version', '1', 'publication_names', %s)",
        (slot, limit, publication),
    )
    return list(decode(data for (data,) in found))


def advance(conn: psycopg.Connection, slot: str, end: str) -> None:
    """The transaction that ends there, and all before it, never come again."""
    conn.execute("SELECT pg_replication_slot_advance(%s, %s)", (slot, end))


# --8<-- [end:read]


# --8<-- [start:decode]
def decode(messages: Iterator[bytes]) -> Iterator[tuple[str, list[Change]]]:
    """Decode pgoutput 1: the manual's "Logical Replication Message Formats"."""
    tables: dict[int, tuple[str, list[Any]]] = {}
    changes: list[Change] = []
    words = {b"I": "insert", b"U": "update", b"D": "delete"}
    for data in map(BytesIO, messages):
        match data.read(1):
            case b"R":  # a table, before its first change
                (number,) = take(data, ">I")
                name = f"{text(data)}.{text(data)}"
                _, n = take(data, ">BH")  # columns: in the key?, the name, the type
                columns = [
                    (*take(data, "?"), text(data), data.read(8)) for _ in range(n)
                ]
                tables[number] = name, columns
            case b"I" | b"U" | b"D" as kind:
                name, columns = tables[take(data, ">I")[0]]
                rows = {}
                while which := data.read(1):  # K or O is the old row, N the new one
                    rows[which] = row(data, columns, which == b"K")
                old = rows.get(b"K") or rows.get(b"O") or {}
                changes.append(Change(name, words[kind], rows.get(b"N", old), old))
            case b"T":
                count, _ = take(data, ">IB")
                names = [tables[number][0] for number in take(data, f">{count}I")]
                changes += [Change(name, "truncate", {}, {}) for name in names]
            case b"C":  # commit
                _, _, *end = take(data, ">BQII")
                yield "{:X}/{:X}".format(*end), changes
                changes = []


def take(data: BytesIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, data.read(struct.calcsize(form)))


def text(data: BytesIO) -> str:
    return b"".join(iter(lambda: data.read(1), b"\0")).decode()


def row(data: BytesIO, columns: list[Any], key_only: bool) -> Row:
    found: Row = {}
    for is_key, name, _ in columns[: take(data, ">H")[0]]:
        kind = data.read(1)
        if kind == b"t":
            found[name] = data.read(take(data, ">I")[0]).decode()
        elif kind == b"n" and (is_key or not key_only):
            found[name] = None
        # u: a large value that did not change is not in the log
    return found


# --8<-- [end:decode]


NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    flushed = "-c synchronous_commit=on"  # what is not on the disk yet is not read
    with psycopg.connect(url, autocommit=True, options=flushed) as conn:
        conn.execute("CREATE TABLE stock (item text PRIMARY KEY, count int)")
        conn.execute("CREATE PUBLICATION stock_changes FOR TABLE stock")
        create_slot(conn, "cookbook_stock", temporary=True)  # until conn is closed
        conn.execute("INSERT INTO stock VALUES ('apple', 3), ('pear', NULL)")
        conn.execute("UPDATE stock SET count = 4 WHERE item = 'apple'")
        conn.execute("DELETE FROM stock WHERE item = 'pear'")
        for end, changes in read(conn, "cookbook_stock", "stock_changes"):
            print(*(f"{change.kind} {change.row}" for change in changes))
            advance(conn, "cookbook_stock", end)


if __name__ == "__main__":
    main()
