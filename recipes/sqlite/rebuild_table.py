# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Change a table in ways that ALTER TABLE cannot.

New constraints, types or keys mean a new table. Rows, indexes, triggers, views and
foreign keys are kept, all or nothing. Use it for what ALTER TABLE does not offer.
"""

import os
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager


# --8<-- [start:rebuild]
def rebuild(
    conn: sqlite3.Connection, table: str, definition: str, columns: Mapping[str, str]
) -> int:
    """Give the table a new definition; return its number of rows.

    definition is what CREATE TABLE has between the brackets; columns maps each new
    column to its value: an old column, or an expression. Both are SQL: never a user's.
    Raises sqlite3.Error, with nothing changed, where rows, indexes, triggers or views
    do not fit the new table.
    """
    old, new = _quote(table), _quote(f"{table} (new)")
    names, values = ", ".join(map(_quote, columns)), ", ".join(columns.values())
    with _unchecked(conn), conn:
        conn.execute("BEGIN IMMEDIATE")
        lost = conn.execute(  # what DROP TABLE takes along
            "SELECT sql FROM sqlite_schema WHERE tbl_name = ? COLLATE NOCASE"
            " AND type IN ('index', 'trigger') AND sql IS NOT NULL",
            (table,),
        ).fetchall()
        conn.execute(f"CREATE TABLE {new} ({definition})")
        rows = conn.execute(f"INSERT INTO {new} ({names}) SELECT {values} FROM {old}")
        conn.execute(f"DROP TABLE {old}")
        conn.execute(f"ALTER TABLE {new} RENAME TO {old}")
        for (sql,) in lost:
            conn.execute(sql)
        _check_views(conn, old, _quote(next(iter(columns))))
        if orphans := conn.execute("PRAGMA foreign_key_check").fetchall():
            raise sqlite3.IntegrityError(f"rows that point nowhere: {orphans[:5]}")
    return rows.rowcount


def _check_views(conn: sqlite3.Connection, table: str, column: str) -> None:
    """Have SQLite read all views and triggers, as it does before it renames."""
    conn.execute("PRAGMA legacy_alter_table = OFF")
    conn.execute("SAVEPOINT checked")
    conn.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO {column}")
    conn.execute("ROLLBACK TO checked")


@contextmanager
def _unchecked(conn: sqlite3.Connection) -> Iterator[None]:
    """No cascade from DROP TABLE, and RENAME leaves the other tables alone."""
    if conn.in_transaction:  # where these pragmas would do nothing
        raise sqlite3.ProgrammingError("rebuild() needs its own transaction")
    (keys,) = conn.execute("PRAGMA foreign_keys").fetchone()
    conn.execute("PRAGMA foreign_keys = OFF")
    conn.execute("PRAGMA legacy_alter_table = ON")
    try:
        yield
    finally:
        conn.execute("PRAGMA legacy_alter_table = OFF")
        conn.execute(f"PRAGMA foreign_keys = {keys}")


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# --8<-- [end:rebuild]

BEFORE = """
CREATE TABLE customer (id INTEGER PRIMARY KEY, email TEXT, age TEXT);
CREATE INDEX customer_age ON customer (age);
CREATE TABLE orders (customer_id INTEGER REFERENCES customer ON DELETE CASCADE);
INSERT INTO customer VALUES (1, 'ann@example.com', '41'), (2, 'bob@example.com', NULL);
INSERT INTO orders VALUES (1), (1), (2);
"""

# --8<-- [start:use]
DEFINITION = """
    id    INTEGER PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    age   INTEGER CHECK (age >= 0)
"""
COLUMNS = {"id": "id", "email": "lower(email)", "age": "CAST(age AS INTEGER)"}
# --8<-- [end:use]

NO_SERVER = "Set SQLITE_PATH to a file to create, for example cookbook.db"


def main() -> None:
    path = os.environ.get("SQLITE_PATH") or sys.exit(NO_SERVER)
    with closing(sqlite3.connect(path, timeout=5)) as conn:
        conn.execute("PRAGMA foreign_keys = ON")
        conn.executescript(BEFORE)
        print("customers:", rebuild(conn, "customer", DEFINITION, COLUMNS))
        print("orders:", conn.execute("SELECT count(*) FROM orders").fetchone()[0])
        print(conn.execute("SELECT * FROM customer").fetchall())
        try:
            conn.execute("INSERT INTO customer VALUES (3, 'ann@example.com', 7)")
        except sqlite3.IntegrityError as error:
            print("refused:", error)


if __name__ == "__main__":
    main()
