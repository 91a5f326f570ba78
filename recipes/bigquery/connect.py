# /// script
# requires-python = ">=3.11"
# dependencies = ["google-cloud-bigquery>=3.40"]
# ///
"""Connect to BigQuery, with limits on time and cost.

The client waits for ever and retries for ten minutes, and a query may scan and bill
any amount. Set the limits once, where the client is made, for every query of a program.
"""

import os
import sys
from contextlib import closing
from typing import Any

from google.api_core.exceptions import BadRequest, NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

NO_SERVER = (
    "Set GOOGLE_CLOUD_PROJECT and BIGQUERY_DATASET; for an emulator also"
    " BIGQUERY_EMULATOR_HOST, for example http://127.0.0.1:19050"
    " after `docker compose up -d --wait bigquery`"
)


# --8<-- [start:connect]
def connect(
    project: str, dataset: str, *, wait: float = 60, gigabytes: int = 10
) -> bigquery.Client:
    """A client whose queries run for wait seconds and bill 10**9 * gigabytes at most.

    A table name without a dataset means one of dataset. Raises NotFound where there is
    no such dataset, Forbidden, DefaultCredentialsError, RetryError after wait seconds.
    """
    limits = bigquery.QueryJobConfig(
        default_dataset=f"{project}.{dataset}",
        job_timeout_ms=int(wait * 1000),  # ends it on the server as well
        maximum_bytes_billed=gigabytes * 10**9,
        labels={"app": "cookbook"},  # who ran it, in the bill
    )
    emulator = os.environ.get("BIGQUERY_EMULATOR_HOST")  # the client reads it too
    client = bigquery.Client(
        project,
        # None means Application Default Credentials: no key file in the program.
        credentials=AnonymousCredentials() if emulator else None,
        default_query_job_config=limits,
    )
    retry = bigquery.DEFAULT_RETRY.with_timeout(wait)
    try:
        client.get_dataset(dataset, retry=retry, timeout=min(10, wait))
    except BaseException:
        client.close()
        raise
    return client


# --8<-- [end:connect]


# --8<-- [start:query]
def query(
    client: bigquery.Client, sql: str, wait: float = 60, attempt: float = 10
) -> list[dict[str, Any]]:
    """Run sql and return its rows by name. Each request gets attempt seconds, and the
    repeated ones wait seconds together.

    Raises BadRequest, NotFound or Forbidden at once; TimeoutError or RetryError later.
    """
    retry = bigquery.DEFAULT_RETRY.with_timeout(wait)
    # Unless job_retry is None, it retries for ten minutes what `retry` gave up.
    job = client.query(sql, retry=retry, timeout=attempt, job_retry=None)
    return [dict(row) for row in job.result(retry=retry, timeout=wait)]


# --8<-- [end:query]


def main() -> None:
    project = os.environ.get("GOOGLE_CLOUD_PROJECT") or sys.exit(NO_SERVER)
    dataset = os.environ.get("BIGQUERY_DATASET") or sys.exit(NO_SERVER)
    with closing(connect(project, dataset)) as client:
        query(client, "CREATE TABLE visit (page STRING, seconds INT64)")
        query(client, "INSERT visit VALUES ('home', 3), ('home', 5), ('help', 60)")
        for row in query(
            client,
            "SELECT page, AVG(seconds) AS mean FROM visit GROUP BY page ORDER BY 1",
        ):
            print("{page}: {mean:.0f} s".format(**row))
        for wrong in ("SELECT nothing FROM visit", "SELECT * FROM visits"):
            try:
                query(client, wrong)
            except (BadRequest, NotFound) as error:
                print(f"{wrong}: {type(error).__name__}")


if __name__ == "__main__":
    main()
