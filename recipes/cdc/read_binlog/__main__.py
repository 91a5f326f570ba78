# /// script
# requires-python = ">=3.11"
# dependencies = ["mysql-replication>=1.0.17", "pymysql[rsa]>=1.2"]
#
# [tool.cookbook]
# needs = ["mysql"]
# ///
"""Read every change of a table from MySQL's binary log, and apply each exactly once.

A query for new rows misses deletes, and rows that commit late; the log has them all.
Use it for a cache, a search index or a copy.
"""

import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

if not __package__:  # run as a file: the folder above it is where the package lies
    folder = Path(__file__).resolve().parent
    sys.path.insert(0, str(folder.parent))
    __package__ = folder.name

from .log import connect, end_of_log, read
from .rows import Change


# --8<-- [start:follow]
def follow(
    url: str,
    table: str,
    server_id: int,
    store: sqlite3.Connection,
    apply: Callable[[sqlite3.Connection, Change], object],
    wait: float = 30,
) -> None:
    """Apply what was committed since the last call; the first call only begins.

    Ends after `wait` seconds: call it again, and again. Raises what read() raises.
    """
    with store:
        store.execute("CREATE TABLE IF NOT EXISTS place (file TEXT, offset INTEGER)")
        if not (place := store.execute("SELECT * FROM place").fetchone()):
            store.execute("INSERT INTO place VALUES (?, ?)", end_of_log(url))
            return
    for end, changes in read(url, table, place, server_id, wait):
        with store:  # one transaction: the changes, and that they were applied
            for change in changes:
                apply(store, change)
            store.execute("UPDATE place SET file = ?, offset = ?", end)


# --8<-- [end:follow]

NO_SERVER = (
    "Set MYSQL_URL, for example mysql://cook:cook@127.0.0.1:13306/cookbook"
    " after `docker compose up -d --wait mysql`"
)


def main() -> None:
    url = os.environ.get("MYSQL_URL") or sys.exit(NO_SERVER)
    server_id = 1_000_000 + os.getpid()
    store = sqlite3.connect(":memory:")
    with connect(url) as conn, conn.cursor() as cursor:
        cursor.execute("CREATE TABLE stock (item VARCHAR(20) PRIMARY KEY, n INT)")
        follow(url, "stock", server_id, store, print)
        cursor.execute("INSERT INTO stock VALUES ('apple', 3), ('pear', NULL)")
        cursor.execute("UPDATE stock SET n = 4 WHERE item = 'apple'")
        cursor.execute("DELETE FROM stock WHERE item = 'pear'")
        conn.commit()
    follow(url, "stock", server_id, store, lambda _, it: print(*it), wait=0.2)


if __name__ == "__main__":
    main()
