# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "adbc-driver-postgresql>=1.10",
#     "pandas>=3",
#     "polars>=1.36",
#     "pyarrow>=22",
# ]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Read a query into Arrow, polars or pandas, with the types of the table.

ADBC receives columns, not rows: no Python object is made for a value. It brings numeric
as text; this turns it into decimals of the column's own precision, exactly.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import pandas as pd
import polars as pl
import pyarrow as pa


# --8<-- [start:connect]
def connect(url: str) -> adbc.Connection:
    """Connect within 5 seconds; a statement may take a minute."""
    limits = "connect_timeout=5&options=-c%20statement_timeout%3D60s"
    return adbc.connect(f"{url}{'&' if '?' in url else '?'}{limits}")


# --8<-- [end:connect]


# --8<-- [start:read]
@contextmanager
def open_reader(
    conn: adbc.Connection, query: str, parameters: Sequence[Any] = ()
) -> Iterator[pa.RecordBatchReader]:
    """A stream of batches of some megabytes each, open while the block is.

    parameters: for $1, $2 ... Raises ValueError for a numeric without a precision,
    adbc.Error, and OSError where the query or the line breaks after the start.
    """
    with conn.cursor() as cur:
        cur.execute(query, parameters or None)
        with cur.fetch_record_batch() as reader:
            schema = pa.schema([(f.name, _exact_type(f)) for f in reader.schema])
            yield reader.cast(schema)


def _exact_type(field: pa.Field) -> pa.DataType:
    if field.metadata[b"POSTGRESQL:type"] != b"numeric":
        return field.type
    # The modifier packs the precision and the scale; -1 says that there is none.
    modifier = int(field.metadata[b"POSTGRESQL:typmod"])
    precision, scale = (modifier - 4) >> 16, (modifier - 4) & 0x7FF
    if not 0 <= scale <= precision <= 38:
        raise ValueError(f"cast {field.name} to numeric(precision, scale) in the query")
    return pa.decimal128(precision, scale)


def read_to_arrow(
    conn: adbc.Connection, query: str, parameters: Sequence[Any] = ()
) -> pa.Table:
    """The whole result. Raises what open_reader raises."""
    with open_reader(conn, query, parameters) as reader:
        return reader.read_all()


# --8<-- [end:read]


# --8<-- [start:frames]
def to_polars(table: pa.Table) -> pl.DataFrame:
    """No copy of most columns."""
    return pl.DataFrame(table)


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Arrow types throughout: an integer column with NULL stays integer."""
    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


# --8<-- [end:frames]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)

SALES = """
CREATE TABLE sale AS
SELECT n AS id, nullif(n % 3, 0) AS pieces, (n * 1.10)::numeric(10, 2) AS price,
    timestamptz '2026-10-25 00:00Z' + n * interval '1 hour' AS at
FROM generate_series(1, 3) n
"""


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    with connect(url) as conn:
        with conn.cursor() as cur:
            cur.execute(SALES)
        conn.commit()
        table = read_to_arrow(conn, "SELECT * FROM sale WHERE price > $1", [1])
    frame = to_pandas(table)
    for name, of_polars in to_polars(table).schema.items():
        print(f"{name}: {of_polars} in polars, {frame.dtypes[name]} in pandas")
    print("sum of prices:", frame["price"].sum())


if __name__ == "__main__":
    main()
