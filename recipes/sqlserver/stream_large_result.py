# /// script
# requires-python = ">=3.11"
# dependencies = ["mssql-python>=1.16"]
# ///
"""Read a large result in constant memory.

The rows come from the server as you take them, a batch at a time. The query has a
connection to itself: until its last row is read, that connection can do nothing else.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import mssql_python
from mssql_python import Row


# --8<-- [start:stream]
@contextmanager
def stream(
    dsn: str, sql: str, *args: object, batch: int = 2_000, timeout: int = 60
) -> Iterator[Iterator[Row]]:
    """The rows of a query, batch of them in memory; leave the block early to stop it.

    timeout is for the start of the answer, in seconds. Raises mssql_python.Error, also
    while the rows are read: what was read until then may be only a part.
    """
    with mssql_python.connect(dsn, timeout=5, autocommit=True) as conn:
        conn.timeout = timeout
        with conn.cursor() as cursor:
            cursor.execute(sql, *args)

            def rows() -> Iterator[Row]:
                while True:
                    some = cursor.fetchmany(batch)
                    # A line that breaks between two rows is a message, and no error.
                    lost = [text for state, text in cursor.messages if "[08" in state]
                    if lost:
                        raise mssql_python.OperationalError("Line lost", lost[0])
                    if not some:
                        return
                    yield from some

            yield rows()


# --8<-- [end:stream]

NO_SERVER = (
    "Set SQLSERVER_DSN, for example Server=127.0.0.1,11433;Database=master;UID=sa;"
    "PWD=Cook_Book1;Encrypt=yes;TrustServerCertificate=yes"
    " after `docker compose up -d --wait sqlserver`"
)

# Many rows of nothing much: the catalogue of columns, times itself.
NUMBERS = """
SELECT TOP (?) ROW_NUMBER() OVER (ORDER BY (SELECT NULL)) AS n, REPLICATE('x', 100)
FROM sys.all_columns AS a CROSS JOIN sys.all_columns AS b
"""


def main() -> None:
    dsn = os.environ.get("SQLSERVER_DSN") or sys.exit(NO_SERVER)
    with stream(dsn, NUMBERS, 20_000) as rows:
        print("read", sum(1 for _ in rows), "rows")
    with stream(dsn, NUMBERS, 1_000_000) as rows:
        print("the first of a million is number", next(rows)[0])


if __name__ == "__main__":
    main()
