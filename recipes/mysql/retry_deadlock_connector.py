# /// script
# requires-python = ">=3.11"
# dependencies = ["mysql-connector-python>=9.4"]
# ///
"""Retry a transaction after a deadlock, with mysql-connector-python.

InnoDB ends a deadlock by rolling back one of the transactions (error 1213), and a long
wait for a lock with error 1205. Run such a transaction again, all of it.
"""

import os
import random
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from mysql.connector import Error, MySQLConnection
from mysql.connector.abstracts import MySQLConnectionAbstract, MySQLCursorAbstract

T = TypeVar("T")


def connect(url: str) -> MySQLConnectionAbstract:
    """Open mysql://user:password@host:port/database; the caller closes it."""
    parts = urlsplit(url)
    return MySQLConnection(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=unquote(parts.path[1:]),
        read_timeout=60,  # more than innodb_lock_wait_timeout, which is 50 s
    )


# --8<-- [start:retry]
RETRY = {1205, 1213}  # lock wait timeout, deadlock


def run_transaction(
    conn: MySQLConnectionAbstract,
    work: Callable[[MySQLCursorAbstract], T],
    attempts: int = 5,
) -> T:
    """Run work in a transaction, again after a deadlock; return what it returned.

    Nothing else may be pending on conn. work may run several times: let it do nothing
    but SQL. Raises the last attempt's error, and any other error at once; then nothing
    is stored.
    """
    attempt = 0
    while True:
        attempt += 1
        conn.start_transaction()
        try:
            with conn.cursor() as cursor:
                result = work(cursor)
            conn.commit()
        except BaseException as error:
            if conn.is_connected():
                conn.rollback()  # after 1205 the transaction is still open
            refused = isinstance(error, Error) and error.errno in RETRY
            if not refused or attempt >= attempts:
                raise
        else:
            return result
        time.sleep(random.uniform(0, 0.02 * 2**attempt))


# --8<-- [end:retry]


def cross(url: str) -> list[int]:
    """Run two transfers that deadlock; return how many attempts each one took."""
    meet = threading.Barrier(2)  # each holds one row before it wants the other's

    def move(payer: int, payee: int) -> int:
        attempts = 0

        def work(cursor: MySQLCursorAbstract) -> None:
            nonlocal attempts
            attempts += 1
            change = "UPDATE account SET balance = balance + %s WHERE id = %s"
            cursor.execute(change, (-10, payer))
            if attempts == 1:
                meet.wait(10)
            cursor.execute(change, (10, payee))

        with connect(url) as conn:
            run_transaction(conn, work)
        return attempts

    with ThreadPoolExecutor() as pool:
        return sorted(pool.map(move, (1, 2), (2, 1)))


NO_SERVER = (
    "Set MYSQL_URL, for example mysql://cook:cook@127.0.0.1:13306/cookbook"
    " after `docker compose up -d --wait mysql`"
)


def main() -> None:
    url = os.environ.get("MYSQL_URL") or sys.exit(NO_SERVER)
    with connect(url) as conn, conn.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE account (id INT PRIMARY KEY, balance INT NOT NULL)"
        )
        cursor.execute("INSERT INTO account VALUES (1, 100), (2, 50)")
        conn.commit()
        print("attempts:", *cross(url))
        cursor.execute("SELECT id, balance FROM account ORDER BY id")
        for number, balance in cursor.fetchall():
            print("account", number, "holds", balance)


if __name__ == "__main__":
    main()
