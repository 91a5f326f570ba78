# /// script
# requires-python = ">=3.11"
# dependencies = ["mssql-python>=1.16"]
# ///
"""Insert a row, or update it where it is there already.

MERGE looks first and writes then. HOLDLOCK keeps others from inserting between the two;
without it, two callers with a new key can both see nothing, and one gets an error.
"""

import os
import sys

import mssql_python
from mssql_python import Connection

SCHEMA = """
CREATE TABLE counter (
    name  nvarchar(100) PRIMARY KEY,
    value bigint NOT NULL
);
"""


# --8<-- [start:add]
ADD = """
MERGE counter WITH (HOLDLOCK) AS target
USING (SELECT ? AS name, CAST(? AS bigint) AS step) AS source
    ON target.name = source.name
WHEN MATCHED THEN UPDATE SET value = target.value + source.step
WHEN NOT MATCHED THEN INSERT (name, value) VALUES (source.name, source.step)
OUTPUT $action, inserted.value;
"""


def add(conn: Connection, name: str, step: int) -> tuple[str, int]:
    """Add to the counter; return INSERT or UPDATE, and its value; the caller commits.

    Each call waits for the transaction of another call for the same name.
    """
    with conn.cursor() as cursor:
        cursor.execute(ADD, name, step)
        [[action, value]] = cursor.fetchall()
    return str(action), int(value)


# --8<-- [end:add]

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
        for step in (1, 41):
            print(*add(conn, "answers", step))


if __name__ == "__main__":
    main()
