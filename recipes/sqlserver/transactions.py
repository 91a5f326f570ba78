# /// script
# requires-python = ">=3.11"
# dependencies = ["mssql-python>=1.16"]
# ///
"""Run a transaction, and again after a deadlock.

The server ends a deadlock by undoing one of the transactions, with error 1205. Nothing
of it is left, so all of it can run again; only its caller knows what that is.
"""

import os
import random
import sys
import time
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import TypeVar

import mssql_python
from mssql_python import Connection

T = TypeVar("T")
SCHEMA = """
CREATE TABLE account (
    id      int PRIMARY KEY,
    balance decimal(18, 2) NOT NULL CHECK (balance >= 0)
);
"""


# --8<-- [start:run]
def run(
    dsn: str,
    work: Callable[[Connection], T],
    pauses: Iterable[float] = (0.05, 0.2, 1),
) -> T:
    """Run work in a transaction and commit; after a deadlock, again after each pause.

    work takes the connection, and changes nothing but the database: it may run several
    times. Its errors roll back and arrive; so does a deadlock after the last pause.
    """

    def attempt() -> T:
        with mssql_python.connect(dsn, timeout=5) as conn:  # it commits, or rolls back
            conn.timeout = 30
            return work(conn)

    for pause in pauses:
        try:
            return attempt()
        except mssql_python.OperationalError as error:
            # What the driver calls SQLSTATE 40001, which error 1205 has.
            if error.driver_error != "Serialization failure":
                raise
            time.sleep(pause * random.uniform(0.5, 1.5))  # not in step with the other
    return attempt()


# --8<-- [end:run]


# --8<-- [start:transfer]
def transfer(conn: Connection, payer: int, payee: int, amount: Decimal) -> None:
    """Move amount from one account to another.

    Raises ValueError (amount, payer is payee), LookupError (no such account),
    IntegrityError (overdraft).
    """
    if amount <= 0 or amount != round(amount, 2) or payer == payee:
        raise ValueError(f"{amount} from {payer} to {payee}")
    # The smaller id first, everywhere: then payments that cross wait, and no deadlock.
    for account, change in sorted([(payer, -amount), (payee, amount)]):
        sql = "UPDATE account SET balance = balance + ? WHERE id = ?"
        if conn.execute(sql, change, account).rowcount != 1:
            raise LookupError(f"no account {account}")


# --8<-- [end:transfer]

NO_SERVER = (
    "Set SQLSERVER_DSN, for example Server=127.0.0.1,11433;Database=master;UID=sa;"
    "PWD=Cook_Book1;Encrypt=yes;TrustServerCertificate=yes"
    " after `docker compose up -d --wait sqlserver`"
)


def main() -> None:
    dsn = os.environ.get("SQLSERVER_DSN") or sys.exit(NO_SERVER)
    run(dsn, lambda conn: conn.execute(SCHEMA).close())
    rows = "INSERT INTO account VALUES (1, 100), (2, 50)"
    run(dsn, lambda conn: conn.execute(rows).close())
    run(dsn, lambda conn: transfer(conn, 1, 2, Decimal("30.10")))
    try:
        run(dsn, lambda conn: transfer(conn, 1, 2, Decimal(500)))
    except mssql_python.IntegrityError:
        print("overdraft: refused")
    query = "SELECT id, balance FROM account ORDER BY id"
    for row in run(dsn, lambda conn: conn.execute(query).fetchall()):
        print("account {} holds {}".format(*row))


if __name__ == "__main__":
    main()
