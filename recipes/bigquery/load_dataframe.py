# /// script
# requires-python = ">=3.11"
# dependencies = ["google-cloud-bigquery>=3.40", "pandas>=3", "pyarrow>=22"]
# ///
"""Load a DataFrame into a table.

A load job takes the rows of a Parquet file, all or none, and is free of charge. With
the types written down, nothing is guessed, cut or rounded on the way from pandas.
"""

import os
import sys
from contextlib import closing
from decimal import Decimal
from io import BytesIO
from typing import Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

NO_SERVER = (
    "Set GOOGLE_CLOUD_PROJECT and BIGQUERY_DATASET; for an emulator also"
    " BIGQUERY_EMULATOR_HOST, for example http://127.0.0.1:19050"
    " after `docker compose up -d --wait bigquery`"
)
# --8<-- [start:schema]
TABLE = """
CREATE TABLE sale (id INT64 NOT NULL, postcode STRING,
    amount NUMERIC(18, 2) NOT NULL, sold_at TIMESTAMP NOT NULL)
"""
COLUMNS = pa.schema(  # the same, for pyarrow
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("postcode", pa.string()),
        pa.field("amount", pa.decimal128(18, 2), nullable=False),
        pa.field("sold_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)
# --8<-- [end:schema]


# --8<-- [start:convert]
def to_parquet(frame: pd.DataFrame, columns: pa.Schema) -> BytesIO:
    """The rows as a Parquet file of exactly these columns.

    Raises ValueError: other columns, a NULL that may not be, a value that would lose
    digits, a float for a decimal, a time without a zone.
    """
    if odd := set(frame.columns) ^ set(columns.names):
        raise ValueError(f"columns missing or unknown: {', '.join(sorted(odd))}")
    for field in columns:
        aware = isinstance(frame[field.name].dtype, pd.DatetimeTZDtype)
        if pa.types.is_timestamp(field.type) and not aware:
            raise ValueError(f"{field.name} is no column of times with a time zone")
    file = BytesIO()
    table = pa.Table.from_pandas(frame, columns, preserve_index=False)
    pq.write_table(table, file)
    return file


# --8<-- [end:convert]


# --8<-- [start:load]
def load(
    client: bigquery.Client,
    frame: pd.DataFrame,
    table: str,
    how: Literal["WRITE_TRUNCATE", "WRITE_APPEND"] = "WRITE_TRUNCATE",
) -> int:
    """Replace the rows of table ("dataset.table"), or append to them; all or nothing.

    Return how many were loaded. Raises ValueError (to_parquet), NotFound, BadRequest.
    """
    config = bigquery.LoadJobConfig(
        source_format="PARQUET",
        create_disposition="CREATE_NEVER",  # a typing error makes no new table
        write_disposition=how,
    )
    file = to_parquet(frame, COLUMNS)
    client.get_table(table, timeout=10)  # before anything is sent
    job = client.load_table_from_file(
        file, table, rewind=True, job_config=config, timeout=60
    )
    job.result(retry=bigquery.DEFAULT_RETRY.with_timeout(300), timeout=300)
    return len(frame)


# --8<-- [end:load]


def main() -> None:
    dataset = os.environ.get("BIGQUERY_DATASET") or sys.exit(NO_SERVER)
    key = AnonymousCredentials() if os.environ.get("BIGQUERY_EMULATOR_HOST") else None
    frame = pd.DataFrame(
        {
            "id": [1, 2],
            "postcode": ["00420", None],
            "amount": [Decimal("0.10"), Decimal("0.20")],
            "sold_at": pd.to_datetime(["2026-01-02 10:00Z", "2026-01-02 11:00Z"]),
        }
    )
    with closing(bigquery.Client(credentials=key)) as client:
        client.default_query_job_config = bigquery.QueryJobConfig(
            default_dataset=f"{client.project}.{dataset}"
        )
        client.query(TABLE).result(timeout=60)
        for _ in range(2):
            print(f"{load(client, frame, f'{dataset}.sale')} rows loaded")
        question = "SELECT COUNT(*) AS n, SUM(amount) AS total FROM sale"
        (row,) = client.query(question).result(timeout=60)
        print(f"the table holds {row.n} rows, {row.total:.2f} in all")
        try:
            load(client, frame.assign(amount=[0.1, 0.2]), f"{dataset}.sale")
        except ValueError:
            print("amounts as floats: refused")


if __name__ == "__main__":
    main()
