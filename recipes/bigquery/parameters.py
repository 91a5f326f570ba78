# /// script
# requires-python = ">=3.11"
# dependencies = ["google-cloud-bigquery>=3.40"]
# ///
"""Pass values to a query, not text.

Each parameter has a name, a type of BigQuery and a value: a list for IN, rows for
INSERT, NULL as None. Names of columns cannot be parameters: they come from a list.
"""

import os
import sys
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery import ArrayQueryParameter, QueryJobConfig
from google.cloud.bigquery import ScalarQueryParameter as Scalar
from google.cloud.bigquery import StructQueryParameter as Struct

NO_SERVER = (
    "Set GOOGLE_CLOUD_PROJECT and BIGQUERY_DATASET; for an emulator also"
    " BIGQUERY_EMULATOR_HOST, for example http://127.0.0.1:19050"
    " after `docker compose up -d --wait bigquery`"
)
SCHEMA = """
CREATE TABLE payment (id INT64 NOT NULL, payer STRING,
    amount NUMERIC(18, 2) NOT NULL, paid_at TIMESTAMP NOT NULL)
"""
Payment = tuple[int, str | None, Decimal, datetime]


# --8<-- [start:run]
def run(client: bigquery.Client, sql: str, *parameters: Any) -> bigquery.QueryJob:
    """Run sql with parameters, wait for its end and return the job."""
    config = QueryJobConfig(query_parameters=parameters, job_timeout_ms=60_000)
    retry = bigquery.DEFAULT_RETRY.with_timeout(60)
    job = client.query(sql, config, retry=retry, timeout=10, job_retry=None)
    job.result(retry=retry, timeout=60)
    return job


# --8<-- [end:run]

# --8<-- [start:find]
ORDERS = {
    "newest": "paid_at DESC",
    "largest": "amount DESC",
}  # no value, so no parameter


def find(
    client: bigquery.Client,
    *,
    prefix: str = "",
    ids: list[int] | None = None,
    since: datetime,
    order: str = "newest",
) -> list[Payment]:
    """Payments of payers whose name starts with prefix, of those ids, since then.

    ids=None means all, ids=[] none. Raises ValueError: unknown order, naive datetime.
    """
    if order not in ORDERS:
        raise ValueError(f"order is one of {', '.join(ORDERS)}, not {order!r}")
    job = run(
        client,
        "SELECT id, payer, amount, paid_at FROM payment"
        " WHERE STARTS_WITH(IFNULL(payer, ''), @prefix)"  # LIKE would read % and _
        " AND (@all_ids OR id IN UNNEST(@ids)) AND paid_at >= @since"
        f" ORDER BY {ORDERS[order]}, id",
        Scalar("prefix", "STRING", prefix),
        Scalar("all_ids", "BOOL", ids is None),
        ArrayQueryParameter("ids", "INT64", ids or []),
        Scalar("since", "TIMESTAMP", aware(since)),
    )
    return [row.values() for row in job.result(timeout=60)]


def aware(moment: datetime) -> datetime:
    """Raises ValueError for a naive one: BigQuery would take it for UTC."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone")
    return moment


# --8<-- [end:find]


# --8<-- [start:insert]
def insert(client: bigquery.Client, payments: Iterable[Payment]) -> int:
    """Insert all payments with one statement: all of them or none. Return the count."""
    rows = [
        Struct(
            None,
            Scalar("id", "INT64", number),
            Scalar("payer", "STRING", payer),  # None becomes NULL
            Scalar("amount", "NUMERIC", amount),  # a Decimal, exactly
            Scalar("paid_at", "TIMESTAMP", aware(paid_at)),
        )
        for number, payer, amount, paid_at in payments
    ]
    if not rows:  # an empty array of structs has no type
        return 0
    job = run(
        client,
        "INSERT payment (id, payer, amount, paid_at)"
        " SELECT r.id, r.payer, r.amount, r.paid_at FROM UNNEST(@payments) AS r",
        ArrayQueryParameter("payments", "STRUCT", rows),
    )
    return int(job.num_dml_affected_rows or 0)


# --8<-- [end:insert]


def main() -> None:
    dataset = os.environ.get("BIGQUERY_DATASET") or sys.exit(NO_SERVER)
    key = AnonymousCredentials() if os.environ.get("BIGQUERY_EMULATOR_HOST") else None
    with closing(bigquery.Client(credentials=key)) as client:
        client.default_query_job_config = QueryJobConfig(
            default_dataset=f"{client.project}.{dataset}"
        )
        run(client, SCHEMA)
        day = datetime(2026, 1, 2, tzinfo=UTC)
        one = (1, "O'Brien", Decimal("999999999999999.99"), day)
        count = insert(client, [one, (2, None, Decimal(5), day)])
        print(f"{count} payments inserted")
        for number, payer, amount, _ in find(client, prefix="O'", since=day):
            print(f"payment {number} of {payer}: {amount:.2f}")
        print("as text:", find(client, prefix="' OR '1'='1", since=day))


if __name__ == "__main__":
    main()
