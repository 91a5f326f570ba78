# /// script
# requires-python = ">=3.11"
# dependencies = ["oracledb>=3.4", "pyarrow>=22"]
# ///
"""Move data frames in and out, as Arrow tables.

The driver fills Arrow columns directly, without a Python object for each value. pandas
and polars read them as they are. With a schema, money stays exact.
"""

import os
import sys
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import oracledb
import pyarrow as pa

TABLE = """
CREATE TABLE orders (
    id       NUMBER(12) PRIMARY KEY,
    customer VARCHAR2(100),
    amount   NUMBER(12, 2) NOT NULL,
    placed   TIMESTAMP(6) NOT NULL
)
"""
NO_SERVER = (
    "Set ORACLE_DSN, for example cook/cook@127.0.0.1:11521/FREEPDB1"
    " after `docker compose up -d --wait oracle`"
)

# --8<-- [start:read]
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("customer", pa.string()),
        ("amount", pa.decimal128(12, 2)),  # by itself the driver makes it a float
        ("placed", pa.timestamp("us")),
    ]
)


def read_table(
    conn: oracledb.Connection, query: str, schema: pa.Schema, **binds: Any
) -> pa.Table:
    """Return all rows, with the names and types of schema: one entry for each column.

    Raises the driver's errors, also for a value that does not fit its type.
    """
    frame = conn.fetch_df_all(query, binds, arraysize=10_000, requested_schema=schema)
    return pa.table(frame)


def read_batches(
    conn: oracledb.Connection,
    query: str,
    schema: pa.Schema,
    *,
    size: int = 10_000,
    **binds: Any,
) -> Iterator[pa.Table]:
    """Yield tables of up to size rows, for a result that does not fit into memory."""
    for frame in conn.fetch_df_batches(
        query, binds, size=size, requested_schema=schema
    ):
        yield pa.table(frame)


# --8<-- [end:read]


# --8<-- [start:write]
def write_table(conn: oracledb.Connection, table: pa.Table) -> int:
    """Insert all rows of a table that has the columns of SCHEMA, or none, and commit.

    Returns how many. Raises ValueError when columns or types are others, and what the
    driver raises; then what else was pending on conn is rolled back too.
    """
    if not table.schema.equals(SCHEMA):
        raise ValueError(f"expected\n{SCHEMA}\nand not\n{table.schema}")
    if not table.num_rows:
        return 0
    try:
        with conn.cursor() as cursor:
            query = "INSERT INTO orders VALUES (:1, :2, :3, :4)"
            cursor.executemany(query, table, batch_size=10_000)
        conn.commit()
    except BaseException:
        if conn.is_healthy():
            conn.rollback()
        raise
    return int(table.num_rows)


# --8<-- [end:write]


def main() -> None:
    dsn = os.environ.get("ORACLE_DSN") or sys.exit(NO_SERVER)
    noon = datetime(2026, 11, 21, 12)  # noqa: DTZ001, a TIMESTAMP has no time zone
    rows = [
        {"id": n, "customer": None, "amount": Decimal("0.10"), "placed": noon}
        for n in range(1, 11)
    ]
    with oracledb.connect(dsn, tcp_connect_timeout=5) as conn, conn.cursor() as cursor:
        conn.call_timeout = 30_000  # milliseconds
        cursor.execute(TABLE)
        table = pa.Table.from_pylist(rows, SCHEMA)
        print("written:", write_table(conn, table))
        query = "SELECT * FROM orders WHERE id <= :last ORDER BY id"
        back = read_table(conn, query, SCHEMA, last=10)
        print("the same:", back.equals(table))
        print("sum:", sum(back["amount"].to_pylist()))
        batches = read_batches(conn, query, SCHEMA, size=4, last=10)
        print("batches of:", *(batch.num_rows for batch in batches))


if __name__ == "__main__":
    main()
