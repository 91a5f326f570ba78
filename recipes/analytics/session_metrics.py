# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Count sessions and users, one day at a time.

Thirty minutes of silence end a session. The day is a day of your time zone, and it can
be counted again when events come late: its row is replaced, and no other.
"""

import os
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import psycopg
from psycopg.rows import class_row

# --8<-- [start:schema]
SCHEMA = """
CREATE TABLE event (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id bigint NOT NULL,
    at      timestamptz NOT NULL
);
CREATE INDEX ON event (at);
CREATE TABLE session_day (
    zone     text,
    day      date,
    users    bigint NOT NULL,
    sessions bigint NOT NULL,
    events   bigint NOT NULL,
    bounces  bigint NOT NULL,  -- sessions of one event
    median   interval,         -- of their durations; NULL where there are none
    PRIMARY KEY (zone, day)
);
"""
# --8<-- [end:schema]

# --8<-- [start:count]
COUNT = """
WITH marked AS (
    SELECT id, user_id, at, coalesce(at - lag(at) OVER mine > %(gap)s, true) AS is_first
    FROM event
    WHERE at >= %(starts)s - %(gap)s AND at < %(ends)s + interval '1 day'
    WINDOW mine AS (PARTITION BY user_id ORDER BY at, id)
), numbered AS (
    SELECT user_id, at, count(*) FILTER (WHERE is_first) OVER mine AS number
    FROM marked
    WINDOW mine AS (PARTITION BY user_id ORDER BY at, id)
), session AS (
    SELECT user_id, max(at) - min(at) AS duration, count(*) AS events
    FROM numbered
    GROUP BY user_id, number
    HAVING min(at) >= %(starts)s AND min(at) < %(ends)s
)
INSERT INTO session_day
SELECT %(zone)s, %(day)s, count(DISTINCT user_id), count(*), coalesce(sum(events), 0),
       count(*) FILTER (WHERE events = 1),
       percentile_cont(0.5) WITHIN GROUP (ORDER BY duration)
FROM session
ON CONFLICT (zone, day) DO UPDATE
SET (users, sessions, events, bounces, median)
    = (excluded.users, excluded.sessions, excluded.events, excluded.bounces,
       excluded.median)
RETURNING users, sessions, events, bounces, median
"""


@dataclass(frozen=True)
class Day:
    """The sessions that began on a day. The median is None where there are none."""

    users: int
    sessions: int
    events: int
    bounces: int
    median: timedelta | None


def count_day(
    conn: psycopg.Connection,
    day: date,
    zone: str,
    gap: timedelta = timedelta(minutes=30),
) -> Day:
    """Count the sessions that began on this day of the zone; write and return its row.

    Part of the transaction of conn. A session counts once, up to the end of the day
    after. Raises ValueError (the day is not over, or gap is not positive) and
    ZoneInfoNotFoundError.
    """
    starts = datetime.combine(day, time.min, ZoneInfo(zone))
    ends = datetime.combine(day + timedelta(days=1), time.min, ZoneInfo(zone))
    if ends > datetime.now(UTC):
        raise ValueError(f"{day} is not over in {zone}")
    if gap <= timedelta():
        raise ValueError(f"a gap of {gap} ends every session at once")
    with conn.cursor(row_factory=class_row(Day)) as cursor:
        values = {"starts": starts, "ends": ends, "gap": gap, "day": day, "zone": zone}
        counted = cursor.execute(COUNT, values).fetchone()
    assert counted  # an aggregate without GROUP BY has one row, always
    return counted


# --8<-- [end:count]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    options = "-c statement_timeout=60s"
    day = date(2026, 3, 28)
    with psycopg.connect(url, connect_timeout=5, options=options) as conn:
        conn.execute(SCHEMA)
        conn.execute("""
            INSERT INTO event (user_id, at) VALUES
            (1, '2026-03-27 23:40Z'), (1, '2026-03-28 00:05Z'),
            (1, '2026-03-28 12:00Z'), (2, '2026-03-28 12:00Z'),
            (2, '2026-03-28 22:55Z'), (2, '2026-03-28 23:20Z')
        """)
        for zone in ("UTC", "Europe/Berlin"):
            it = count_day(conn, day, zone)
            print(f"{day} in {zone}: {it.sessions} sessions, {it.users} users")
        conn.execute("INSERT INTO event (user_id, at) VALUES (3, '2026-03-28 15:00Z')")
        it = count_day(conn, day, "UTC")
        print(f"after a late event: {it.sessions} sessions, {it.users} users")


if __name__ == "__main__":
    main()
