# /// script
# requires-python = ">=3.11"
# dependencies = ["google-cloud-bigquery>=3.40"]
# ///
"""Know what a query costs before it runs, and cap it.

A dry run reads nothing and costs nothing, and tells how many bytes the query would
process. For queries that people or programs put together: estimate, compare, then run.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal
from typing import Any

from google.api_core.exceptions import BadRequest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

NO_SERVER = (
    "Set GOOGLE_CLOUD_PROJECT and BIGQUERY_DATASET; for an emulator also"
    " BIGQUERY_EMULATOR_HOST, for example http://127.0.0.1:19050"
    " after `docker compose up -d --wait bigquery`"
)
RETRY = bigquery.DEFAULT_RETRY.with_timeout(30)


# --8<-- [start:estimate]
def estimate(client: bigquery.Client, sql: str, parameters: Sequence[Any] = ()) -> int:
    """The bytes that the query would process. Raises BadRequest if it is wrong."""
    config = bigquery.QueryJobConfig(
        dry_run=True,
        use_query_cache=False,  # a cached answer is estimated at 0
        query_parameters=parameters,
    )
    job = client.query(sql, config, retry=RETRY, timeout=10, job_retry=None)
    if job.total_bytes_processed is None:
        raise RuntimeError("the answer to the dry run holds no estimate")
    return int(job.total_bytes_processed)


def price(bytes_: int, per_tebibyte: Decimal) -> Decimal:
    """What so many bytes cost on demand, in the currency of per_tebibyte, unrounded."""
    return per_tebibyte * bytes_ / 2**40


# --8<-- [end:estimate]

# --8<-- [start:run]
LEAST = 10 * 2**20  # bytes: what the smallest query on a table is billed


class TooExpensiveError(Exception):
    """The estimate is above the budget. The query was not run."""


def run_within(
    client: bigquery.Client, budget: int, sql: str, parameters: Sequence[Any] = ()
) -> list[bigquery.Row]:
    """Run sql if it is estimated at budget bytes at most; return all its rows.

    Raises TooExpensiveError before it runs, and the service's own error where it would
    bill more in the end: the table may have grown since.
    """
    expected = estimate(client, sql, parameters)
    if expected > budget:
        raise TooExpensiveError(f"{expected} bytes expected, {budget} allowed")
    config = bigquery.QueryJobConfig(
        maximum_bytes_billed=max(budget, LEAST),
        query_parameters=parameters,
        job_timeout_ms=60_000,
    )
    job = client.query(sql, config, retry=RETRY, timeout=10, job_retry=None)
    return list(job.result(retry=RETRY, timeout=60))


# --8<-- [end:run]


def main() -> None:
    dataset = os.environ.get("BIGQUERY_DATASET") or sys.exit(NO_SERVER)
    key = AnonymousCredentials() if os.environ.get("BIGQUERY_EMULATOR_HOST") else None
    with closing(bigquery.Client(credentials=key)) as client:
        client.default_query_job_config = bigquery.QueryJobConfig(
            default_dataset=f"{client.project}.{dataset}"
        )
        client.query(
            "CREATE TABLE visit AS SELECT 'home' AS page, 3 AS seconds"
        ).result()
        delete = "DELETE FROM visit WHERE TRUE"
        estimate(client, delete)
        for row in run_within(client, 10**9, "SELECT page, seconds FROM visit"):
            print(f"still there after the dry run of a DELETE: {row.page}")
        try:
            estimate(client, "SELECT pages FROM visit")
        except BadRequest:
            print("a wrong query is found without running it")
        print(f"50 GiB at 6.25 a TiB: {price(50 * 2**30, Decimal('6.25')):.2f}")


if __name__ == "__main__":
    main()
