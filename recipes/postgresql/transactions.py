# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
# ///
"""Commit everything, or nothing, or all but the rows that fail.

A transaction is a `with` block. A block inside it is a savepoint: an error there undoes
that block alone, and cures "current transaction is aborted".
"""

import os
import sys
from collections.abc import Iterable
from typing import LiteralString

import psycopg

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)

SCHEMA = """
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer text);
CREATE TABLE line (
    order_id bigint NOT NULL REFERENCES orders,
    item     text NOT NULL,
    quantity int NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, item)
);
"""
ADD_LINE = "INSERT INTO line VALUES (%s, %s, %s)"


# --8<-- [start:connect]
def connect(url: str) -> psycopg.Connection:
    """Connect so that each statement commits by itself, and a block as a whole."""
    return psycopg.connect(
        url, autocommit=True, connect_timeout=5, options="-c statement_timeout=30s"
    )


# --8<-- [end:connect]


# --8<-- [start:atomic]
def place_order(
    conn: psycopg.Connection, customer: str, lines: Iterable[tuple[str, int]]
) -> int:
    """Store an order with all its lines, or nothing; return its id.

    Raises IntegrityError when the database refuses a line.
    """
    with conn.transaction():  # COMMIT at the end, ROLLBACK when an error leaves it
        query = "INSERT INTO orders (customer) VALUES (%s) RETURNING id"
        row = conn.execute(query, (customer,)).fetchone()
        assert row  # RETURNING gives one row for each row inserted
        for item, quantity in lines:
            conn.execute(ADD_LINE, (row[0], item, quantity))
    return int(row[0])


# --8<-- [end:atomic]


# --8<-- [start:savepoint]
def add_lines(
    conn: psycopg.Connection, order: int, lines: Iterable[tuple[str, int]]
) -> list[tuple[str, str]]:
    """Add the lines that can be added; return the items refused, with the rule.

    Raises any error that is not about a line's data; then none was added.
    """
    refused = []
    with conn.transaction():
        for item, quantity in lines:
            try:
                with conn.transaction():  # inside a transaction: a savepoint
                    conn.execute(ADD_LINE, (order, item, quantity))
            except psycopg.IntegrityError as error:  # caught outside the inner block
                refused.append((item, error.diag.constraint_name or ""))
    return refused


# --8<-- [end:savepoint]


# --8<-- [start:rollback]
def try_out(conn: psycopg.Connection, query: LiteralString) -> int:
    """Return how many rows a statement would change, and change none.

    Raises the database's own errors.
    """
    with conn.transaction(force_rollback=True):
        return conn.execute(query).rowcount


# --8<-- [end:rollback]


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    with connect(url) as conn:
        conn.execute(SCHEMA)
        order = place_order(conn, "Ada", [("tea", 2)])
        try:
            place_order(conn, "Bob", [("tea", 1), ("milk", -1)])
        except psycopg.IntegrityError as error:
            print("order of Bob refused:", error.diag.constraint_name)
        more = [("milk", 1), ("tea", 1), ("salt", 0), ("bread", 3)]
        print("lines refused:", add_lines(conn, order, more))
        print("a DELETE would remove:", try_out(conn, "DELETE FROM line"))
        for row in conn.execute("SELECT item, quantity FROM line ORDER BY item"):
            print("stored:", *row)


if __name__ == "__main__":
    main()
