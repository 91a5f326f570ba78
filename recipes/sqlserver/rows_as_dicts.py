# /// script
# requires-python = ">=3.11"
# dependencies = ["mssql-python>=1.16"]
# ///
"""Read rows as dicts.

For JSON answers, templates and tests. The names come from the query; two columns of
one name are an error here, where a plain dict would silently keep the second.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import mssql_python
from mssql_python import Connection

# --8<-- [start:dicts]
Dict = dict[str, Any]


def dicts(
    conn: Connection, sql: str, *args: object, size: int = 1_000
) -> Iterator[Dict]:
    """The rows of a query, size of them fetched at a time.

    Money comes as Decimal, datetimeoffset as an aware datetime, uniqueidentifier as
    UUID, NULL as None. Raises ValueError when the columns cannot be keys: one has no
    name, or two have the same.
    """
    with conn.cursor() as cursor:
        cursor.execute(sql, *args)
        names = [column[0] for column in cursor.description or ()]
        wrong = [
            name for name, count in Counter(names).items() if count > 1 or not name
        ]
        if wrong or not names:
            raise ValueError(
                f"give each column a name of its own: {wrong or 'no rows'}"
            )
        rows = cursor.fetchmany(size)
        while rows:
            yield from (dict(zip(names, row, strict=True)) for row in rows)
            rows = cursor.fetchmany(size)
        # A line that breaks between two rows is a message, and no error.
        if lost := [text for state, text in cursor.messages if "[08" in state]:
            raise mssql_python.OperationalError("Line lost", lost[0])


# --8<-- [end:dicts]

NO_SERVER = (
    "Set SQLSERVER_DSN, for example Server=127.0.0.1,11433;Database=master;UID=sa;"
    "PWD=Cook_Book1;Encrypt=yes;TrustServerCertificate=yes"
    " after `docker compose up -d --wait sqlserver`"
)


def main() -> None:
    dsn = os.environ.get("SQLSERVER_DSN") or sys.exit(NO_SERVER)
    with mssql_python.connect(dsn, timeout=5) as conn:
        conn.timeout = 30
        for row in dicts(
            conn,
            "SELECT n AS id, CAST(n * 0.10 AS decimal(9, 2)) AS price,"
            " NULLIF(n, 2) AS other"
            " FROM (VALUES (1), (2), (3)) AS number (n) WHERE n >= ? ORDER BY n",
            2,
        ):
            print(row)
        try:
            list(dicts(conn, "SELECT 1 AS id, 'anna' AS name, 2 AS id"))
        except ValueError as error:
            print(error)


if __name__ == "__main__":
    main()
