# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Migrate a table to a new shape.

Text becomes money, moments and clean addresses, batch by batch. Rows that have no new
shape are kept with the reason, a killed run goes on, and the counts have to agree.
"""

import os
import re
import sys
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
from psycopg.rows import dict_row

Connection = psycopg.Connection[tuple[Any, ...]]

# --8<-- [start:schema]
SCHEMA = """
CREATE TABLE customer (
    id      bigint PRIMARY KEY,
    name    text NOT NULL CHECK (name <> ''),
    email   text NOT NULL UNIQUE,
    balance numeric(18, 2) NOT NULL,
    joined  timestamptz NOT NULL
);
CREATE TABLE rejected (id bigint PRIMARY KEY, reason text NOT NULL, old jsonb NOT NULL);
"""
# --8<-- [end:schema]

# --8<-- [start:transform]
ZONE = ZoneInfo("Europe/Berlin")  # the clock that the old program read
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
MONEY = re.compile(r"-?[0-9]{1,3}(\.[0-9]{3})*,[0-9]{2}")  # 1.234,50 and nothing else


def transform(old: dict[str, Any]) -> dict[str, Any]:
    """Return the row in its new shape. Raises ValueError, with the reason."""
    text = {name: (old[name] or "").strip() for name in old if name != "id"}
    if not EMAIL.fullmatch(text["email"]):
        raise ValueError(f"not an e-mail address: {text['email']!r}")
    if not MONEY.fullmatch(text["balance"]):
        raise ValueError(f"not an amount: {text['balance']!r}")
    joined = datetime.strptime(text["joined"], "%d.%m.%Y %H:%M").replace(tzinfo=ZONE)
    if joined.utcoffset() != joined.replace(fold=1).utcoffset():  # clocks were changed
        raise ValueError(f"never or twice in {ZONE}: {text['joined']}")
    balance = Decimal(text["balance"].replace(".", "").replace(",", "."))
    text["email"] = text["email"].lower()
    return old | text | {"balance": balance, "joined": joined}


# --8<-- [end:transform]


# --8<-- [start:migrate]
def migrate(conn: Connection, size: int = 1_000) -> tuple[int, int, int]:
    """Migrate the rows that have not been, `size` in a transaction; conn must be idle.

    Returns how many rows are in the old table, the new one, and rejected. Raises
    RuntimeError if they do not add up, and errors that no row is to blame for.
    """
    last = -(2**63)
    while True:
        with conn.transaction(), conn.cursor(row_factory=dict_row) as cursor:
            cursor.execute("LOCK rejected IN EXCLUSIVE MODE")  # another run waits
            cursor.execute(
                "SELECT id, name, email, balance, joined FROM old_customer AS old"
                " WHERE id > %s AND NOT EXISTS (SELECT FROM customer WHERE id = old.id)"
                " AND NOT EXISTS (SELECT FROM rejected WHERE id = old.id)"
                " ORDER BY id LIMIT %s",
                (last, size),
            )
            if not (rows := cursor.fetchall()):
                return reconcile(conn)
            write(conn, rows)
        last = rows[-1]["id"]


def write(conn: Connection, rows: list[dict[str, Any]]) -> None:
    try:
        with conn.transaction():  # a savepoint
            conn.cursor().executemany(
                "INSERT INTO customer (id, name, email, balance, joined)"
                " VALUES (%(id)s, %(name)s, %(email)s, %(balance)s, %(joined)s)",
                [transform(row) for row in rows],
            )
    except (ValueError, psycopg.DataError, psycopg.IntegrityError) as error:
        if len(rows) > 1:  # halves, until the bad row is alone
            write(conn, rows[: len(rows) // 2])
            write(conn, rows[len(rows) // 2 :])
        else:
            conn.execute(
                "INSERT INTO rejected SELECT id, %s, to_jsonb(old)"
                " FROM old_customer AS old WHERE id = %s",
                (str(error), rows[0]["id"]),
            )


def reconcile(conn: Connection) -> tuple[int, int, int]:
    count = "(SELECT count(*) FROM {})".format
    query = f"SELECT {count('old_customer')}, {count('customer')}, {count('rejected')}"
    ((old, new, rejected),) = conn.execute(query).fetchall()
    if old != new + rejected:
        raise RuntimeError(f"of {old} rows, {new} and {rejected} arrived")
    return old, new, rejected


# --8<-- [end:migrate]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    with psycopg.connect(url, connect_timeout=5, autocommit=True) as conn:
        conn.execute(f"SET TimeZone = 'UTC'; {SCHEMA}")
        conn.execute(
            "CREATE TABLE old_customer (id, name, email, balance, joined) AS VALUES"
            " (1, 'Ann ', 'Ann@example.com', '1.234,50', '31.12.2019 23:30'),"
            " (2, 'Bob', 'bob@example.com', '1,234.50', '01.07.2020 08:00')"
        )
        print("read, written, rejected:", *migrate(conn))
        print(*conn.execute("SELECT email, balance, joined::text FROM customer"))
        print(*conn.execute("SELECT id, reason FROM rejected"))


if __name__ == "__main__":
    main()
