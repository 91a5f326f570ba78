"""The record of runs: what must run how often, what ran, and what is late."""

from datetime import datetime

import psycopg

# --8<-- [start:schema]
SCHEMA = """
CREATE TABLE job (
    name  text PRIMARY KEY CHECK (name ~ '^[a-z0-9_]+$'),
    every interval NOT NULL,  -- in this time a good run ends, at least once
    since timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE run (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job     text NOT NULL REFERENCES job,
    host    text NOT NULL,
    started timestamptz NOT NULL DEFAULT now(),
    seen    timestamptz NOT NULL DEFAULT now(),  -- the last sign of life
    ended   timestamptz,
    outcome text CHECK ((outcome IS NULL) = (ended IS NULL))
);
CREATE INDEX run_job ON run (job, ended);
"""
# --8<-- [end:schema]

# If a machine is lost, the server frees its locks after a minute, not after two hours.
OPTIONS = "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10"
OPTIONS += " -c tcp_keepalives_count=3 -c statement_timeout=10s"


def connect(url: str) -> psycopg.Connection:
    return psycopg.connect(
        url, autocommit=True, connect_timeout=5, tcp_user_timeout=10000, options=OPTIONS
    )


def begin(conn: psycopg.Connection, job: str, host: str) -> int:
    """Record a run; return its id. Raises ForeignKeyViolation: there is no such job."""
    query = "INSERT INTO run (job, host) VALUES (%s, %s) RETURNING id"
    ((run,),) = conn.execute(query, (job, host)).fetchall()
    return int(run)


def end(conn: psycopg.Connection, run: int, outcome: str) -> None:
    query = "UPDATE run SET ended = now(), outcome = %s WHERE id = %s"
    conn.execute(query, (outcome, run))


def beat(conn: psycopg.Connection, run: int) -> None:
    conn.execute("UPDATE run SET seen = now() WHERE id = %s", (run,))


def end_lost(conn: psycopg.Connection, job: str, run: int) -> None:
    """The earlier runs of the job that never ended. Only for who has the lock."""
    query = (
        "UPDATE run SET ended = seen, outcome = 'lost'"
        " WHERE job = %s AND id < %s AND ended IS NULL"
    )
    conn.execute(query, (job, run))


# --8<-- [start:late]
LATE = """
SELECT name, 'no good run', good
FROM job CROSS JOIN LATERAL (
    SELECT coalesce(max(ended), since) AS good FROM run
    WHERE job = name AND outcome = 'ok'
) WHERE good < now() - every
UNION ALL
SELECT job, 'no sign of life', seen
FROM run WHERE ended IS NULL AND seen < now() - interval '1 minute'
ORDER BY 1, 2
"""


def late(conn: psycopg.Connection) -> list[tuple[str, str, datetime]]:
    """What is wrong: the job, what it lacks, and since when. Empty when all is well."""
    return conn.execute(LATE).fetchall()


# --8<-- [end:late]
