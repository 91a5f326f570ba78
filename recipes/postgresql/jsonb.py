# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
# ///
"""Store, search and change JSON documents.

A jsonb column takes Python dicts and lists as they are. An index finds documents by
what they contain, and the server changes one field without a read before the write.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

# --8<-- [start:schema]
SCHEMA = """
CREATE TABLE product (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    price numeric(10, 2) NOT NULL,
    body  jsonb NOT NULL CHECK (jsonb_typeof(body) = 'object')
);
CREATE INDEX product_body ON product USING gin (body jsonb_path_ops);
"""
# --8<-- [end:schema]


# --8<-- [start:find]
def find(conn: psycopg.Connection, part: dict[str, Any]) -> list[dict[str, Any]]:
    """The documents that contain part, in the order of their ids."""
    rows = conn.execute(
        "SELECT body FROM product WHERE body @> %s ORDER BY id", (Jsonb(part),)
    )
    return [body for (body,) in rows]


# --8<-- [end:find]


# --8<-- [start:change]
def merge(conn: psycopg.Connection, product: int, changes: dict[str, Any]) -> None:
    """Set top-level fields. Raises LookupError if there is no such product."""
    updated = conn.execute(
        "UPDATE product SET body = body || %s WHERE id = %s", (Jsonb(changes), product)
    )
    if not updated.rowcount:
        raise LookupError(f"no product {product}")


def set_field(
    conn: psycopg.Connection, product: int, path: Sequence[str], value: Any
) -> None:
    """Set one field at any depth, such as ("size", "width").

    Raises LookupError if there is no such product or no object to hold the field.
    """
    *parents, _ = path
    # jsonb_set changes nothing, without an error, where a parent is missing.
    updated = conn.execute(
        "UPDATE product SET body = jsonb_set(body, %s, %s)"
        " WHERE id = %s AND jsonb_typeof(body #> %s) = 'object'",
        (list(path), Jsonb(value), product, parents),
    )
    if not updated.rowcount:
        raise LookupError(f"no product {product} with an object at {parents}")


# --8<-- [end:change]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    with psycopg.connect(url, connect_timeout=5) as conn:
        conn.execute(SCHEMA)
        insert = "INSERT INTO product (price, body) VALUES (%s, %s)"
        pot = {"name": "pot", "tags": ["red", "steel"], "size": {"width": 20}}
        conn.execute(insert, ("19.99", Jsonb(pot)))
        conn.execute(insert, ("2.50", Jsonb({"name": "cup", "tags": ["red"]})))
        merge(conn, 1, {"stock": 7})
        set_field(conn, 1, ("size", "height"), 15)
        print("red steel:", find(conn, {"tags": ["red", "steel"]}))
        print(
            "width 20:", [body["name"] for body in find(conn, {"size": {"width": 20}})]
        )
        # --8<-- [start:query]
        query = """
            SELECT tag, count(*), sum(price)
            FROM product, jsonb_array_elements_text(body -> 'tags') AS tag
            WHERE (body ->> 'stock')::int > 0 OR NOT body ? 'stock'
            GROUP BY tag ORDER BY tag
        """
        # --8<-- [end:query]
        for row in conn.execute(query):
            print(*row)


if __name__ == "__main__":
    main()
