# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "tenacity>=9.1"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Decide which errors to retry.

With tenacity. A retry helps only where the error may go away, and it does no harm only
where nothing was done, or where doing it twice is the same as once.
"""

import os
import sys
from collections.abc import Callable
from typing import TypeVar
from uuid import UUID, uuid4

import psycopg
from psycopg import errors
from tenacity import (
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

T = TypeVar("T")
NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


# --8<-- [start:which]
ROLLED_BACK = (
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.LockNotAvailable,
)
SERVER_GONE = (errors.AdminShutdown, errors.CrashShutdown)


def was_not_done(error: BaseException) -> bool:
    """The server rolled it back, or never heard of it; the next time may be better."""
    if isinstance(error, psycopg.OperationalError) and error.pgconn:
        return True  # the attempt to connect failed
    return isinstance(error, ROLLED_BACK)


def may_go_away(error: BaseException) -> bool:
    """That, or the line was lost: then nobody knows whether it was done."""
    lost = isinstance(error, psycopg.OperationalError) and error.sqlstate is None
    return lost or isinstance(error, SERVER_GONE) or was_not_done(error)


# --8<-- [end:which]


# --8<-- [start:call]
def call(
    url: str,
    work: Callable[[psycopg.Connection], T],
    *,
    repeatable: bool,
    pause: float = 0.1,
) -> T:
    """Run work in a transaction, and again where that may help; return its result.

    repeatable says that work may be done twice: it reads, or a key makes it count
    once. The pauses, in seconds, double and are random. Raises the last error.
    """
    policy = Retrying(
        retry=retry_if_exception(may_go_away if repeatable else was_not_done),
        stop=stop_after_attempt(4) | stop_after_delay(10),
        wait=wait_random_exponential(pause, max=2),
        reraise=True,  # the error itself, not tenacity's RetryError
    )

    def attempt() -> T:
        limit = "-c statement_timeout=5s"
        with psycopg.connect(url, connect_timeout=5, options=limit) as conn:
            return work(conn)

    return policy(attempt)


# --8<-- [end:call]


def count(conn: psycopg.Connection) -> int:
    row = conn.execute("SELECT count(*) FROM orders").fetchone()
    return row[0] if row else 0


def order(key: UUID) -> Callable[[psycopg.Connection], None]:
    """Repeatable: the key makes it count once."""

    def work(conn: psycopg.Connection) -> None:
        query = "INSERT INTO orders VALUES (%s) ON CONFLICT DO NOTHING"
        conn.execute(query, (key,))

    return work


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    with psycopg.connect(url, connect_timeout=5) as conn:
        conn.execute("CREATE TABLE orders (key uuid PRIMARY KEY)")
        conn.execute("CREATE SEQUENCE tries")
    call(url, order(uuid4()), repeatable=True)

    def deadlock_once(conn: psycopg.Connection) -> int:
        conn.execute("""
            DO $$ BEGIN IF nextval('tries') < 2 THEN
                RAISE 'as in a deadlock' USING ERRCODE = '40P01';
            END IF; END $$
        """)
        return count(conn)

    print("orders, after a deadlock:", call(url, deadlock_once, repeatable=False))
    with psycopg.connect(url, connect_timeout=5) as conn:
        for (tries,) in conn.execute("SELECT last_value FROM tries"):
            print("attempts:", tries)


if __name__ == "__main__":
    main()
