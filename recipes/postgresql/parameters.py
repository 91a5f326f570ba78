# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
# ///
"""Pass values as parameters, names as identifiers, and lists as arrays.

Whatever a user types stays a value: no quotes to escape, no injection. Names of tables
and columns cannot be parameters; they are quoted by psycopg.
"""

import os
import sys
from collections.abc import Sequence
from decimal import Decimal

import psycopg
from psycopg import sql

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)

Row = tuple[int, str]


# --8<-- [start:values]
def find_by_name(conn: psycopg.Connection, name: str) -> list[Row]:
    """Return the products of exactly that name."""
    query = "SELECT id, name FROM product WHERE name = %s ORDER BY id"
    return conn.execute(query, (name,)).fetchall()


def find_by_ids(conn: psycopg.Connection, ids: Sequence[int]) -> list[Row]:
    """Return the products of those ids: one parameter for any number of them."""
    query = "SELECT id, name FROM product WHERE id = ANY(%s) ORDER BY id"
    return conn.execute(query, (list(ids),)).fetchall()


def find(
    conn: psycopg.Connection, name: str | None = None, below: Decimal | None = None
) -> list[Row]:
    """Return the products that pass the filters; None is no filter."""
    # Named, to use one twice. Cast, or PostgreSQL cannot tell the type of a None.
    query = """
        SELECT id, name FROM product
        WHERE (%(name)s::text IS NULL OR name = %(name)s)
          AND (%(below)s::numeric IS NULL OR price < %(below)s)
        ORDER BY id
    """
    return conn.execute(query, {"name": name, "below": below}).fetchall()


# --8<-- [end:values]


# --8<-- [start:like]
def search(conn: psycopg.Connection, text: str) -> list[Row]:
    """Return the products whose name contains text; % and _ in it are themselves."""
    for special in ("\\", "%", "_"):  # the escape character first
        text = text.replace(special, "\\" + special)
    query = "SELECT id, name FROM product WHERE name ILIKE %s ORDER BY id"
    return conn.execute(query, (f"%{text}%",)).fetchall()


def find_organic(conn: psycopg.Connection, below: Decimal) -> list[Row]:
    """Return the cheap organic products. Beside a parameter, % in the query is %%."""
    query = (
        "SELECT id, name FROM product"
        " WHERE name LIKE 'organic%%' AND price < %s ORDER BY id"
    )
    return conn.execute(query, (below,)).fetchall()


# --8<-- [end:like]


# --8<-- [start:names]
def sort_by(
    conn: psycopg.Connection, table: str, column: str, descending: bool = False
) -> list[tuple[object, ...]]:
    """Return a table ("name" or "schema.name"), sorted.

    Raises UndefinedTable, UndefinedColumn: whatever the names contain, they are names.
    """
    query = sql.SQL("SELECT * FROM {table} ORDER BY {column} {order}").format(
        table=sql.Identifier(*table.split(".")),
        column=sql.Identifier(column),
        order=sql.SQL("DESC" if descending else "ASC"),
    )
    return conn.execute(query).fetchall()


# --8<-- [end:names]


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    with psycopg.connect(url, connect_timeout=5) as conn:
        conn.execute("CREATE TABLE product (id int, name text, price numeric)")
        products = [
            (1, "organic tea", Decimal("4.50")),
            (2, "100% juice", Decimal("3.20")),
            (3, "x' OR 'a' = 'a", Decimal(1)),
        ]
        with conn.cursor() as cursor:
            cursor.executemany("INSERT INTO product VALUES (%s, %s, %s)", products)
        print("by name:", find_by_name(conn, "x' OR 'a' = 'a"))
        print("by ids:", find_by_ids(conn, [1, 2, 99]))
        print("below 4:", find(conn, below=Decimal(4)))
        print("containing 0%:", search(conn, "0%"))
        print("organic:", find_organic(conn, Decimal(5)))
        print("dearest:", sort_by(conn, "product", "price", descending=True)[0][1])


if __name__ == "__main__":
    main()
