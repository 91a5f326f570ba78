# /// script
# requires-python = ">=3.11"
# dependencies = ["oracledb>=3.4"]
# ///
"""Run a transaction, and run it again when the server asks for that.

"Can't serialize access" (ORA-08177) and "deadlock detected" (ORA-00060) mean that
nothing was committed: all of it may run again. A lost connection says no such thing.
"""

import os
import random
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import oracledb

NO_SERVER = (
    "Set ORACLE_DSN, for example cook/cook@127.0.0.1:11521/FREEPDB1"
    " after `docker compose up -d --wait oracle`"
)

# --8<-- [start:run]
T = TypeVar("T")
RETRYABLE = {8177, 60}


def run_transaction(
    conn: oracledb.Connection,
    work: Callable[[oracledb.Connection], T],
    *,
    attempts: int = 5,
    pause: float = 0.05,
) -> T:
    """Commit work(conn) in a serializable transaction; return what it returned.

    After ORA-08177 or ORA-00060 all of it runs again, at most `attempts` times, after a
    random pause of up to `pause` seconds that doubles each time. Any other error is
    raised, with the work undone. RuntimeError: a transaction is under way already.
    """
    if conn.transaction_in_progress:
        raise RuntimeError("only a whole transaction can run again: commit first")
    for attempt in range(1, attempts + 1):
        try:
            with conn.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            result = work(conn)
            conn.commit()
        except BaseException as error:
            if conn.is_healthy():  # or the rollback would hide the error
                conn.rollback()  # a deadlock undoes one statement, and no more
            if attempt == attempts or not is_retryable(error):
                raise
        else:
            return result
        # Random, or those that collided would collide again.
        time.sleep(random.uniform(0, pause * 2 ** (attempt - 1)))
    raise ValueError("attempts must be 1 or more")


def is_retryable(error: BaseException) -> bool:
    """Has the server said that nothing was committed, and that it may run again?"""
    # Not error.isrecoverable, which is true of a lost connection.
    return isinstance(error, oracledb.Error) and error.args[0].code in RETRYABLE


# --8<-- [end:run]


# --8<-- [start:use]
def take(conn: oracledb.Connection, item: str, pieces: int) -> int:
    """Take pieces, and return how many are left. Raises LookupError: not so many."""
    with conn.cursor() as cursor:
        cursor.execute("SELECT held FROM stock WHERE item = :item", item=item)
        row = cursor.fetchone()
        if row is None or row[0] < pieces:
            raise LookupError(item)
        left = int(row[0]) - pieces
        query = "UPDATE stock SET held = :held WHERE item = :item"
        cursor.execute(query, held=left, item=item)
        return left


# --8<-- [end:use]


def main() -> None:
    dsn = os.environ.get("ORACLE_DSN") or sys.exit(NO_SERVER)
    with (
        oracledb.connect(dsn, tcp_connect_timeout=5) as conn,
        oracledb.connect(dsn, tcp_connect_timeout=5) as other,
    ):
        for one in (conn, other):
            one.call_timeout = 30_000  # milliseconds
        with conn.cursor() as cursor:
            cursor.execute("CREATE TABLE stock (item VARCHAR2(50), held NUMBER(9))")
            cursor.execute("INSERT INTO stock VALUES ('cup', 10)")
        conn.commit()
        attempts = 0

        def take_three(conn: oracledb.Connection) -> int:
            nonlocal attempts
            attempts += 1
            with conn.cursor() as cursor:
                cursor.execute("SELECT held FROM stock")
                print(f"attempt {attempts} sees", *cursor.fetchone())
            if attempts == 1:  # somebody else takes five, and commits first
                run_transaction(other, lambda conn: take(conn, "cup", 5))
            return take(conn, "cup", 3)

        print("left:", run_transaction(conn, take_three))


if __name__ == "__main__":
    main()
