# /// script
# requires-python = ">=3.11"
# dependencies = ["google-cloud-bigquery>=3.40"]
# ///
"""Keep the lines of an order inside the order.

An array of structs holds the lines in the row of their order: no join, and one write.
For parts that are read and written with their whole, and never without it.
"""

import os
import sys
from contextlib import closing
from decimal import Decimal
from typing import Any, NamedTuple

from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery import ArrayQueryParameter
from google.cloud.bigquery import ScalarQueryParameter as Scalar
from google.cloud.bigquery import StructQueryParameter as Struct

NO_SERVER = (
    "Set GOOGLE_CLOUD_PROJECT and BIGQUERY_DATASET; for an emulator also"
    " BIGQUERY_EMULATOR_HOST, for example http://127.0.0.1:19050"
    " after `docker compose up -d --wait bigquery`"
)
RETRY = bigquery.DEFAULT_RETRY.with_timeout(30)
# --8<-- [start:schema]
SCHEMA = """CREATE TABLE orders (id INT64 NOT NULL, shipping NUMERIC(18, 2) NOT NULL,
    lines ARRAY<STRUCT<sku STRING, quantity INT64, price NUMERIC(18, 2)>>)
"""
# --8<-- [end:schema]


class Line(NamedTuple):
    sku: str
    quantity: int
    price: Decimal


def run(client: bigquery.Client, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    config = bigquery.QueryJobConfig(query_parameters=parameters, job_timeout_ms=60_000)
    job = client.query(sql, config, retry=RETRY, timeout=10, job_retry=None)
    return [row.values() for row in job.result(retry=RETRY, timeout=60)]


# --8<-- [start:save]
def save(client: bigquery.Client, id_: int, fee: Decimal, lines: list[Line]) -> None:
    """Insert the order with all its lines, as one row."""
    array = [
        Struct(
            None,  # nameless
            Scalar("sku", "STRING", line.sku),
            Scalar("quantity", "INT64", line.quantity),
            Scalar("price", "NUMERIC", line.price),
        )
        for line in lines
    ]
    # An empty array of structs has no type: leave it out.
    given = [ArrayQueryParameter("lines", "STRUCT", array)] if array else []
    run(
        client,
        "INSERT orders (id, shipping, lines)"
        f" VALUES (@id, @shipping, {'@lines' if array else '[]'})",
        Scalar("id", "INT64", id_),
        Scalar("shipping", "NUMERIC", fee),
        *given,
    )


# --8<-- [end:save]


# --8<-- [start:read]
def total(client: bigquery.Client) -> Decimal:
    """What all orders cost: every shipping once, and every line."""
    ((value,),) = run(
        client,
        "SELECT SUM(shipping + IFNULL("
        "(SELECT SUM(l.quantity * l.price) FROM UNNEST(o.lines) AS l), 0))"
        " FROM orders AS o",
    )
    return value or Decimal(0)


def orders_with(client: bigquery.Client, sku: str) -> list[int]:
    """The orders that hold that article, each once."""
    rows = run(
        client,
        "SELECT id FROM orders AS o WHERE EXISTS"
        " (SELECT 1 FROM UNNEST(o.lines) AS l WHERE l.sku = @sku) ORDER BY id",
        Scalar("sku", "STRING", sku),
    )
    return [number for (number,) in rows]


def flat(client: bigquery.Client) -> list[tuple[int, int | None, str | None]]:
    """Order, place and article of each line; None for both where there is no line."""
    rows = run(
        client,
        "SELECT o.id, place AS place, l.sku FROM orders AS o"
        " LEFT JOIN UNNEST(o.lines) AS l WITH OFFSET AS place ORDER BY o.id, place",
    )
    return [(number, place, sku) for number, place, sku in rows]


def buyers(client: bigquery.Client) -> dict[str, list[dict[str, Any]]]:
    """For each article the orders that hold it: arrays made of rows."""
    rows = run(
        client,
        "SELECT l.sku,"
        " ARRAY_AGG(STRUCT(o.id AS id, l.quantity AS quantity) ORDER BY o.id) AS ids"
        " FROM orders AS o CROSS JOIN UNNEST(o.lines) AS l GROUP BY l.sku",
    )
    return dict(rows)


# --8<-- [end:read]


def main() -> None:
    dataset = os.environ.get("BIGQUERY_DATASET") or sys.exit(NO_SERVER)
    key = AnonymousCredentials() if os.environ.get("BIGQUERY_EMULATOR_HOST") else None
    with closing(bigquery.Client(credentials=key)) as client:
        client.default_query_job_config = bigquery.QueryJobConfig(
            default_dataset=f"{client.project}.{dataset}"
        )
        run(client, SCHEMA)
        salt, oil = Line("salt", 2, Decimal("0.50")), Line("oil", 1, Decimal("9.90"))
        save(client, 1, Decimal(4), [salt, oil])
        save(client, 2, Decimal(4), [])
        print(f"total: {total(client):.2f}")
        print("orders with salt:", orders_with(client, "salt"))
        print(*flat(client), sep="\n")
        print("oil:", buyers(client)["oil"])


if __name__ == "__main__":
    main()
