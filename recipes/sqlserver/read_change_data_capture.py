# /// script
# requires-python = ">=3.11"
# dependencies = ["mssql-python>=1.16"]
# ///
"""Read the changes of a table, from where the last reading ended.

The server takes them from its log, so no writer is slowed down and no delete is missed.
It keeps them for three days: who comes later must be told, and not get half of them.
"""

import os
import re
import sys
import time
from dataclasses import dataclass
from typing import Any

import mssql_python
from mssql_python import Connection

# --8<-- [start:enable]
# Once, by a sysadmin, in autocommit; SQL Server Agent then runs the capture job.
ENABLE = (
    "EXEC sys.sp_cdc_enable_db",
    "EXEC sys.sp_cdc_enable_table @source_schema = N'dbo', @source_name = N'account',"
    " @role_name = NULL, @supports_net_changes = 0",
)
# --8<-- [end:enable]


# --8<-- [start:read]
class ChangesLostError(Exception):
    """Changes were removed before they were read: copy the table anew."""


@dataclass(frozen=True)
class Change:
    kind: str  # insert, update or delete
    row: dict[str, Any]  # after the change; of a delete, before it


KINDS = {1: "delete", 2: "insert", 4: "update"}


def read(
    conn: Connection, instance: str, after: bytes | None
) -> tuple[list[Change], bytes | None]:
    """The changes after a position, in the order of their commits, and the next one.

    Store that one in the transaction that applies the changes; None is the start.
    Raises ChangesLostError, and LookupError for an unknown instance (dbo_account).
    """
    bounds = "SELECT sys.fn_cdc_get_min_lsn(?), sys.fn_cdc_get_max_lsn()"
    [[low, high]] = conn.execute(bounds, instance).fetchall()
    if not re.fullmatch(r"\w+", instance) or not any(low or b""):  # ten zero bytes
        raise LookupError(f"no capture instance {instance}")
    start = low
    if after is not None:
        [[start]] = conn.execute("SELECT sys.fn_cdc_increment_lsn(?)", after).fetchall()
    if start < low:
        raise ChangesLostError(f"{instance}: kept from {low.hex()}, not {start.hex()}")
    if high is None or start > high:  # nothing new
        return [], after
    cursor = conn.execute(
        f"SELECT * FROM cdc.[fn_cdc_get_all_changes_{instance}](?, ?, N'all')"
        " ORDER BY __$start_lsn, __$seqval",
        start,
        high,
    )
    names = [column[0] for column in cursor.description or ()]
    changes = []
    for values in cursor.fetchall():
        row = dict(zip(names, values, strict=True))
        kind = KINDS[row["__$operation"]]
        own = {name: it for name, it in row.items() if not name.startswith("__$")}
        changes.append(Change(kind, own))
    return changes, high


# --8<-- [end:read]

NO_SERVER = (
    "Set SQLSERVER_DSN, for example Server=127.0.0.1,11433;Database=master;UID=sa;"
    "PWD=Cook_Book1;Encrypt=yes;TrustServerCertificate=yes"
    " after `docker compose up -d --wait sqlserver`"
)


def main() -> None:
    dsn = os.environ.get("SQLSERVER_DSN") or sys.exit(NO_SERVER)
    with mssql_python.connect(dsn, timeout=5, autocommit=True) as conn:
        conn.timeout = 60
        conn.execute("CREATE TABLE account (id int PRIMARY KEY, balance decimal(9, 2))")
        for statement in ENABLE:
            conn.execute(statement)
        conn.execute("INSERT INTO account VALUES (1, 100)")
        conn.execute("UPDATE account SET balance = 69.90 WHERE id = 1")
        conn.execute("DELETE FROM account WHERE id = 1")
        position, wanted = None, 3
        deadline = time.monotonic() + 50  # the capture job looks every five seconds
        while wanted and time.monotonic() < deadline:
            changes, position = read(conn, "dbo_account", position)
            for change in changes:
                print(change.kind, change.row)
            wanted -= len(changes)
            time.sleep(0.2)
        conn.execute("EXEC sys.sp_cdc_disable_db")  # ends the job of this database
        if wanted:
            sys.exit("SQL Server Agent has captured nothing: does it run?")


if __name__ == "__main__":
    main()
