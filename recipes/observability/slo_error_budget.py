# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Keep an error budget.

99.5 % of the requests shall be good: answered, and fast. The other 0.5 % are a budget:
how much is left, how fast it burns, and a chart of it.
"""

import os
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import psycopg
from psycopg.rows import class_row

SCHEMA = """
CREATE TABLE request (
    at timestamptz NOT NULL, status smallint NOT NULL, seconds real NOT NULL
);
CREATE INDEX ON request (at);
"""
NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


# --8<-- [start:count]
class Day(NamedTuple):
    """The requests of a day, in UTC."""

    day: date
    total: int
    bad: int


def count_days(conn: psycopg.Connection, last: date, days: int = 28) -> list[Day]:
    """Each of the days that end with last; a day without requests counts 0 and 0.

    Bad is what the server broke, or what took over 0.3 s. A 404 is a good answer.
    """
    query = """
        SELECT day, count(at) AS total,
               count(*) FILTER (WHERE status >= 500 OR seconds > 0.3) AS bad
        FROM generate_series(0, %(days)s::int - 1) AS n
        CROSS JOIN LATERAL (SELECT %(last)s::date - n AS day) AS calendar
        LEFT JOIN request ON at >= day::timestamp AT TIME ZONE 'UTC'
                         AND at < (day + 1)::timestamp AT TIME ZONE 'UTC'
        GROUP BY day ORDER BY day
    """
    with conn.cursor(row_factory=class_row(Day)) as cursor:
        return cursor.execute(query, {"last": last, "days": days}).fetchall()


# --8<-- [end:count]


# --8<-- [start:budget]
def budget_left(days: list[Day], target: Decimal) -> list[Decimal]:
    """The share of the budget, (1 - target) of all requests, that each day leaves."""
    budget = (1 - target) * sum(day.total for day in days)
    if budget <= 0:
        raise ValueError("no requests, or a target that allows no error")
    return [1 - bad / budget for bad in accumulate(day.bad for day in days)]


def burn_rate(
    conn: psycopg.Connection, target: Decimal, now: datetime, window: timedelta
) -> Decimal | None:
    """How many times too fast the budget burns. None: no request in the window."""
    query = """
        SELECT count(*), count(*) FILTER (WHERE status >= 500 OR seconds > 0.3)
        FROM request WHERE at > %s AND at <= %s
    """
    total, bad = conn.execute(query, (now - window, now)).fetchone() or (0, 0)
    return Decimal(bad) / total / (1 - target) if total else None


# --8<-- [end:budget]


# --8<-- [start:draw]
def draw(days: list[Day], left: list[Decimal]) -> str:
    """An SVG: a line from 100 % down, and red where the budget is overspent."""
    height = 160 / (1 - min(Decimal(0), *left))
    zero = 20 + height
    points = " ".join(
        f"{40 + 600 * n / max(len(left) - 1, 1):.1f},{zero - it * height:.1f}"
        for n, it in enumerate(left)
    )
    color = "#c62828" if left[-1] < 0 else "#00695c"
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 660 210" role="img"
  font-family="sans-serif" font-size="12" fill="#333">
<title>Error budget left: {left[-1]:.0%} on {days[-1].day}</title>
<rect width="660" height="210" fill="#fff"/>
<path d="M40 20H640M40 {zero:.1f}H640" stroke="#999"/>
<text x="4" y="24">100%</text><text x="16" y="{zero:.1f}">0%</text>
<polyline points="{points}" fill="none" stroke="{color}" stroke-width="3"/>
<text x="40" y="200">{days[0].day}</text>
<text x="640" y="200" text-anchor="end">{days[-1].day}: {left[-1]:.0%} left</text>
</svg>
"""


# --8<-- [end:draw]


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    target, last = Decimal("0.995"), date(2026, 3, 28)
    with psycopg.connect(url, connect_timeout=5) as conn:
        conn.execute(SCHEMA)
        conn.execute("""
            INSERT INTO request SELECT timestamptz '2026-03-01 00:00Z' + n * interval
                '4 min', CASE WHEN n % 500 = 0 OR n BETWEEN 4000 AND 4024 THEN 503
                ELSE 200 END, 0.05 FROM generate_series(0, 28 * 360 - 1) AS n
        """)
        days = count_days(conn, last)
        left = budget_left(days, target)
        outage = datetime(2026, 3, 12, 4, tzinfo=UTC)
        rate = burn_rate(conn, target, outage, timedelta(hours=1))
    print("bad:", sum(day.bad for day in days), "of", sum(day.total for day in days))
    print(f"left: {left[10]:.0%} on {days[10].day}, {left[-1]:.0%} on {days[-1].day}")
    print(f"burn rate in the outage: {rate:.0f}")
    Path("error-budget.svg").write_text(draw(days, left), "utf-8")


if __name__ == "__main__":
    main()
