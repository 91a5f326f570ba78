# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Count the arms of an experiment.

Each user counts once, for a purchase within a window after the assignment, and only
when that window has passed. Use it to get the numbers that an A/B test compares.
"""

import os
import sys
from datetime import UTC, datetime, timedelta

import psycopg

# --8<-- [start:schema]
SCHEMA = """
CREATE TABLE assignment (
    experiment text,
    user_id    bigint,
    arm        text NOT NULL,
    at         timestamptz NOT NULL,
    PRIMARY KEY (experiment, user_id)  -- a user is in one arm
);
CREATE TABLE purchase (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id bigint NOT NULL,
    at      timestamptz NOT NULL
);
CREATE INDEX ON purchase (user_id, at);
"""
# --8<-- [end:schema]

# --8<-- [start:count]
COUNT = """
SELECT arm, count(*), count(*) FILTER (WHERE EXISTS (
    SELECT FROM purchase
    WHERE purchase.user_id = assignment.user_id
    AND purchase.at >= assignment.at AND purchase.at < assignment.at + %(window)s))
FROM assignment
WHERE experiment = %(experiment)s AND at <= %(now)s - %(window)s
GROUP BY arm
"""


def count_arms(
    conn: psycopg.Connection, experiment: str, window: timedelta, now: datetime
) -> dict[str, tuple[int, int]]:
    """Users, and users who bought within window, of the arms `control` and `variant`.

    An arm without users is (0, 0). Raises ValueError: another arm has users, now has
    no time zone, or window is not positive.
    """
    if now.tzinfo is None or window <= timedelta():
        raise ValueError(f"an aware time and a positive window, not {now}, {window}")
    values = {"experiment": experiment, "window": window, "now": now}
    counts = {"control": (0, 0), "variant": (0, 0)}
    for arm, users, converted in conn.execute(COUNT, values):
        if arm not in counts:
            raise ValueError(f"{experiment} has {users} users in the arm {arm!r}")
        counts[arm] = users, converted
    return counts


# --8<-- [end:count]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    options = "-c statement_timeout=60s"
    with psycopg.connect(url, connect_timeout=5, options=options) as conn:
        conn.execute(SCHEMA)
        conn.execute("""
            INSERT INTO assignment
            SELECT 'button', id, CASE id % 2 WHEN 0 THEN 'control' ELSE 'variant' END,
                   '2026-03-01 12:00Z'
            FROM generate_series(1, 2000) AS id;
            INSERT INTO purchase (user_id, at)
            SELECT id, '2026-03-02 12:00Z' FROM generate_series(1, 2000) AS id
            WHERE id % 20 = 0 OR id % 14 = 1
        """)
        week, now = timedelta(days=7), datetime(2026, 3, 15, tzinfo=UTC)
        for arm, (users, converted) in count_arms(conn, "button", week, now).items():
            print(f"{arm}: {converted} of {users} users bought within a week")


if __name__ == "__main__":
    main()
