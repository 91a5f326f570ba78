# /// script
# requires-python = ">=3.11"
# dependencies = ["google-cloud-bigquery>=3.40"]
# ///
"""Partition and cluster a table.

BigQuery bills the bytes of the columns and partitions that a query reads. For a large
table that is asked by time: partitions by day, sorted inside, and a filter demanded.
"""

import os
import sys
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery import ScalarQueryParameter, SchemaField

NO_SERVER = (
    "Set GOOGLE_CLOUD_PROJECT and BIGQUERY_DATASET; for an emulator also"
    " BIGQUERY_EMULATOR_HOST, for example http://127.0.0.1:19050"
    " after `docker compose up -d --wait bigquery`"
)
RETRY = bigquery.DEFAULT_RETRY.with_timeout(30)


# --8<-- [start:table]
def sale_table(name: str) -> bigquery.Table:
    """The table as it should be. name: "project.dataset.table"."""
    table = bigquery.Table(
        name,
        schema=[
            SchemaField("sold_at", "TIMESTAMP", mode="REQUIRED"),
            SchemaField("customer", "STRING", mode="REQUIRED"),
            SchemaField("amount", "NUMERIC", mode="REQUIRED"),
        ],
    )
    table.time_partitioning = bigquery.TimePartitioning(
        type_=bigquery.TimePartitioningType.DAY,  # of UTC
        field="sold_at",
        expiration_ms=400 * 24 * 60 * 60 * 1000,  # older partitions are dropped
    )
    table.clustering_fields = ["customer"]  # the most asked for comes first
    table.require_partition_filter = True  # refuse a query that would read all days
    return table


# --8<-- [end:table]


# --8<-- [start:ensure]
def ensure(client: bigquery.Client, table: bigquery.Table) -> bigquery.Table:
    """Create the table, or check the one that is there; return it as the server has it.

    Raises ValueError where its partitions or clusters are others: those cannot simply
    be changed.
    """
    client.create_table(table, exists_ok=True, retry=RETRY, timeout=10)
    found = client.get_table(table.reference, retry=RETRY, timeout=10)
    for layout in ("time_partitioning", "clustering_fields"):
        is_, wanted = getattr(found, layout), getattr(table, layout)
        if is_ != wanted:
            raise ValueError(f"{table.table_id}: {layout} is {is_}, not {wanted}")
    return found


# --8<-- [end:ensure]


# --8<-- [start:total]
def total(client: bigquery.Client, table: str, customer: str, day: date) -> Decimal:
    """What the customer paid on that day of UTC; 0 where there is nothing."""
    start = datetime.combine(day, time(), UTC)
    config = bigquery.QueryJobConfig(
        query_parameters=[
            ScalarQueryParameter("customer", "STRING", customer),
            ScalarQueryParameter("since", "TIMESTAMP", start),
            ScalarQueryParameter("until", "TIMESTAMP", start + timedelta(days=1)),
        ]
    )
    job = client.query(
        f"SELECT SUM(amount) AS total FROM `{table}`"
        # The column itself, compared with constants: so other days are not read.
        " WHERE sold_at >= @since AND sold_at < @until AND customer = @customer",
        config,
        retry=RETRY,
        timeout=10,
        job_retry=None,
    )
    (row,) = job.result(retry=RETRY, timeout=60)
    return row.total or Decimal(0)


# --8<-- [end:total]


def main() -> None:
    dataset = os.environ.get("BIGQUERY_DATASET") or sys.exit(NO_SERVER)
    key = AnonymousCredentials() if os.environ.get("BIGQUERY_EMULATOR_HOST") else None
    with closing(bigquery.Client(credentials=key)) as client:
        name = f"{client.project}.{dataset}.sale"
        found = ensure(client, sale_table(name))
        assert found.time_partitioning
        print(f"partitioned by {found.time_partitioning.type_.lower()},", end=" ")
        print(f"of {found.time_partitioning.field}, clustered by", end=" ")
        print(*found.clustering_fields or [])
        client.query(
            f"INSERT `{name}` (sold_at, customer, amount) VALUES"
            " ('2026-01-02 23:59:59+00', 'anna', 5),"
            " ('2026-01-03 00:00:00+00', 'anna', 7)",
            retry=RETRY,
        ).result(retry=RETRY, timeout=60)
        for day in (date(2026, 1, 2), date(2026, 1, 3)):
            print(f"{day}: {total(client, name, 'anna', day):.2f}")


if __name__ == "__main__":
    main()
