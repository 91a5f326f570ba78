# /// script
# requires-python = ">=3.11"
# dependencies = ["ibm-db>=3.3"]
# ///
"""Run a transaction again after a deadlock or a lock timeout.

With SQL0911N Db2 has rolled back the whole transaction, not the statement. Give the
transaction as a function, so that all of it can run again, at the isolation level that
it needs.
"""

import os
import random
import re
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from decimal import Decimal
from typing import TypeVar

import ibm_db_dbi

NO_SERVER = (
    "Set DB2_DSN, for example DATABASE=COOKBOOK;HOSTNAME=127.0.0.1;PORT=15000;"
    "PROTOCOL=TCPIP;UID=db2inst1;PWD=cook;"
    " after `docker compose up -d --wait db2`"
)

# --8<-- [start:retry]
T = TypeVar("T")
RETRY = {-911, -913}  # rolled back by a deadlock or a lock timeout; the same, not yet


def run_transaction(
    conn: "ibm_db_dbi.Connection",
    work: Callable[["ibm_db_dbi.Cursor"], T],
    *,
    isolation: str = "CS",
    attempts: int = 5,
    pause: float = 0.05,
) -> T:
    """Commit work(cursor) and return what it returned; again after a deadlock.

    isolation: UR, CS, RS or RR; it stays set. Nothing may be pending on conn. work may
    run several times: let it do nothing but SQL. Raises the last attempt's error, and
    any other at once; then nothing is stored.
    """
    if isolation not in ("UR", "CS", "RS", "RR") or attempts < 1:
        raise ValueError("isolation is UR, CS, RS or RR; attempts are 1 or more")
    attempt = 0
    while True:
        attempt += 1
        try:
            with closing(conn.cursor()) as cursor:
                cursor.execute(f"SET CURRENT ISOLATION {isolation}")
                result = work(cursor)
            conn.commit()
        except BaseException as error:
            with suppress(ibm_db_dbi.Error):  # a dead line: the first error counts
                conn.rollback()
            if attempt >= attempts or not sqlcodes(error) & RETRY:
                raise
        else:
            return result
        # Random, or those that collided would collide again.
        time.sleep(random.uniform(0, pause * 2 ** (attempt - 1)))


def sqlcodes(error: BaseException) -> set[int]:
    """Return the SQLCODEs in the texts of the error and its causes.

    The class says little: -911 is a ProgrammingError, and a SystemError in fetchone().
    """
    found: set[int] = set()
    cause: BaseException | None = error
    while cause:
        found |= {int(code) for code in re.findall(r"SQLCODE=(-?\d+)", str(cause))}
        cause = cause.__cause__
    return found


# --8<-- [end:retry]


# --8<-- [start:use]
def transfer(
    cursor: "ibm_db_dbi.Cursor", payer: int, payee: int, amount: Decimal
) -> None:
    """Move the amount. Raises ValueError, LookupError (no such account), or
    IntegrityError (overdraft): then roll back."""
    if not (amount.is_finite() and amount > 0 and amount == round(amount, 2)):
        raise ValueError(f"{amount} is no positive amount in cents")
    if payer == payee:
        raise ValueError("an account cannot pay itself")
    # The smaller id first: payments that cross queue up, and do not deadlock.
    for account, change in sorted(((payer, -amount), (payee, amount))):
        update = "UPDATE account SET balance = balance + ? WHERE id = ?"
        cursor.execute(update, (change, account))
        if cursor.rowcount != 1:
            raise LookupError(f"there is no account {account}")


# --8<-- [end:use]

SCHEMA = """
CREATE TABLE account (
    id INTEGER NOT NULL PRIMARY KEY,
    balance DECIMAL(18, 2) NOT NULL CHECK (balance >= 0)
)
"""


def main() -> None:
    dsn = os.environ.get("DB2_DSN") or sys.exit(NO_SERVER)
    limits = "CONNECTTIMEOUT=5;RECEIVETIMEOUT=60;"
    with closing(ibm_db_dbi.connect(limits + dsn, "", "")) as conn:
        with closing(conn.cursor()) as cursor:
            cursor.execute(SCHEMA)
            cursor.execute("INSERT INTO account VALUES (1, 100), (2, 50)")
            cursor.execute("SET CURRENT LOCK TIMEOUT 5")
        conn.commit()
        run_transaction(conn, lambda cursor: transfer(cursor, 1, 2, Decimal("30.10")))
        try:
            run_transaction(conn, lambda cursor: transfer(cursor, 2, 1, Decimal(500)))
        except ibm_db_dbi.IntegrityError as error:
            print("overdraft: SQLCODE", *sqlcodes(error))
        with closing(conn.cursor()) as cursor:
            cursor.execute("SELECT id, balance FROM account ORDER BY id")
            for account, balance in cursor.fetchall():
                print("account", account, "holds", balance)


if __name__ == "__main__":
    main()
