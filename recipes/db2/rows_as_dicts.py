# /// script
# requires-python = ">=3.11"
# dependencies = ["ibm-db>=3.3"]
# ///
"""Read rows as dictionaries or objects.

ibm_db_dbi gives tuples, and Db2 names in capitals. Use this to read rows by name, with
exact numbers and aware times, in the same memory however many rows there are.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Any

import ibm_db_dbi

NO_SERVER = (
    "Set DB2_DSN, for example DATABASE=COOKBOOK;HOSTNAME=127.0.0.1;PORT=15000;"
    "PROTOCOL=TCPIP;UID=db2inst1;PWD=cook;"
    " after `docker compose up -d --wait db2`"
)


# --8<-- [start:rows]
def rows(
    conn: "ibm_db_dbi.Connection",
    query: str,
    values: Sequence[object] = (),
    *,
    zone: tzinfo | None = None,
    batch: int = 500,
) -> Iterator[dict[str, Any]]:
    """Yield each row as a dictionary with names in lower case.

    zone: the time zone that the TIMESTAMP columns are in; times then carry it. Raises
    ValueError where two columns have one name, DatabaseError for what the server says.
    """
    with closing(conn.cursor()) as cursor:
        cursor.execute(query, tuple(values))
        names = [column[0].lower() for column in cursor.description]
        if len(set(names)) < len(names):
            raise ValueError(f"name the columns apart, with AS: {names}")
        kinds = [column[1] for column in cursor.description]
        while fetched := _fetch(cursor, batch):
            for row in fetched:
                converted = [_convert(*it, zone) for it in zip(row, kinds, strict=True)]
                yield dict(zip(names, converted, strict=True))


def _fetch(cursor: "ibm_db_dbi.Cursor", batch: int) -> list[tuple[object, ...]]:
    try:
        return list(cursor.fetchmany(batch))
    except ibm_db_dbi.Error:
        raise
    except Exception as error:  # a bare one: where the driver fetches, it maps nothing
        raise ibm_db_dbi.DatabaseError(str(error)) from error


def _convert(value: object, kind: object, zone: tzinfo | None) -> object:
    if zone and isinstance(value, datetime):
        return value.replace(tzinfo=zone)
    if kind is ibm_db_dbi.FLOAT and isinstance(value, str):
        return Decimal(value)  # DECFLOAT, which the driver leaves as text
    return value


# --8<-- [end:rows]


# --8<-- [start:object]
@dataclass(frozen=True)
class Account:
    id: int
    owner: str
    balance: Decimal
    opened: datetime


def accounts(conn: "ibm_db_dbi.Connection", at_least: Decimal) -> Iterator[Account]:
    """Yield the accounts that hold at least that much, the smallest id first."""
    query = "SELECT id, owner, balance, opened FROM account WHERE balance >= ?"
    found = rows(conn, f"{query} ORDER BY id", (at_least,), zone=UTC)
    return (Account(**row) for row in found)


# --8<-- [end:object]


SCHEMA = """
CREATE TABLE account (
    id INTEGER NOT NULL PRIMARY KEY,
    owner VARCHAR(100) NOT NULL,
    balance DECIMAL(18, 2) NOT NULL,
    opened TIMESTAMP(6) NOT NULL
)
"""


def main() -> None:
    dsn = os.environ.get("DB2_DSN") or sys.exit(NO_SERVER)
    limits = "CONNECTTIMEOUT=5;RECEIVETIMEOUT=60;"
    with closing(ibm_db_dbi.connect(limits + dsn, "", "")) as conn:
        with closing(conn.cursor()) as cursor:
            cursor.execute(SCHEMA)
            cursor.execute(
                "INSERT INTO account VALUES (1, 'Ann', 0.10, '2026-01-05 12:00:00'),"
                " (2, 'Ben', 9007199254740993.01, '2026-01-06 12:00:00')"
            )
        conn.commit()
        for account in accounts(conn, Decimal("0.10")):
            print(account.owner, account.balance, account.opened.isoformat())
        print(*rows(conn, "SELECT COUNT(*) AS accounts FROM account"))


if __name__ == "__main__":
    main()
