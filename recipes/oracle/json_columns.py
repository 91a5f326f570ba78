# /// script
# requires-python = ">=3.11"
# dependencies = ["oracledb>=3.4"]
# ///
"""Store, query and change JSON.

In a column of type JSON a dict goes in and comes out as it is. One field is changed on
the server, so that two writers do not undo each other. From version 21 on.
"""

import os
import sys
from decimal import Decimal
from typing import Any

import oracledb

SCHEMA = """
CREATE TABLE product (
    id   NUMBER(9) PRIMARY KEY,
    data JSON NOT NULL
)
"""
# A query that compares the same expression finds its rows by this index.
INDEX = (
    "CREATE INDEX product_name ON product (JSON_VALUE(data, '$.name' ERROR ON ERROR))"
)
NO_SERVER = (
    "Set ORACLE_DSN, for example cook/cook@127.0.0.1:11521/FREEPDB1"
    " after `docker compose up -d --wait oracle`"
)


# --8<-- [start:store]
def add_product(conn: oracledb.Connection, number: int, data: dict[str, Any]) -> None:
    """Insert a product; data may hold Decimal, datetime and bytes. Does not commit."""
    with conn.cursor() as cursor:
        cursor.setinputsizes(
            data=oracledb.DB_TYPE_JSON
        )  # a dict has no type of its own
        query = "INSERT INTO product (id, data) VALUES (:num, :data)"
        cursor.execute(query, num=number, data=data)


def get_product(conn: oracledb.Connection, number: int) -> dict[str, Any]:
    """Return a product, numbers in it as Decimal. Raises KeyError if there is none."""
    with conn.cursor() as cursor:
        cursor.execute("SELECT data FROM product WHERE id = :num", num=number)
        row = cursor.fetchone()
    if row is None:
        raise KeyError(number)
    return dict(row[0])


# --8<-- [end:store]


# --8<-- [start:query]
def cheaper(conn: oracledb.Connection, tag: str, price: Decimal) -> list[str]:
    """Return the names of the products with that tag that cost less than price."""
    query = """
        SELECT JSON_VALUE(data, '$.name') FROM product
        WHERE JSON_VALUE(data, '$.price' RETURNING NUMBER) < :price
        AND JSON_EXISTS(data, '$.tags[*]?(@ == $tag)' PASSING :tag AS "tag")
        ORDER BY id
    """
    with conn.cursor() as cursor:
        cursor.execute(query, price=price, tag=tag)
        return [name for (name,) in cursor]


# --8<-- [end:query]


# --8<-- [start:change]
def change_price(conn: oracledb.Connection, number: int, price: Decimal) -> None:
    """Set the price, and leave the rest as it is. Does not commit.

    Raises KeyError if there is no such product.
    """
    query = """
        UPDATE product SET data = JSON_TRANSFORM(data, SET '$.price' = :price)
        WHERE id = :num
    """
    with conn.cursor() as cursor:
        cursor.execute(query, price=price, num=number)
        if cursor.rowcount != 1:
            raise KeyError(number)


# --8<-- [end:change]


def main() -> None:
    dsn = os.environ.get("ORACLE_DSN") or sys.exit(NO_SERVER)
    with oracledb.connect(dsn, tcp_connect_timeout=5) as conn, conn.cursor() as cursor:
        conn.call_timeout = 30_000  # milliseconds
        cursor.execute(SCHEMA)
        cursor.execute(INDEX)
        cup = {"name": "cup", "price": Decimal("4.10"), "tags": ["blue", "small"]}
        add_product(conn, 1, cup)
        add_product(conn, 2, {"name": "pot", "price": Decimal(18), "tags": ["blue"]})
        print("blue, less than 10:", cheaper(conn, "blue", Decimal(10)))
        change_price(conn, 1, Decimal("4.60"))
        conn.commit()
        product = get_product(conn, 1)
        print("now costs:", product["price"], "and still has:", product["tags"])


if __name__ == "__main__":
    main()
