# /// script
# requires-python = ">=3.11"
# dependencies = ["oracledb>=3.4"]
# ///
"""Get the values that the server made, with RETURNING ... INTO.

The new key, a default, the rows that an UPDATE or DELETE touched: they come back with
the statement itself, so no second query can see something else.
"""

import os
import sys
from collections.abc import Sequence
from decimal import Decimal

import oracledb

SCHEMA = """
CREATE TABLE orders (
    id       NUMBER(12) GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer VARCHAR2(100) NOT NULL,
    amount   NUMBER(12, 2) NOT NULL,
    state    VARCHAR2(10) DEFAULT 'new' NOT NULL
)
"""
NO_SERVER = (
    "Set ORACLE_DSN, for example cook/cook@127.0.0.1:11521/FREEPDB1"
    " after `docker compose up -d --wait oracle`"
)


# --8<-- [start:insert]
def add_order(conn: oracledb.Connection, customer: str, amount: Decimal) -> int:
    """Insert an order, and return its number. Does not commit."""
    with conn.cursor() as cursor:
        number = cursor.var(int)
        cursor.execute(
            "INSERT INTO orders (customer, amount) VALUES (:customer, :amount)"
            " RETURNING id INTO :num",
            customer=customer,
            amount=amount,
            num=number,
        )
        (made,) = number.getvalue()  # a list, as the statement may touch many rows
        return int(made)


def add_orders(
    conn: oracledb.Connection, rows: Sequence[tuple[str, Decimal]]
) -> list[int]:
    """Insert orders in one round trip; return their numbers in the order of rows."""
    if not rows:
        return []  # executemany wants at least one
    with conn.cursor() as cursor:
        numbers = cursor.var(int, arraysize=len(rows))
        cursor.setinputsizes(100, Decimal, numbers)
        cursor.executemany(
            "INSERT INTO orders (customer, amount) VALUES (:1, :2)"
            " RETURNING id INTO :3",
            list(rows),
        )
        return [int(made) for (made,) in numbers.values]


# --8<-- [end:insert]


# --8<-- [start:update]
def ship(conn: oracledb.Connection, customer: str) -> list[tuple[int, Decimal]]:
    """Mark the new orders of a customer; return number and amount of each of them."""
    with conn.cursor() as cursor:
        numbers, amounts = cursor.var(int), cursor.var(Decimal)
        cursor.execute(
            "UPDATE orders SET state = 'shipped'"
            " WHERE customer = :customer AND state = 'new'"
            " RETURNING id, amount INTO :numbers, :amounts",
            customer=customer,
            numbers=numbers,
            amounts=amounts,
        )
        return list(zip(numbers.getvalue(), amounts.getvalue(), strict=True))


# --8<-- [end:update]


def main() -> None:
    dsn = os.environ.get("ORACLE_DSN") or sys.exit(NO_SERVER)
    with oracledb.connect(dsn, tcp_connect_timeout=5) as conn, conn.cursor() as cursor:
        conn.call_timeout = 30_000  # milliseconds
        cursor.execute(SCHEMA)
        print("number:", add_order(conn, "Ann", Decimal("19.99")))
        orders = [("Ben", Decimal(5)), ("Ann", Decimal("0.10"))]
        print("numbers:", add_orders(conn, orders))
        conn.commit()
        for number, amount in sorted(ship(conn, "Ann")):
            print(f"shipped {number} for {amount}")
        print("shipped again:", ship(conn, "Ann"))
        conn.commit()


if __name__ == "__main__":
    main()
