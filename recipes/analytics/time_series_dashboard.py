# /// script
# requires-python = ">=3.11"
# dependencies = ["matplotlib>=3.10", "psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Draw a dashboard of a time series.

Requests and their latency, in steps of equal length. An outage shows as a gap and not
as a line, the slow tail is not averaged away, and the page suits light and dark.
"""

import os
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from io import StringIO
from math import nan
from pathlib import Path
from zoneinfo import ZoneInfo

import matplotlib as mpl
import psycopg
from matplotlib.figure import Figure
from psycopg.rows import class_row

# --8<-- [start:read]
SCHEMA = """
CREATE TABLE request (at timestamptz NOT NULL, ms double precision NOT NULL);
CREATE INDEX ON request (at)"""
READ = """
SELECT step.at, count(ms) AS requests,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) AS median,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY ms) AS p95
FROM generate_series(%(start)s, %(end)s - %(step)s, %(step)s) AS step (at)
LEFT JOIN request ON request.at >= step.at AND request.at < step.at + %(step)s
GROUP BY step.at ORDER BY step.at"""


@dataclass(frozen=True)
class Point:
    """The requests of a step; where there are none, their milliseconds are None."""

    at: datetime
    requests: int
    median: float | None
    p95: float | None


def read_series(
    conn: psycopg.Connection, start: datetime, end: datetime, step: timedelta
) -> list[Point]:
    """A point for every step from start to before end, the empty ones too.

    Raises ValueError: start or end has no time zone, the steps do not fill the time
    between, or a step is a day or more: days are not of equal length.
    """
    if start.tzinfo is None or end.tzinfo is None:
        raise ValueError("start and end need a time zone")
    span, day = end - start, timedelta(days=1)
    if not timedelta() < step < day or span < step or span % step:
        raise ValueError(f"steps of {step} do not fill {span}")
    with conn.cursor(row_factory=class_row(Point)) as cursor:
        values = {"start": start, "end": end, "step": step}
        return cursor.execute(READ, values).fetchall()


# --8<-- [end:read]


# --8<-- [start:draw]
@mpl.rc_context({"date.converter": "concise"})
def draw(points: list[Point], step: timedelta, zone: str) -> tuple[Figure, str]:
    """The chart, on the clock of a zone, and the sentences that say the same."""
    clock = ZoneInfo(zone)
    figure = Figure(figsize=(5, 4), layout="constrained")
    volume, latency = figure.subplots(2, sharex=True)
    volume.xaxis_date(clock)
    times = [point.at.astimezone(UTC) for point in points]  # where an hour is an hour
    counts = [point.requests for point in points]
    volume.bar(times, counts, step, align="edge", color="#2d78ad")
    volume.set(ylabel="requests")
    middles = [at + step / 2 for at in times]
    for name, color in (("p95", "#c2571a"), ("median", "#2d78ad")):
        values = [nan if vars(p)[name] is None else vars(p)[name] for p in points]
        latency.plot(middles, values, marker=".", color=color, label=name)
    latency.set(ylabel="milliseconds", ylim=(0, None))
    latency.legend(framealpha=0)
    hours = [f"{at.astimezone(clock):%d %B %H:%M}" for at in times]
    none = [hour for hour, count in zip(hours, counts, strict=True) if not count]
    most = f"{max(counts)}, from {hours[counts.index(max(counts))]}"
    says = f"Requests and latency in {zone}. Most requests: {most}. Without any, from: "
    return figure, f"{says}{', '.join(none) or 'never'}."


# --8<-- [end:draw]


# --8<-- [start:svg]
def to_svg(figure: Figure, says: str) -> str:
    """The chart for a page: black takes the color of the text, says is the label."""
    file = StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": says}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    svg = file.getvalue().replace("#000000", "currentColor")
    svg = re.sub(r'(?s)^.*?<svg|<style.*?</style>| id="[\w.]+_\d+"', "", svg)
    return f'<svg role="img" aria-label="{escape(says)}" fill="currentColor"{svg}'


# --8<-- [end:svg]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    start, hour = datetime(2026, 3, 10, tzinfo=UTC), timedelta(hours=1)
    with psycopg.connect(url, connect_timeout=5) as conn:
        conn.execute("SET statement_timeout = '60s'")
        conn.execute(SCHEMA)
        conn.execute("""
            INSERT INTO request
            SELECT timestamptz '2026-03-10 00:00Z' + n * interval '1 min', 20 + n % 60
            FROM generate_series(0, 1439) AS n WHERE n / 60 NOT IN (14, 15)""")
        points = read_series(conn, start, start + 24 * hour, hour)
    figure, says = draw(points, hour, "Europe/Berlin")
    head = '<!doctype html><meta name="color-scheme" content="light dark">'
    Path("dashboard.html").write_text(head + to_svg(figure, says), "utf-8")
    print(says)


if __name__ == "__main__":
    main()
