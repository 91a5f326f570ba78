# /// script
# requires-python = ">=3.11"
# dependencies = ["google-cloud-bigquery>=3.40", "psycopg[binary]>=3.2"]
# [tool.cookbook]
# needs = ["postgresql", "bigquery"]
# ///
"""Copy what has changed from PostgreSQL to BigQuery.

Orders are taken in PostgreSQL and analysed in BigQuery. Every few minutes the rows that
have changed are merged into the warehouse: none is missed, and a repeat does no harm.
"""

import os
import sys
from contextlib import closing
from typing import Any

import psycopg
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery import ArrayQueryParameter
from google.cloud.bigquery import ScalarQueryParameter as Scalar
from google.cloud.bigquery import StructQueryParameter as Struct

NO_POSTGRESQL = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)
NO_BIGQUERY = (
    "Set GOOGLE_CLOUD_PROJECT and BIGQUERY_DATASET; for an emulator also"
    " BIGQUERY_EMULATOR_HOST, for example http://127.0.0.1:19050"
    " after `docker compose up -d --wait bigquery`"
)
RETRY = bigquery.DEFAULT_RETRY.with_timeout(60)
# --8<-- [start:schema]
SOURCE = """
CREATE TABLE orders (id bigint PRIMARY KEY, status text NOT NULL,
    amount numeric(18, 2) NOT NULL,
    version xid8 NOT NULL DEFAULT pg_current_xact_id()); -- who wrote the row last
CREATE INDEX ON orders (version);
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.version := pg_current_xact_id(); RETURN NEW; END $$;
CREATE TRIGGER stamp BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION stamp();
"""
TARGET = """
CREATE TABLE orders (id INT64 NOT NULL, status STRING, amount NUMERIC(18, 2),
    version INT64 NOT NULL);
CREATE TABLE synced (until INT64 NOT NULL);
"""
# --8<-- [end:schema]


# --8<-- [start:sync]
def sync(source: psycopg.Connection, target: bigquery.Client, batch: int = 1000) -> int:
    """Merge what has changed since the last time; return how many rows that changed.

    Raises what the drivers raise. Then call again: nothing is lost, and nothing twice.
    """
    ((since,),) = run(target, "SELECT IFNULL(MAX(until), 0) FROM synced")
    changed = 0
    source.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with source.transaction(), source.cursor("changes") as cursor:
        # All transactions below this number have ended: their rows are in our snapshot.
        until = source.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
        cursor.execute(
            "SELECT id, status, amount, version::text::bigint FROM orders"
            " WHERE version >= %s::text::xid8",
            (str(since),),
        )
        while rows := cursor.fetchmany(batch):
            changed += merge(target, rows)
        (upper,) = until.fetchone() or (since,)
    # Last, and on its own: after a crash before it, the same rows are merged again.
    run(target, "INSERT synced (until) VALUES (@u)", Scalar("u", "INT64", int(upper)))
    return changed


# --8<-- [end:sync]


# --8<-- [start:merge]
MERGE = """
MERGE orders AS t USING (
    SELECT r.id, r.status, r.amount, r.version FROM UNNEST(@batch) AS r
) AS s ON t.id = s.id
WHEN MATCHED AND s.version > t.version THEN
    UPDATE SET status = s.status, amount = s.amount, version = s.version
WHEN NOT MATCHED THEN
    INSERT (id, status, amount, version) VALUES (s.id, s.status, s.amount, s.version)
"""
TYPES = {"id": "INT64", "status": "STRING", "amount": "NUMERIC", "version": "INT64"}


def merge(target: bigquery.Client, rows: list[tuple[Any, ...]]) -> int:
    """Insert what is new, replace what is older; return how many rows that changed."""
    structs = [Struct(None, *map(Scalar, TYPES, TYPES.values(), row)) for row in rows]
    job = start(target, MERGE, ArrayQueryParameter("batch", "STRUCT", structs))
    job.result(retry=RETRY, timeout=300)
    return job.num_dml_affected_rows or 0


# --8<-- [end:merge]


def start(target: bigquery.Client, sql: str, *parameters: Any) -> bigquery.QueryJob:
    config = bigquery.QueryJobConfig(query_parameters=parameters)
    return target.query(sql, config, retry=RETRY, timeout=10, job_retry=None)


def run(target: bigquery.Client, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    rows = start(target, sql, *parameters).result(retry=RETRY, timeout=300)
    return [row.values() for row in rows]


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_POSTGRESQL)
    dataset = os.environ.get("BIGQUERY_DATASET") or sys.exit(NO_BIGQUERY)
    key = AnonymousCredentials() if os.environ.get("BIGQUERY_EMULATOR_HOST") else None
    with (
        closing(bigquery.Client(credentials=key)) as target,
        psycopg.connect(
            url, autocommit=True, connect_timeout=5, options="-c statement_timeout=1min"
        ) as source,
    ):
        target.default_query_job_config = bigquery.QueryJobConfig(
            default_dataset=f"{target.project}.{dataset}"
        )
        run(target, TARGET)
        source.execute(SOURCE)
        source.execute("INSERT INTO orders VALUES (1, 'new', 9.90), (2, 'new', 0.50)")
        print("changed:", sync(source, target))
        source.execute("UPDATE orders SET status = 'paid' WHERE id = 2")
        print("changed:", sync(source, target))
        print("changed:", sync(source, target))
        for row in run(target, "SELECT id, status, amount FROM orders ORDER BY id"):
            print("order {}: {}, {:.2f}".format(*row))


if __name__ == "__main__":
    main()
