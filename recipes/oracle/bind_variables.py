# /// script
# requires-python = ">=3.11"
# dependencies = ["oracledb>=3.4"]
# ///
"""Send values as bind variables, never as a part of the SQL.

What a user typed can then not become SQL, and the server parses one statement in place
of thousands. Money stays exact, and moments keep their microseconds.
"""

import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal

import oracledb

SCHEMA = """
CREATE TABLE orders (
    id       NUMBER(9) PRIMARY KEY,
    customer VARCHAR2(100) NOT NULL,
    amount   NUMBER(12, 2) NOT NULL,
    placed   TIMESTAMP(6) NOT NULL
)
"""
NO_SERVER = (
    "Set ORACLE_DSN, for example cook/cook@127.0.0.1:11521/FREEPDB1"
    " after `docker compose up -d --wait oracle`"
)


# --8<-- [start:insert]
def add_order(
    conn: oracledb.Connection,
    number: int,
    customer: str,
    amount: Decimal,
    placed: datetime,
) -> None:
    """Insert an order; placed is an aware datetime, kept in UTC. Does not commit.

    Raises IntegrityError: the number is taken, or the customer is "" (NULL to Oracle).
    """
    with conn.cursor() as cursor:
        # Or a datetime is sent as a DATE, which ends at the seconds.
        cursor.setinputsizes(placed=oracledb.DB_TYPE_TIMESTAMP)
        cursor.execute(
            "INSERT INTO orders VALUES (:num, :customer, :amount, :placed)",
            num=number,
            customer=customer,
            amount=amount,
            placed=to_utc(placed),
        )


def to_utc(moment: datetime) -> datetime:
    """Return moment in UTC, without the zone, which the driver would drop unread."""
    if moment.utcoffset() is None:
        raise ValueError(f"{moment} names no moment: it has no time zone")
    return moment.astimezone(UTC).replace(tzinfo=None)


# --8<-- [end:insert]


# --8<-- [start:search]
def search(conn: oracledb.Connection, text: str) -> list[tuple[int, Decimal]]:
    """Return number and amount of the orders whose customer contains text as it is."""
    for special in "\\%_":  # the backslash first
        text = text.replace(special, f"\\{special}")
    query = r"""
        SELECT id, amount FROM orders
        WHERE customer LIKE '%' || :text || '%' ESCAPE '\' ORDER BY id
    """
    with conn.cursor() as cursor:
        cursor.execute(query, text=text, fetch_decimals=True)  # or money is a float
        return [(int(number), amount) for number, amount in cursor]


# --8<-- [end:search]


# --8<-- [start:list]
def find_customers(conn: oracledb.Connection, numbers: Iterable[int]) -> dict[int, str]:
    """Return the customers of any number of orders, by number; unknown ones are left
    out."""
    found: dict[int, str] = {}
    wanted = list(dict.fromkeys(numbers))
    with conn.cursor() as cursor:
        for start in range(0, len(wanted), 1000):  # the limit before version 23
            binds = padded(wanted[start : start + 1000])
            names = ", ".join(f":{n}" for n in range(1, len(binds) + 1))
            query = f"SELECT id, customer FROM orders WHERE id IN ({names})"
            cursor.execute(query, binds)
            found.update(cursor.fetchall())
    return found


def padded(values: list[int]) -> list[int]:
    """Repeat the last value up to 1, 10, 100 or 1000: only four statements to parse."""
    size = next(size for size in (1, 10, 100, 1000) if size >= len(values))
    return values + values[-1:] * (size - len(values))


# --8<-- [end:list]


def main() -> None:
    dsn = os.environ.get("ORACLE_DSN") or sys.exit(NO_SERVER)
    noon = datetime(2026, 11, 21, 12, 0, 0, 123456, UTC)
    with oracledb.connect(dsn, tcp_connect_timeout=5) as conn, conn.cursor() as cursor:
        conn.call_timeout = 30_000  # milliseconds
        cursor.execute(SCHEMA)
        add_order(conn, 1, "O'Brien", Decimal("19.99"), noon)
        add_order(conn, 2, "100% Wool", Decimal("0.10"), noon)
        conn.commit()
        print("O'Brien:", *search(conn, "O'Brien"))
        print("100%:", *search(conn, "100%"))
        print("injection:", search(conn, "' OR 1 = 1 --"))
        print("in a list:", find_customers(conn, [2, 3, 1]))
        cursor.execute("SELECT placed FROM orders WHERE id = :1", [1])
        print("placed:", cursor.fetchone()[0].replace(tzinfo=UTC))


if __name__ == "__main__":
    main()
