# /// script
# requires-python = ">=3.11"
# dependencies = ["mssql-python>=1.16"]
# ///
"""Store and query JSON.

For the part of a record that has no fixed columns. The database refuses what is no
JSON, an index finds a value inside of it, and one value can be changed in place.
"""

import json
import os
import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import mssql_python
from mssql_python import Connection

# --8<-- [start:schema]
SCHEMA = """
CREATE TABLE product (
    id  int PRIMARY KEY,
    doc nvarchar(max) NOT NULL CHECK (ISJSON(doc) = 1),
    sku AS CAST(JSON_VALUE(doc, '$.sku') AS nvarchar(40)) -- computed, and indexed
);
CREATE INDEX product_sku ON product (sku);
"""
# --8<-- [end:schema]


# --8<-- [start:use]
def save(conn: Connection, number: int, doc: Mapping[str, Any]) -> None:
    """Insert a product. Raises ValueError for NaN, which JSON does not know."""
    text = json.dumps(doc, allow_nan=False)
    conn.execute("INSERT INTO product (id, doc) VALUES (?, ?)", number, text)


def find(conn: Connection, sku: str) -> list[dict[str, Any]]:
    """The documents with that sku, found by the index; numbers come as Decimal."""
    rows = conn.execute("SELECT doc FROM product WHERE sku = ?", sku).fetchall()
    return [json.loads(doc, parse_float=Decimal) for (doc,) in rows]


def tagged(conn: Connection, tag: str) -> list[int]:
    """The numbers of the products that have the tag among their tags."""
    query = (
        "SELECT id FROM product WHERE EXISTS"
        " (SELECT 1 FROM OPENJSON(doc, '$.tags') WHERE value = ?) ORDER BY id"
    )
    return [number for (number,) in conn.execute(query, tag).fetchall()]


def set_stock(conn: Connection, number: int, count: int) -> bool:
    """Change one value in place; False where there is no such product.

    strict: a product without that value is an error, not a product with a new one.
    """
    change = (
        "UPDATE product SET doc = JSON_MODIFY(doc, 'strict $.stock', ?) WHERE id = ?"
    )
    return bool(conn.execute(change, count, number).rowcount)


def catalogue(conn: Connection) -> list[dict[str, Any]]:
    """All products as one JSON text, which the server makes."""
    # As a subquery it is one value; as a query it comes in pieces of 2033 characters.
    query = "SELECT (SELECT id, sku FROM product ORDER BY id FOR JSON PATH)"
    [[text]] = conn.execute(query).fetchall()
    products: list[dict[str, Any]] = json.loads(text or "[]")
    return products


# --8<-- [end:use]

NO_SERVER = (
    "Set SQLSERVER_DSN, for example Server=127.0.0.1,11433;Database=master;UID=sa;"
    "PWD=Cook_Book1;Encrypt=yes;TrustServerCertificate=yes"
    " after `docker compose up -d --wait sqlserver`"
)


def main() -> None:
    dsn = os.environ.get("SQLSERVER_DSN") or sys.exit(NO_SERVER)
    with mssql_python.connect(dsn, timeout=5) as conn:
        conn.timeout = 30
        conn.execute(SCHEMA)
        save(conn, 1, {"sku": "b-8", "name": "bolt", "tags": ["steel"], "stock": 10})
        save(
            conn, 2, {"sku": "n-8", "name": "nut", "tags": ["steel", "m8"], "stock": 5}
        )
        print("steel:", tagged(conn, "steel"))
        set_stock(conn, 2, 4)
        print(find(conn, "n-8"))
        print(catalogue(conn))
        conn.commit()
        try:
            conn.execute("INSERT INTO product (id, doc) VALUES (3, '{broken')")
        except mssql_python.IntegrityError:
            print("refused: this is no JSON")
            conn.rollback()


if __name__ == "__main__":
    main()
