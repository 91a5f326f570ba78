# /// script
# requires-python = ">=3.11"
# dependencies = ["prefect>=3.6", "psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Load one day at a time with a Prefect 3 flow.

Each task replaces its day in one transaction, so that a retry or a second run changes
nothing that is right already. The addresses stay in the environment of the worker:
Prefect stores the parameters of each run, and shows them.
"""

import os
import sys
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import psycopg
from prefect import State, Task, flow, task
from prefect.runtime import flow_run

SCHEMA = """
CREATE TABLE orders (id bigint PRIMARY KEY, placed timestamptz, amount numeric(12, 2));
CREATE TABLE sale   (id bigint PRIMARY KEY, placed timestamptz, amount numeric(12, 2));
CREATE TABLE sales_of_day (day date PRIMARY KEY, orders int, amount numeric(12, 2));
"""


# --8<-- [start:flow]
def connect(name: str) -> psycopg.Connection:
    """To the database whose address is in the environment variable of that name.

    Raises ValueError if it is no address, psycopg.OperationalError if nobody answers.
    """
    options = "-c statement_timeout=10min"
    try:
        return psycopg.connect(os.environ[name], connect_timeout=5, options=options)
    except psycopg.ProgrammingError:  # it quotes the address, maybe with the password
        raise ValueError(f"{name} is not the address of a database") from None


def may_pass(_task: Task[..., Any], _run: object, state: State[Any]) -> bool:
    """Is it worth another try? A line that was cut is, a row that is wrong is not."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, psycopg.OperationalError)


LIMITS: dict[str, Any] = {
    "retries": 3,  # safe: each task replaces what it wrote before
    "retry_delay_seconds": [10, 60, 300],
    "retry_condition_fn": may_pass,
    "timeout_seconds": 1800,
}


def bounds(day: date) -> tuple[datetime, datetime]:
    """The day's first moment, and that of the next day, in UTC."""
    start = datetime.combine(day, time(), UTC)
    return start, start + timedelta(days=1)


@task(**LIMITS)
def copy_orders(day: date) -> int:
    """Replace the sales of the day by the orders of the shop; return how many."""
    within = "WHERE placed >= %s AND placed < %s"
    read = f"COPY (SELECT id, placed, amount FROM orders {within}) TO STDOUT"
    with connect("SHOP_URL") as shop, connect("WAREHOUSE_URL") as warehouse:
        warehouse.execute("LOCK TABLE sale IN SHARE ROW EXCLUSIVE MODE")
        warehouse.execute(f"DELETE FROM sale {within}", bounds(day))
        into = warehouse.cursor()
        with (
            shop.cursor().copy(read, bounds(day)) as rows,
            into.copy("COPY sale (id, placed, amount) FROM STDIN") as copy,
        ):
            for block in rows:
                copy.write(block)
    return into.rowcount


@task(**LIMITS)
def sum_up(day: date, copied: int) -> Decimal:
    """Write the day's sums; return the amount.

    Raises ValueError, and writes nothing, if there are not as many sales as copied.
    """
    query = (
        "INSERT INTO sales_of_day SELECT %s, count(*), coalesce(sum(amount), 0)"
        " FROM sale WHERE placed >= %s AND placed < %s ON CONFLICT (day)"
        " DO UPDATE SET orders = excluded.orders, amount = excluded.amount"
        " RETURNING orders, amount"
    )
    with connect("WAREHOUSE_URL") as warehouse:
        (row,) = warehouse.execute(query, (day, *bounds(day)))
        if row[0] != copied:
            raise ValueError(f"{day}: {copied} copied, {row[0]} found")
    return Decimal(row[1])


@flow
def load_sales(day: date | None = None) -> Decimal:
    """Load a day; without one, the day before that for which the run is scheduled."""
    if day is None:
        scheduled = flow_run.scheduled_start_time.astimezone(UTC)
        day = scheduled.date() - timedelta(days=1)
    amount: Decimal = sum_up(day, copy_orders(day))
    return amount


# --8<-- [end:flow]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    os.environ |= {"SHOP_URL": url, "WAREHOUSE_URL": url}
    with psycopg.connect(url, connect_timeout=5) as conn:
        conn.execute(SCHEMA)
        rows = "(1, '2026-01-05 08:00Z', 9.90), (2, '2026-01-05 23:59Z', 0.10)"
        conn.execute(f"INSERT INTO orders VALUES {rows}, (3, '2026-01-06', 5)")
    # The tasks' functions alone: a run, with its states, needs Prefect's server.
    for number in (5, 6, 6):
        day = date(2026, 1, number)
        copied = copy_orders.fn(day)
        print(f"{day}: {copied} orders, {sum_up.fn(day, copied)}")


if __name__ == "__main__":
    main()
