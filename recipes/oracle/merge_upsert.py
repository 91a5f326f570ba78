# /// script
# requires-python = ">=3.11"
# dependencies = ["oracledb>=3.4"]
# ///
"""Insert rows, or update those that are there, with MERGE.

MERGE decides row by row, in one round trip for thousands. It does not see what another
session is about to insert, so a new key can still be there twice: then it runs again.
"""

import os
import sys
from collections.abc import Sequence

import oracledb

SCHEMA = """
CREATE TABLE stock (
    item VARCHAR2(50) PRIMARY KEY,
    held NUMBER(9) NOT NULL
)
"""
NO_SERVER = (
    "Set ORACLE_DSN, for example cook/cook@127.0.0.1:11521/FREEPDB1"
    " after `docker compose up -d --wait oracle`"
)

# --8<-- [start:merge]
MERGE = """
MERGE INTO stock
USING (SELECT :item AS item, :pieces AS pieces FROM dual) delivery
ON (stock.item = delivery.item)
WHEN MATCHED THEN UPDATE SET held = stock.held + delivery.pieces
WHEN NOT MATCHED THEN INSERT (item, held) VALUES (delivery.item, delivery.pieces)
"""
TAKEN = 1  # ORA-00001: the key is there already


def deliver(
    conn: oracledb.Connection, rows: Sequence[tuple[str, int]], attempts: int = 3
) -> int:
    """Add pieces to items, known or new; return how many rows the server changed.

    All rows or none; does not commit. An item may come several times. Raises what the
    driver raises, IntegrityError too when the keys collide at every attempt.
    """
    if not rows:
        return 0  # executemany wants at least one
    rows = sorted(rows)  # in one order, or two deliveries deadlock
    with conn.cursor() as cursor:
        for attempt in range(1, attempts + 1):
            cursor.execute("SAVEPOINT delivery")
            try:
                cursor.setinputsizes(50, int)
                cursor.executemany(MERGE, rows)
            except oracledb.DatabaseError as error:
                # A lost connection cannot roll back, and must not hide its error.
                if conn.is_healthy():
                    cursor.execute("ROLLBACK TO SAVEPOINT delivery")
                if error.args[0].code != TAKEN or attempt == attempts:
                    raise
            else:
                return int(cursor.rowcount)
    raise ValueError("attempts must be 1 or more")


# --8<-- [end:merge]


def main() -> None:
    dsn = os.environ.get("ORACLE_DSN") or sys.exit(NO_SERVER)
    with oracledb.connect(dsn, tcp_connect_timeout=5) as conn, conn.cursor() as cursor:
        conn.call_timeout = 30_000  # milliseconds
        cursor.execute(SCHEMA)
        print("rows changed:", deliver(conn, [("cup", 10), ("pot", 1)]))
        print("rows changed:", deliver(conn, [("cup", 5), ("jug", 2), ("cup", 1)]))
        conn.commit()
        cursor.execute("SELECT item, held FROM stock ORDER BY item")
        for item, held in cursor:
            print(f"{item}: {held}")


if __name__ == "__main__":
    main()
