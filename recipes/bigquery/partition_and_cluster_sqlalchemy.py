# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "google-cloud-bigquery>=3.40", "sqlalchemy>=2.1", "sqlalchemy-bigquery>=1.16",
# ]
# ///
"""Partition and cluster a table, declared with SQLAlchemy.

The options of the dialect are keywords of Table, and a misspelled one is dropped
without a word. For a large table that costs money, so the names are checked first.
"""

import os
import sys
from contextlib import closing
from datetime import UTC, datetime

from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from sqlalchemy import (
    NUMERIC,
    TIMESTAMP,
    Column,
    Engine,
    MetaData,
    String,
    Table,
    create_engine,
    insert,
    select,
)
from sqlalchemy.schema import CreateTable
from sqlalchemy_bigquery.base import BigQueryDDLCompiler

NO_SERVER = (
    "Set GOOGLE_CLOUD_PROJECT and BIGQUERY_DATASET; for an emulator also"
    " BIGQUERY_EMULATOR_HOST, for example http://127.0.0.1:19050"
    " after `docker compose up -d --wait bigquery`"
)

# --8<-- [start:table]
metadata = MetaData()
sale = Table(
    "sale",
    metadata,
    Column("sold_at", TIMESTAMP, nullable=False),
    Column("customer", String, nullable=False),
    Column("amount", NUMERIC(18, 2), nullable=False),
    bigquery_time_partitioning=bigquery.TimePartitioning(
        type_=bigquery.TimePartitioningType.DAY,
        field="sold_at",
        expiration_ms=400 * 24 * 60 * 60 * 1000,
    ),
    bigquery_clustering_fields=["customer"],
    bigquery_require_partition_filter=True,
)
# --8<-- [end:table]

# --8<-- [start:create]
KNOWN = {"time_partitioning", "range_partitioning", "clustering_fields", "description"}
KNOWN |= set(BigQueryDDLCompiler.option_datatype_mapping)


def check_options(metadata: MetaData) -> None:
    """Raises ValueError for an option that the dialect would drop."""
    for table in metadata.tables.values():
        names = {name for name in table.dialect_kwargs if name.startswith("bigquery_")}
        if odd := names - {f"bigquery_{name}" for name in KNOWN}:
            raise ValueError(f"{table.name}: no such option: {', '.join(sorted(odd))}")


def create(engine: Engine, metadata: MetaData) -> None:
    """Create the tables that are not there. Raises ValueError (check_options)."""
    check_options(metadata)
    metadata.create_all(engine)


# --8<-- [end:create]


# --8<-- [start:engine]
def make_engine(client: bigquery.Client, dataset: str) -> Engine:
    """An engine for the tables of dataset. Make one, keep it, dispose of it at the end.

    There are no transactions: each statement is on its own, and commit() does nothing.
    """
    return create_engine(
        f"bigquery://{client.project}?user_supplied_client=true",
        connect_args={"client": client},
        execution_options={"schema_translate_map": {None: dataset}},
    )


# --8<-- [end:engine]


def main() -> None:
    dataset = os.environ.get("BIGQUERY_DATASET") or sys.exit(NO_SERVER)
    key = AnonymousCredentials() if os.environ.get("BIGQUERY_EMULATOR_HOST") else None
    with closing(bigquery.Client(credentials=key)) as client:
        engine = make_engine(client, dataset)
        create(engine, metadata)
        ddl = str(CreateTable(sale).compile(engine)).strip().splitlines()
        print(*(line.lstrip(") ") for line in ddl if " BY " in line), sep="\n")
        with engine.connect() as conn:
            row = {"sold_at": datetime(2026, 1, 2, tzinfo=UTC), "customer": "anna"}
            conn.execute(insert(sale), row | {"amount": 5})
            found = conn.execute(select(sale.c.customer, sale.c.amount))
            print(*("{} paid {:.2f}".format(*one) for one in found))
        engine.dispose()


if __name__ == "__main__":
    main()
