# /// script
# requires-python = ">=3.11"
# dependencies = ["mssql-python>=1.16"]
# ///
"""Insert many rows by bulk copy.

Bulk copy is the fast way in, but on a connection and in transactions of its own. So
the rows go to a table beside the real one, and from there in one statement.
"""

import os
import sys
from collections.abc import Iterable
from decimal import Decimal
from uuid import uuid4

import mssql_python
from mssql_python import Connection

SCHEMA = """
CREATE TABLE sale (
    id      int PRIMARY KEY,
    product nvarchar(100) NOT NULL,
    amount  decimal(12, 2) NOT NULL CHECK (amount >= 0)
);
"""


# --8<-- [start:insert]
def bulk_insert(
    conn: Connection, rows: Iterable[tuple[int, str, Decimal]], timeout: int = 600
) -> int:
    """Insert all rows or none, and return their number; conn has no open work.

    rows may be a generator; timeout is for the copy, in seconds. Raises RuntimeError
    for what bulk copy refuses, IntegrityError for what the table refuses.
    """
    staging = f"sale_load_{uuid4().hex}"  # a name of its own: loads may run at once
    conn.execute(f"SELECT TOP (0) id, product, amount INTO {staging} FROM sale")
    conn.commit()  # or the copy, on another connection, would wait for this table
    try:
        with conn.cursor() as cursor:
            cursor.bulkcopy(
                staging, rows, batch_size=10_000, timeout=timeout, table_lock=True
            )
            cursor.execute(
                "INSERT INTO sale (id, product, amount)"
                f" SELECT id, product, amount FROM {staging}"
            )
            return int(cursor.rowcount)
    finally:
        conn.execute(f"DROP TABLE {staging}")
        conn.commit()


# --8<-- [end:insert]

NO_SERVER = (
    "Set SQLSERVER_DSN, for example Server=127.0.0.1,11433;Database=master;UID=sa;"
    "PWD=Cook_Book1;Encrypt=yes;TrustServerCertificate=yes"
    " after `docker compose up -d --wait sqlserver`"
)


def main() -> None:
    dsn = os.environ.get("SQLSERVER_DSN") or sys.exit(NO_SERVER)
    with mssql_python.connect(dsn, timeout=5) as conn:
        conn.timeout = 60
        conn.execute(SCHEMA)
        conn.commit()
        rows = ((n, f"product {n}", Decimal(n) / 100) for n in range(20_000))
        print("inserted", bulk_insert(conn, rows))
        [[count, total]] = conn.execute(
            "SELECT COUNT(*), SUM(amount) FROM sale"
        ).fetchall()
        print(f"the table holds {count} rows, {total} in all")
        try:
            bulk_insert(conn, [(20_000, "new", Decimal(1)), (7, "again", Decimal(1))])
        except mssql_python.IntegrityError:
            [[count]] = conn.execute("SELECT COUNT(*) FROM sale").fetchall()
            print(f"refused, and it still holds {count} rows")


if __name__ == "__main__":
    main()
