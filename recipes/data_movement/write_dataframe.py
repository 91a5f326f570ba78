# /// script
# requires-python = ">=3.11"
# dependencies = ["adbc-driver-postgresql>=1.10", "pandas>=3", "pyarrow>=22"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Append a dataframe to a table, all rows or none.

The table decides on the types: what does not fit is refused before a row is sent. ADBC
then sends the columns with COPY. The table is never created, replaced or changed.
"""

import os
import sys
from datetime import UTC, datetime
from decimal import Decimal

import adbc_driver_postgresql.dbapi as adbc
import pandas as pd
import pyarrow as pa


# --8<-- [start:write]
def write_dataframe(
    conn: adbc.Connection,
    table: str,
    frame: pd.DataFrame | pa.Table,
    *,
    schema: str = "public",
) -> int:
    """Append the rows and commit; return how many. From polars: frame.to_arrow().

    NaN, NaT and None become NULL. Raises ValueError (pyarrow.ArrowInvalid is one) for
    a value or a type that would change, adbc.Error where the server refuses a row.
    """
    if isinstance(frame, pd.DataFrame):
        if any(name is not None for name in frame.index.names):
            raise ValueError("the index has a name: reset_index(), or drop it")
        frame = pa.Table.from_pandas(frame, preserve_index=False)
    names = ", ".join(map(_quoted, frame.column_names))
    query = f"SELECT {names} FROM {_quoted(schema)}.{_quoted(table)} LIMIT 0"
    try:
        with conn.cursor() as cur:
            cur.execute(query)
            wanted = cur.fetch_arrow_table().schema
            fitting = pa.table(list(map(_fit, wanted, frame.columns)), wanted.names)
            rows: int = cur.adbc_ingest(table, fitting, "append", db_schema_name=schema)
        conn.commit()
    except BaseException:
        conn.rollback()
        raise
    return rows


def _fit(field: pa.Field, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column in the type of the table, with every value unchanged."""
    have, want = column.type, field.type
    if field.metadata[b"POSTGRESQL:type"] == b"numeric":
        if not (pa.types.is_decimal(have) or pa.types.is_null(have)):
            raise ValueError(f"{field.name} is {have}: make it Decimal")
        # The modifier packs precision and scale; the server would round.
        modifier = int(field.metadata[b"POSTGRESQL:typmod"])
        if modifier < 0:
            return column
        want = pa.decimal128((modifier - 4) >> 16, (modifier - 4) & 0x7FF)
    elif isinstance(want, pa.BaseExtensionType):
        raise ValueError(f"{field.name} is {want}, which ADBC cannot write")
    elif pa.types.is_timestamp(have) and pa.types.is_timestamp(want):
        if (have.tz is None) != (want.tz is None):
            raise ValueError(f"{field.name} is {have}, the table has {want}")
    elif pa.types.is_string(want) and pa.types.is_binary(have):
        raise ValueError(f"{field.name} is {have}, the table has {want}")
    return column.cast(want)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# --8<-- [end:write]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)

TABLE = """
CREATE TABLE sale (
    id int PRIMARY KEY,
    pieces int,
    price numeric(8, 2) NOT NULL,
    at timestamptz NOT NULL DEFAULT '2026-01-01 00:00Z'
)
"""


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    limits = "connect_timeout=5&options=-c%20statement_timeout%3D60s"
    with adbc.connect(f"{url}{'&' if '?' in url else '?'}{limits}") as conn:
        with conn.cursor() as cur:
            cur.execute(TABLE)
        conn.commit()
        frame = pd.DataFrame(
            {
                "price": [Decimal("3.20"), Decimal("19.99")],
                "id": [1, 2],
                "pieces": [5, None],  # to pandas, this is a column of floats
                "at": [datetime(2026, 5, 1, 12, tzinfo=UTC)] * 2,
            }
        )
        print(write_dataframe(conn, "sale", frame), "rows written")
        for changed in ({"price": [3.2, 19.99]}, {"id": [3, 2]}):
            try:
                write_dataframe(conn, "sale", frame.assign(**changed))
            except ValueError as error:
                print("refused:", error)
            except adbc.IntegrityError as error:
                print("refused by the server:", error.sqlstate)
        with conn.cursor() as cur:
            cur.execute("SELECT id, pieces, price::text FROM sale ORDER BY id")
            for row in cur.fetchall():
                print(*row, sep=" | ")


if __name__ == "__main__":
    main()
