# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
# ///
"""Run jobs from a table with any number of workers.

No job is run by two workers at once. A job that fails, or whose worker dies, is tried
again later, up to its limit, and then kept with its error. What a job writes to this
database is written once.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

# --8<-- [start:schema]
SCHEMA = """
CREATE TABLE job (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payload      jsonb NOT NULL,
    run_at       timestamptz NOT NULL DEFAULT now(),
    attempts     int NOT NULL DEFAULT 0,
    max_attempts int NOT NULL DEFAULT 3,
    error        text
);
CREATE INDEX job_next ON job (run_at, id) WHERE attempts < max_attempts;
"""
# --8<-- [end:schema]


# --8<-- [start:work]
def add_job(conn: psycopg.Connection, payload: Any) -> int:
    """Add a job to the caller's transaction; return its id."""
    query = "INSERT INTO job (payload) VALUES (%s) RETURNING id"
    row = conn.execute(query, (Jsonb(payload),)).fetchone()
    assert row
    return int(row[0])


CLAIM = """
UPDATE job SET
    attempts = attempts + 1,
    run_at = now() + %s * 2 ^ attempts * interval '1 second',
    error = 'the worker died'
WHERE id = (
    SELECT id FROM job WHERE run_at <= now() AND attempts < max_attempts
    ORDER BY run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING id, attempts, payload
"""


def work_one(
    conn: psycopg.Connection,
    handle: Callable[[psycopg.Connection, Any], None],
    pause: float = 10,
) -> bool:
    """Run handle(conn, payload) for the next job; return False if none is due.

    Whatever handle raises is kept with the job, which is due again after `pause`
    seconds, twice as many after each attempt. conn must not be in a transaction.
    """
    with conn.transaction():  # the attempt counts, even if it kills this process
        claimed = conn.execute(CLAIM, (pause,)).fetchone()
    if not claimed:
        return False
    job, attempt, payload = claimed
    mine = (job, attempt)
    try:
        with conn.transaction():
            # Held to the end; the server lets go when this connection dies. Not SKIP
            # LOCKED: another worker's claim may look at this row for a moment.
            lock = "SELECT FROM job WHERE id = %s AND attempts = %s FOR UPDATE"
            if conn.execute(lock, mine).rowcount:
                handle(conn, payload)
                conn.execute("DELETE FROM job WHERE id = %s", (job,))
    except Exception as error:  # a job may fail in any way
        keep = "UPDATE job SET error = %s WHERE id = %s AND attempts = %s"
        with conn.transaction():
            conn.execute(keep, (f"{type(error).__name__}: {error}", *mine))
    return True


def failed_jobs(conn: psycopg.Connection) -> list[tuple[int, Any, str]]:
    """Id, payload and last error of the jobs that will not be tried again."""
    return conn.execute(
        "SELECT id, payload, error FROM job WHERE attempts >= max_attempts"
        " ORDER BY id FOR SHARE SKIP LOCKED"  # not those in their last attempt now
    ).fetchall()


# --8<-- [end:work]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    with psycopg.connect(url, connect_timeout=5, autocommit=True) as conn:
        conn.execute(SCHEMA)
        for text in ("6 / 2", "1 / 0"):
            add_job(conn, {"divide": text})

        def divide(conn: psycopg.Connection, payload: Any) -> None:
            a, b = map(int, payload["divide"].split("/"))
            print(payload["divide"], "=", a / b)

        while work_one(conn, divide, pause=0):
            pass
        for job, payload, error in failed_jobs(conn):
            print(f"job {job} failed: {payload}, {error}")


if __name__ == "__main__":
    main()
