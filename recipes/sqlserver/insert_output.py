# /// script
# requires-python = ">=3.11"
# dependencies = ["mssql-python>=1.16"]
# ///
"""Insert rows and get their new numbers.

OUTPUT returns what the server made up: identities, defaults, computed columns. For many
rows a key of your own says which number belongs to which row.
"""

import json
import os
import sys
from collections.abc import Iterable
from datetime import datetime

import mssql_python
from mssql_python import Connection

SCHEMA = """
CREATE TABLE ticket (
    id      int IDENTITY PRIMARY KEY,
    ref     nvarchar(40) NOT NULL UNIQUE,
    title   nvarchar(200) NOT NULL,
    created datetimeoffset NOT NULL DEFAULT SYSDATETIMEOFFSET()
);
"""


# --8<-- [start:one]
# INTO a table: plain OUTPUT is an error as soon as the table has a trigger.
ONE = """
SET NOCOUNT ON;
DECLARE @new TABLE (id int, created datetimeoffset);
INSERT INTO ticket (ref, title) OUTPUT inserted.id, inserted.created INTO @new
    VALUES (?, ?);
SELECT id, created FROM @new;
"""


def insert(conn: Connection, ref: str, title: str) -> tuple[int, datetime]:
    """Insert a ticket; return its number and its time; the caller commits."""
    with conn.cursor() as cursor:
        cursor.execute(ONE, ref, title)
        [[number, created]] = cursor.fetchall()
    return number, created


# --8<-- [end:one]


# --8<-- [start:many]
MANY = """
SET NOCOUNT ON;
DECLARE @new TABLE (id int, ref nvarchar(40));
INSERT INTO ticket (ref, title) OUTPUT inserted.id, inserted.ref INTO @new
    SELECT ref, title FROM OPENJSON(?) WITH (
        ref nvarchar(40) 'strict $.ref', title nvarchar(200) 'strict $.title'
    );
SELECT ref, id FROM @new;
"""


def insert_many(conn: Connection, tickets: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Insert (ref, title) rows in one statement; return the number of each ref.

    All or none; the caller commits. Some thousand rows at a time: they are one text.
    """
    with conn.cursor() as cursor:
        rows = [{"ref": ref, "title": title} for ref, title in tickets]
        cursor.execute(MANY, json.dumps(rows))
        return dict(map(tuple, cursor.fetchall()))


# --8<-- [end:many]

NO_SERVER = (
    "Set SQLSERVER_DSN, for example Server=127.0.0.1,11433;Database=master;UID=sa;"
    "PWD=Cook_Book1;Encrypt=yes;TrustServerCertificate=yes"
    " after `docker compose up -d --wait sqlserver`"
)


def main() -> None:
    dsn = os.environ.get("SQLSERVER_DSN") or sys.exit(NO_SERVER)
    with mssql_python.connect(dsn, timeout=5) as conn:
        conn.timeout = 30
        conn.execute(SCHEMA)
        number, created = insert(conn, "a-1", "the printer is on fire")
        print(f"ticket {number}, with a time zone: {created.tzinfo is not None}")
        numbers = insert_many(conn, [("a-2", "no paper"), ("a-3", "no ink")])
        print(
            "each has a number of its own:", *sorted(numbers), len({*numbers.values()})
        )


if __name__ == "__main__":
    main()
