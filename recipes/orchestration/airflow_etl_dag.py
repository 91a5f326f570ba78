# /// script
# requires-python = ">=3.11"
# dependencies = ["apache-airflow>=3.3", "psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Load one day at a time with an Airflow 3 DAG.

Each task replaces its day in one transaction. So a retry, a run that is cleared and a
backfill change nothing that is right already, and a failure leaves nothing half done.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
from airflow.sdk import Connection, CronDataIntervalTimetable, dag, task
from airflow.sdk.exceptions import AirflowFailException

SCHEMA = """
CREATE TABLE orders (id bigint PRIMARY KEY, placed timestamptz, amount numeric(12, 2));
CREATE TABLE sale   (id bigint PRIMARY KEY, placed timestamptz, amount numeric(12, 2));
CREATE TABLE sales_of_day (day date PRIMARY KEY, orders int, amount numeric(12, 2));
"""


# --8<-- [start:dag]
def connect(conn_id: str) -> psycopg.Connection:
    """As Airflow's connection says, with what is in its extra, such as sslmode."""
    uri = Connection.get(conn_id).get_uri()
    options = "-c statement_timeout=10min"
    return psycopg.connect(uri, connect_timeout=5, options=options)


def interval(context: Mapping[str, Any]) -> tuple[datetime, datetime]:
    """The bounds of the run's interval, the end not included.

    Raises AirflowFailException, which is not retried, if the run has none.
    """
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    if start is None or end is None or start >= end:
        raise AirflowFailException(f"no interval to load: {start} to {end}")
    return start, end


@task
def copy_orders(**context: Any) -> int:
    """Replace the sales of the interval by the orders of the shop; return how many."""
    bounds = interval(context)
    within = "WHERE placed >= %s AND placed < %s"
    read = f"COPY (SELECT id, placed, amount FROM orders {within}) TO STDOUT"
    with connect("shop") as shop, connect("warehouse") as warehouse:
        warehouse.execute(f"DELETE FROM sale {within}", bounds)
        into = warehouse.cursor()
        with (
            shop.cursor().copy(read, bounds) as rows,
            into.copy("COPY sale (id, placed, amount) FROM STDIN") as copy,
        ):
            for block in rows:
                copy.write(block)
    return into.rowcount


@task
def sum_up(**context: Any) -> None:
    """Write the day's sums; a day without a sale gets its row as well."""
    start, end = interval(context)
    query = (
        "INSERT INTO sales_of_day SELECT %s, count(*), coalesce(sum(amount), 0)"
        " FROM sale WHERE placed >= %s AND placed < %s ON CONFLICT (day)"
        " DO UPDATE SET orders = excluded.orders, amount = excluded.amount"
    )
    with connect("warehouse") as warehouse:
        warehouse.execute(query, (start.date(), start, end))


@dag(
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    default_args={
        "retries": 3,  # safe: each task replaces what it wrote before
        "retry_delay": timedelta(minutes=1),
        "execution_timeout": timedelta(minutes=30),
    },
)
def sales_etl() -> None:
    copy_orders() >> sum_up()


etl = sales_etl()
# --8<-- [end:dag]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)
TEST = """
from airflow.__main__ import main
from airflow.sdk import timezone
from airflow_etl_dag import etl

main()  # airflow db migrate
for day in (6, 7, 7):
    run = etl.test(logical_date=timezone.datetime(2026, 1, day))
    assert run.state == "success"
"""


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    with psycopg.connect(url, connect_timeout=5) as conn:
        conn.execute(SCHEMA)
        rows = "(1, '2026-01-05 08:00Z', 9.90), (2, '2026-01-05 23:59Z', 0.10)"
        conn.execute(f"INSERT INTO orders VALUES {rows}, (3, '2026-01-06', 5)")
    with TemporaryDirectory() as home:
        env = {"AIRFLOW_HOME": home, "AIRFLOW__CORE__DAGS_FOLDER": __file__}
        env |= {"AIRFLOW_CONN_SHOP": url, "AIRFLOW_CONN_WAREHOUSE": url}
        command = [sys.executable, "-c", TEST, "db", "migrate"]
        here = Path(__file__).parent
        subprocess.run(
            command, env=os.environ | env, cwd=here, check=True, capture_output=True
        )
    with psycopg.connect(url, connect_timeout=5) as conn:
        for row in conn.execute("SELECT * FROM sales_of_day ORDER BY day"):
            print("{}: {} orders, {}".format(*row))


if __name__ == "__main__":
    main()
