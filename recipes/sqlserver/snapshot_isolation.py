# /// script
# requires-python = ">=3.11"
# dependencies = ["mssql-python>=1.16"]
# ///
"""Read and write in a snapshot.

A snapshot transaction sees the data of one moment, and neither waits for writers nor
stops them. Who writes a row that has changed since gets error 3960, and starts again.
"""

import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import mssql_python
from mssql_python import Connection

T = TypeVar("T")
SCHEMA = "CREATE TABLE stock (item nvarchar(40) PRIMARY KEY, on_hand int NOT NULL)"


# --8<-- [start:snapshot]
ENABLE = "ALTER DATABASE CURRENT SET ALLOW_SNAPSHOT_ISOLATION ON"  # once, by the owner


@contextmanager
def snapshot(dsn: str) -> Iterator[Connection]:
    """A connection in a snapshot transaction: committed, or rolled back after an error.

    The moment that it sees is that of its first read.
    """
    with mssql_python.connect(dsn, timeout=5, autocommit=True) as conn:
        conn.timeout = 30
        # The level first: a transaction that has begun cannot become a snapshot.
        conn.execute("SET TRANSACTION ISOLATION LEVEL SNAPSHOT")
        # In English, since mssql-python tells the text of an error and not its number.
        conn.execute("SET LANGUAGE us_english")
        conn.autocommit = False
        yield conn


# --8<-- [end:snapshot]


# --8<-- [start:retry]
CONFLICT = "Snapshot isolation transaction aborted due to update conflict"  # error 3960


def run(
    dsn: str,
    work: Callable[[Connection], T],
    pauses: Iterable[float] = (0.05, 0.2, 1),
) -> T:
    """Run work in a snapshot and commit; after a conflict, again after each pause.

    work changes nothing but the database: it may run several times. Its errors arrive,
    and so does a conflict after the last pause.
    """

    def attempt() -> T:
        with snapshot(dsn) as conn:
            return work(conn)

    for pause in pauses:
        try:
            return attempt()
        except mssql_python.Error as error:
            if CONFLICT not in str(error):
                raise
            time.sleep(pause * random.uniform(0.5, 1.5))
    return attempt()


# --8<-- [end:retry]


def take(conn: Connection, item: str, count: int) -> int:
    """Take some out of the stock; return how many are left. Raises ValueError."""
    query = "SELECT on_hand FROM stock WHERE item = ?"
    rows = conn.execute(query, item).fetchall()
    left = int(rows[0][0]) - count if rows else -1
    if left < 0:
        raise ValueError(f"not enough of {item}")
    conn.execute("UPDATE stock SET on_hand = ? WHERE item = ?", left, item)
    return left


NO_SERVER = (
    "Set SQLSERVER_DSN, for example Server=127.0.0.1,11433;Database=master;UID=sa;"
    "PWD=Cook_Book1;Encrypt=yes;TrustServerCertificate=yes"
    " after `docker compose up -d --wait sqlserver`"
)


def main() -> None:
    dsn = os.environ.get("SQLSERVER_DSN") or sys.exit(NO_SERVER)
    with mssql_python.connect(dsn, timeout=5, autocommit=True) as conn:
        conn.execute(ENABLE)
        conn.execute(SCHEMA)
        conn.execute("INSERT INTO stock VALUES (N'bolt', 10)")
    with snapshot(dsn) as reader:
        [[before]] = reader.execute("SELECT on_hand FROM stock").fetchall()
        print("left:", run(dsn, lambda conn: take(conn, "bolt", 3)))
        [[still]] = reader.execute("SELECT on_hand FROM stock").fetchall()
        print(f"the reader saw {before}, and still sees {still}")
        try:
            take(reader, "bolt", 1)
        except mssql_python.Error as error:
            reader.rollback()
            print("its write is refused:", CONFLICT in str(error))


if __name__ == "__main__":
    main()
