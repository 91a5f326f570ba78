# /// script
# requires-python = ">=3.11"
# dependencies = ["pyodbc>=5.3"]
# ///
"""Insert many rows with fast_executemany.

One round trip for thousands of rows, inside of your transaction. In chunks, since all
the rows of a call are in memory at once; with their sizes, or the driver guesses them.
"""

import os
import sys
from collections.abc import Iterable
from contextlib import closing
from decimal import Decimal
from itertools import islice

try:
    import pyodbc
except ImportError as error:  # the wheel is without libodbc.so.2
    raise ImportError(f"{error}: install unixODBC (apt-get install unixodbc)") from None

DRIVER = "Driver={ODBC Driver 18 for SQL Server};"
SCHEMA = """
CREATE TABLE sale (
    id      int PRIMARY KEY,
    product nvarchar(100) NOT NULL,
    amount  decimal(12, 2) NOT NULL CHECK (amount >= 0)
);
"""


# --8<-- [start:insert]
SIZES = [
    (pyodbc.SQL_INTEGER, 0, 0),
    (pyodbc.SQL_WVARCHAR, 100, 0),
    (pyodbc.SQL_DECIMAL, 12, 2),
]


def bulk_insert(
    conn: pyodbc.Connection,
    rows: Iterable[tuple[int, str, Decimal]],
    chunk: int = 5_000,
) -> int:
    """Insert all rows or none, commit, and return their number.

    rows may be a generator; chunk of them are held at a time. Raises pyodbc.Error, and
    what the generator raises; then nothing was inserted.
    """
    total, left = 0, iter(rows)
    try:
        with closing(conn.cursor()) as cursor:
            cursor.fast_executemany = True
            cursor.setinputsizes(SIZES)
            while some := list(islice(left, chunk)):
                cursor.executemany("INSERT INTO sale VALUES (?, ?, ?)", some)
                total += len(some)
        conn.commit()
    except BaseException:
        conn.rollback()
        raise
    return total


# --8<-- [end:insert]

NO_SERVER = (
    "Set SQLSERVER_DSN, for example Server=127.0.0.1,11433;Database=master;UID=sa;"
    "PWD=Cook_Book1;Encrypt=yes;TrustServerCertificate=yes"
    " after `docker compose up -d --wait sqlserver`"
)


def main() -> None:
    dsn = os.environ.get("SQLSERVER_DSN") or sys.exit(NO_SERVER)
    with closing(pyodbc.connect(DRIVER + dsn, timeout=5)) as conn:
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
        except pyodbc.IntegrityError:
            [[count]] = conn.execute("SELECT COUNT(*) FROM sale").fetchall()
            print(f"refused, and it still holds {count} rows")


if __name__ == "__main__":
    main()
