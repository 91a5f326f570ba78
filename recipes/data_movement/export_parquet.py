# /// script
# requires-python = ">=3.11"
# dependencies = ["adbc-driver-postgresql>=1.10", "duckdb>=1.4", "pyarrow>=22"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Export a query to a Parquet file of any size.

Batches go from the server to the file, one row group each, so memory stays flat. The
types of the table are those of the file; the file appears whole or not at all.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq


# --8<-- [start:export]
def export_parquet(
    conn: adbc.Connection, query: str, path: Path, parameters: Sequence[Any] = ()
) -> int:
    """Write the result to path, replacing it; return the number of rows.

    parameters: for $1, $2 ... Raises ValueError for a type that Parquet does not have,
    adbc.Error or OSError where the query or the line breaks; then path is untouched.
    """
    part = path.with_name(f"{path.name}.part")
    rows = 0
    with conn.cursor() as cur:
        cur.execute(query, parameters or None)
        with cur.fetch_record_batch() as reader:
            schema = pa.schema([(f.name, _exact_type(f)) for f in reader.schema])
            try:
                with pq.ParquetWriter(part, schema, compression="zstd") as writer:
                    for batch in reader.cast(schema):  # some 16 MB each
                        writer.write_batch(batch)
                        rows += batch.num_rows
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
    return rows


def _exact_type(field: pa.Field) -> pa.DataType:
    if not isinstance(field.type, pa.OpaqueType):
        return field.type
    if field.type.type_name != "numeric":
        raise ValueError(f"cast {field.name} to text in the query")
    # The modifier packs the precision and the scale; -1 says that there is none.
    modifier = int(field.metadata[b"POSTGRESQL:typmod"])
    precision, scale = (modifier - 4) >> 16, (modifier - 4) & 0x7FF
    if not 0 <= scale <= precision <= 38:
        raise ValueError(f"cast {field.name} to numeric(precision, scale) in the query")
    return pa.decimal128(precision, scale)


# --8<-- [end:export]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)

SALES = """
CREATE TABLE sale AS
SELECT n AS id, nullif(n % 3, 0) AS pieces, (n * 1.10)::numeric(10, 2) AS price,
    timestamptz '2026-10-25 00:00Z' + n * interval '1 second' AS at
FROM generate_series(1, 10000) n
"""


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    path = Path("sales.parquet")
    limits = "connect_timeout=5&options=-c%20statement_timeout%3D60s"
    with adbc.connect(f"{url}{'&' if '?' in url else '?'}{limits}") as conn:
        with conn.cursor() as cur:
            cur.execute(SALES)
        query = "SELECT * FROM sale WHERE id > $1 ORDER BY id"
        print(export_parquet(conn, query, path, [5000]), "rows exported")
    # --8<-- [start:use]
    with duckdb.connect() as duck:
        sales = duck.read_parquet(str(path))
        for name, kind in zip(sales.columns, sales.types, strict=True):
            print(f"{name}: {kind}")
        print("sum:", *sales.sum("price").fetchall()[0])
    # --8<-- [end:use]
    path.unlink()


if __name__ == "__main__":
    main()
