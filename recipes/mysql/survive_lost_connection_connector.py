# /// script
# requires-python = ">=3.11"
# dependencies = ["mysql-connector-python>=9.4"]
# ///
"""Survive a lost connection with mysql-connector-python, and do nothing twice.

"MySQL server has gone away" (2006) and "Lost connection during query" (2013) leave open
whether the work was done. A key that is stored with the work gives the answer.
"""

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import cast
from urllib.parse import unquote, urlsplit

from mysql.connector import Error, IntegrityError, MySQLConnection
from mysql.connector.abstracts import MySQLConnectionAbstract, MySQLCursorAbstract


def connect(url: str) -> MySQLConnectionAbstract:
    """Open mysql://user:password@host:port/database; the caller closes it."""
    parts = urlsplit(url)
    return MySQLConnection(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=unquote(parts.path[1:]),
        connection_timeout=5,
        read_timeout=60,
        write_timeout=60,
    )


# --8<-- [start:survive]
SCHEMA = "CREATE TABLE done (work_key VARBINARY(64) PRIMARY KEY)"
LOST = {-1, 2003, 2006, 2013, 2055, 3024}  # -1: not connected, 3024: timed out


def run_once(
    connect: Callable[[], MySQLConnectionAbstract],
    key: str,
    work: Callable[[MySQLCursorAbstract], object],
    attempts: int = 5,
) -> bool:
    """Run work in a transaction, once for each key; return False if it was done before.

    After a lost connection work runs again, on a new one, unless its key is stored. So
    False may also mean that the first answer was lost. Raises the last attempt's error,
    and any other error at once; then nothing is stored.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            with connect() as conn:  # without a commit, closing it rolls back
                cursor = conn.cursor()
                is_new = claim(cursor, key)
                if is_new:
                    work(cursor)
                conn.commit()
        except Error as error:
            if error.errno not in LOST or attempt >= attempts:
                raise
        else:
            return is_new
        time.sleep(0.05 * 2**attempt)  # a restart takes a moment


def claim(cursor: MySQLCursorAbstract, key: str) -> bool:
    """Store the key; return False if it is there. Waits while its work is under way."""
    try:
        cursor.execute("INSERT INTO done VALUES (%s)", (key,))
    except IntegrityError:
        return False
    return True


# --8<-- [end:survive]

NO_SERVER = (
    "Set MYSQL_URL, for example mysql://cook:cook@127.0.0.1:13306/cookbook"
    " after `docker compose up -d --wait mysql`"
)


def main() -> None:
    url = os.environ.get("MYSQL_URL") or sys.exit(NO_SERVER)
    with connect(url) as admin, admin.cursor() as cursor:
        cursor.execute(SCHEMA)
        cursor.execute("CREATE TABLE account (balance INT NOT NULL)")
        cursor.execute("INSERT INTO account VALUES (100)")
        admin.commit()
        attempts = 0

        def pay(cursor: MySQLCursorAbstract) -> None:
            nonlocal attempts
            attempts += 1
            cursor.execute("UPDATE account SET balance = balance - 30")
            if attempts == 1:
                cursor.execute("SELECT CONNECTION_ID()")
                (number,) = cast("tuple[int]", cursor.fetchone())
                with admin.cursor() as killer:
                    killer.execute(f"KILL {number}")
            cursor.execute("SELECT balance FROM account")  # lost, the first time
            print("balance:", *cursor.fetchall()[0])

        for attempt in ("first", "second"):
            paid = run_once(partial(connect, url), "rent, November", pay)
            print(f"{attempt} call paid: {paid}, attempts so far: {attempts}")


if __name__ == "__main__":
    main()
