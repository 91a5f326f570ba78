# /// script
# requires-python = ">=3.11"
# dependencies = ["pandas>=3", "pyarrow>=22", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Read a big table into pandas, a chunk at a time.

`chunksize` alone does not save memory: most drivers fetch the whole result first. Ask
for a stream, and name the types, or they change from chunk to chunk with the values.
"""

import os
import sys
from collections.abc import Generator

import pandas as pd
import pyarrow as pa
import sqlalchemy as sa


# --8<-- [start:read]
def read_in_chunks(
    engine: sa.Engine, query: sa.Executable, schema: pa.Schema, *, rows: int = 50_000
) -> Generator[pd.DataFrame, None, None]:
    """Yield frames of at most `rows` rows, whose columns have the types of the schema.

    Raises ValueError if the columns have other names, and pyarrow.ArrowException for a
    value that its type cannot hold.
    """
    with (
        engine.connect().execution_options(stream_results=True) as conn,
        conn.execute(query) as result,
    ):
        if list(result.keys()) != schema.names:
            raise ValueError(f"columns {list(result.keys())}, schema {schema.names}")
        for part in result.partitions(rows):
            # pandas would make floats of money, and of integers beside a NULL.
            columns = map(pa.array, zip(*part, strict=True))
            table = pa.table(list(columns), schema.names).cast(schema)
            yield table.to_pandas(types_mapper=pd.ArrowDtype)


# --8<-- [end:read]

NO_SERVER = (
    "Set DATABASE_URL, for example postgresql+psycopg://cook:cook@127.0.0.1:15432"
    "/cookbook or sqlite:///app.db"
)


def main() -> None:
    engine = sa.create_engine(os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER))
    sale = sa.Table(
        "sale",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("shop", sa.String(20), nullable=False),
        sa.Column("pieces", sa.Integer),
    )
    with engine.begin() as conn:
        sale.create(conn)
        new = [
            {"id": n, "shop": f"shop {n % 3}", "pieces": n % 7 or None}
            for n in range(1, 2501)
        ]
        conn.execute(sale.insert(), new)
    # --8<-- [start:use]
    columns = {"id": pa.int64(), "shop": pa.string(), "pieces": pa.int64()}
    pieces = pd.Series(dtype="int64[pyarrow]")
    for chunk in read_in_chunks(engine, sa.select(sale), pa.schema(columns), rows=1000):
        pieces = pieces.add(chunk.groupby("shop")["pieces"].sum(), fill_value=0)
        missing = chunk["pieces"].isna().sum()
        print(f"{len(chunk)} rows, {missing} NULL, {chunk['pieces'].dtype}")
    # --8<-- [end:use]
    for shop, total in pieces.items():
        print(f"{shop}: {total} pieces")
    engine.dispose()


if __name__ == "__main__":
    main()
