# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Pass values to SQLite as parameters.

Positions, names, a list of any length for IN, a search text that may hold % and _, and
a sort order that the user chooses. Use it for every value that is not in your source.
"""

import json
import os
import sqlite3
import sys
from collections.abc import Iterable
from contextlib import closing
from typing import Any

SCHEMA = """
CREATE TABLE product (
    id    INTEGER PRIMARY KEY,
    name  TEXT NOT NULL,
    cents INTEGER NOT NULL
)
"""

Row = tuple[Any, ...]


# --8<-- [start:values]
def add(conn: sqlite3.Connection, name: str, cents: int) -> int:
    """Store a product as it is given; return its id."""
    with conn:
        added = conn.execute(
            "INSERT INTO product (name, cents) VALUES (?, ?)", (name, cents)
        )
    assert added.lastrowid is not None
    return added.lastrowid


def by_ids(conn: sqlite3.Connection, ids: Iterable[int]) -> list[Row]:
    """Return the products with these ids, however many there are."""
    return conn.execute(
        "SELECT id, name, cents FROM product"
        " WHERE id IN (SELECT value FROM json_each(:ids)) ORDER BY id",
        {"ids": json.dumps(list(ids))},
    ).fetchall()


# --8<-- [end:values]


# --8<-- [start:search]
FOUND = r"""
SELECT id, name, cents FROM product
WHERE name LIKE :pattern ESCAPE '\'
  AND (:min_cents IS NULL OR cents >= :min_cents)
"""
ORDER = {  # ours: no text of the user's becomes SQL
    "name": "ORDER BY name, id",
    "cheapest": "ORDER BY cents, id",
    "dearest": "ORDER BY cents DESC, id",
}


def contains(text: str) -> str:
    r"""Return the pattern for LIKE ... ESCAPE '\' that finds text as it is."""
    for character in r"\%_":  # the backslash first
        text = text.replace(character, "\\" + character)
    return f"%{text}%"


def search(
    conn: sqlite3.Connection,
    text: str = "",
    min_cents: int | None = None,
    order: str = "name",
) -> list[Row]:
    """Return the products whose name contains text; order is a key of ORDER.

    Raises KeyError for another order.
    """
    return conn.execute(
        FOUND + ORDER[order], {"pattern": contains(text), "min_cents": min_cents}
    ).fetchall()


# --8<-- [end:search]

NO_SERVER = "Set SQLITE_PATH to a file to create, for example cookbook.db"


def main() -> None:
    path = os.environ.get("SQLITE_PATH") or sys.exit(NO_SERVER)
    with closing(sqlite3.connect(path, timeout=5)) as conn:
        conn.execute(SCHEMA)
        for name in ("100% wool", "100 percent wool", "'; DROP TABLE product; --"):
            add(conn, name, 1990)
        print("contains 100%:", [name for _, name, _ in search(conn, "100%")])
        print("ids 1 and 3:", [name for _, name, _ in by_ids(conn, [1, 3])])


if __name__ == "__main__":
    main()
