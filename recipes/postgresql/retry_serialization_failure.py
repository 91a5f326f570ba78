# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
# ///
"""Run a transaction again after a serialization failure or a deadlock.

SERIALIZABLE makes concurrent transactions behave as if they ran one after the other.
The price: the server may end one and ask you to run it again, all of it.
"""

import os
import random
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus

# --8<-- [start:retry]
T = TypeVar("T")

# The server has rolled back and says so. A lost connection says nothing: not here.
RETRYABLE = (errors.SerializationFailure, errors.DeadlockDetected)


def run_transaction(
    conn: psycopg.Connection,
    work: Callable[[psycopg.Connection], T],
    *,
    attempts: int = 5,
    pause: float = 0.05,
) -> T:
    """Commit work(conn) in a serializable transaction; return what it returned.

    After a serialization failure or a deadlock all of it runs again, at most `attempts`
    times, after a random pause of up to `pause` seconds that doubles each time. Then
    the server's error is raised. RuntimeError: conn is inside a transaction already.
    """
    if conn.info.transaction_status != TransactionStatus.IDLE:
        raise RuntimeError("only a whole transaction can run again: commit first")
    for attempt in range(1, attempts + 1):
        try:
            with conn.transaction():
                conn.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
                return work(conn)
        except RETRYABLE:  # raised by a statement or by the commit
            if attempt == attempts:
                raise
        # Random, or those that collided would collide again.
        time.sleep(random.uniform(0, pause * 2 ** (attempt - 1)))
    raise ValueError("attempts must be 1 or more")


# --8<-- [end:retry]


# --8<-- [start:use]
def leave(conn: psycopg.Connection, name: str) -> bool:
    """End the doctor's shift, unless nobody else would be on call."""
    row = conn.execute("SELECT count(*) FROM doctor WHERE on_call").fetchone()
    if row is None or row[0] < 2:
        return False
    conn.execute("UPDATE doctor SET on_call = false WHERE name = %s", (name,))
    return True


# --8<-- [end:use]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    with (
        psycopg.connect(url, connect_timeout=5) as conn,
        psycopg.connect(url, connect_timeout=5) as other,
    ):
        conn.execute("CREATE TABLE doctor (name text PRIMARY KEY, on_call bool)")
        conn.execute("INSERT INTO doctor VALUES ('Ann', true), ('Ben', true)")
        conn.commit()
        attempts = 0

        def ann_leaves(conn: psycopg.Connection) -> bool:
            nonlocal attempts
            attempts += 1
            left = leave(conn, "Ann")
            print(f"attempt {attempts}: may Ann leave? {left}")
            if attempts == 1:  # Ben leaves at the same time, and commits first
                print(
                    "may Ben leave?", run_transaction(other, lambda c: leave(c, "Ben"))
                )
            return left

        print("Ann left:", run_transaction(conn, ann_leaves))
        for (name,) in conn.execute("SELECT name FROM doctor WHERE on_call"):
            print("on call:", name)


if __name__ == "__main__":
    main()
