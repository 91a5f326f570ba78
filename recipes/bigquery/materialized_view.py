# /// script
# requires-python = ">=3.11"
# dependencies = ["google-cloud-bigquery>=3.40"]
# ///
"""Keep a summary up to date with a materialized view.

Many dashboards ask a large table the same sums. BigQuery keeps them in a view, adds
what has changed since, and answers from there: current, for a fraction of the bytes.
"""

import os
import sys
from contextlib import closing
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

from google.api_core.exceptions import NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery import ScalarQueryParameter

NO_SERVER = (
    "Set GOOGLE_CLOUD_PROJECT and BIGQUERY_DATASET; for an emulator also"
    " BIGQUERY_EMULATOR_HOST, for example http://127.0.0.1:19050"
    " after `docker compose up -d --wait bigquery`"
)
RETRY = bigquery.DEFAULT_RETRY.with_timeout(30)
TABLE = """
CREATE TABLE sale (customer STRING NOT NULL, sold_at TIMESTAMP NOT NULL,
    amount NUMERIC(18, 2) NOT NULL)
"""
# --8<-- [start:view]
# Only what can be added up: SUM and COUNT. A mean of means would be wrong.
VIEW = """
CREATE MATERIALIZED VIEW revenue AS
SELECT customer, DATE(sold_at) AS day, SUM(amount) AS amount, COUNT(*) AS sales
FROM sale GROUP BY customer, day
"""
# --8<-- [end:view]


class Revenue(NamedTuple):
    customer: str
    amount: Decimal
    sales: int

    @property
    def mean(self) -> Decimal:
        """Of one sale, unrounded."""
        return self.amount / self.sales


# --8<-- [start:run]
def run(client: bigquery.Client, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Run sql and return its rows."""
    config = bigquery.QueryJobConfig(query_parameters=parameters, job_timeout_ms=60_000)
    job = client.query(sql, config, retry=RETRY, timeout=10, job_retry=None)
    return [row.values() for row in job.result(retry=RETRY, timeout=60)]


# --8<-- [end:run]


# --8<-- [start:create]
def create_view(client: bigquery.Client, name: str) -> None:
    """Create the view, filled from the table. One that is there already is checked.

    name: "project.dataset.revenue". Raises ValueError where that is something else, or
    an older view, with other columns.
    """
    try:
        found = client.get_table(name, retry=RETRY, timeout=10)
    except NotFound:
        run(client, VIEW)
        return
    if found.table_type != "MATERIALIZED_VIEW":
        raise ValueError(f"{name} is a {found.table_type}")
    columns = [field.name for field in found.schema]
    if columns != ["customer", "day", "amount", "sales"]:
        raise ValueError(f"{name} has the columns {', '.join(columns)}: drop it first")


# --8<-- [end:create]


# --8<-- [start:read]
def revenue(client: bigquery.Client, first: date, last: date) -> list[Revenue]:
    """The revenue of each customer from the first day to the last, both included."""
    rows = run(
        client,
        "SELECT customer, SUM(amount) AS amount, SUM(sales) AS sales FROM revenue"
        " WHERE day BETWEEN @first AND @last GROUP BY customer ORDER BY customer",
        ScalarQueryParameter("first", "DATE", first),
        ScalarQueryParameter("last", "DATE", last),
    )
    return [Revenue(*row) for row in rows]


# --8<-- [end:read]


def main() -> None:
    dataset = os.environ.get("BIGQUERY_DATASET") or sys.exit(NO_SERVER)
    key = AnonymousCredentials() if os.environ.get("BIGQUERY_EMULATOR_HOST") else None
    with closing(bigquery.Client(credentials=key)) as client:
        client.default_query_job_config = bigquery.QueryJobConfig(
            default_dataset=f"{client.project}.{dataset}"
        )
        run(client, TABLE)
        create_view(client, f"{client.project}.{dataset}.revenue")
        for amount in ("9.90", "0.50"):
            run(
                client,
                "INSERT sale (customer, sold_at, amount)"
                " VALUES ('anna', TIMESTAMP '2026-01-02 10:00:00+00', @amount)",
                ScalarQueryParameter("amount", "NUMERIC", Decimal(amount)),
            )
            (anna,) = revenue(client, date(2026, 1, 1), date(2026, 1, 31))
            print(f"{anna.sales} sales, {anna.amount:.2f}, mean {anna.mean:.2f}")


if __name__ == "__main__":
    main()
