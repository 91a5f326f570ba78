# /// script
# requires-python = ">=3.11"
# dependencies = ["ibm-db>=3.3"]
# ///
"""Insert many rows, and learn which ones were refused.

executemany() sends a batch in few round trips. When rows of it fail, the others are
stored already, and the error does not say which ones failed. Use this to load thousands
of rows, of which some may be bad.
"""

import os
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice

import ibm_db_dbi

NO_SERVER = (
    "Set DB2_DSN, for example DATABASE=COOKBOOK;HOSTNAME=127.0.0.1;PORT=15000;"
    "PROTOCOL=TCPIP;UID=db2inst1;PWD=cook;"
    " after `docker compose up -d --wait db2`"
)

# --8<-- [start:insert]
Row = tuple[object, ...]


@dataclass(frozen=True)
class Refused:
    position: int  # in the input, from 0
    row: Row
    error: str


@dataclass
class Loaded:
    inserted: int = 0
    refused: list[Refused] = field(default_factory=list)


def insert_rows(
    conn: "ibm_db_dbi.Connection",
    statement: str,
    rows: Iterable[Row],
    batch: int = 1000,
) -> Loaded:
    """Execute the INSERT for each row, without those that break a rule of the table.

    The caller commits; autocommit must be off. Raises ibm_db_dbi.Error for what is not
    about the values of a row, such as a deadlock or a lost line: roll back then.
    """
    loaded, source = Loaded(), enumerate(rows)
    with closing(conn.cursor()) as cursor:
        while part := list(islice(source, batch)):
            _insert(cursor, statement, part, loaded)
    return loaded


def _insert(
    cursor: "ibm_db_dbi.Cursor",
    statement: str,
    part: Sequence[tuple[int, Row]],
    loaded: Loaded,
) -> None:
    # One of the same name takes the place of the last; the commit ends it.
    cursor.execute("SAVEPOINT part ON ROLLBACK RETAIN CURSORS")
    try:
        cursor.executemany(statement, [row for _, row in part])
    except ibm_db_dbi.Error as error:
        if not is_about_values(error):
            raise
        cursor.execute("ROLLBACK TO SAVEPOINT part")
        if len(part) == 1:
            loaded.refused.append(Refused(*part[0], str(error)))
            return
        middle = len(part) // 2
        _insert(cursor, statement, part[:middle], loaded)
        _insert(cursor, statement, part[middle:], loaded)
    else:
        loaded.inserted += len(part)


def is_about_values(error: Exception) -> bool:
    """Whether nothing but rows failed: SQLSTATE 22 (data) or 23 (constraint), or none,
    where the driver itself refused a row."""
    states = re.findall(r"SQLSTATE=(\w\w)", str(error))
    return set(states) <= {"22", "23"}


# --8<-- [end:insert]

SCHEMA = """
CREATE TABLE item (
    id INTEGER NOT NULL PRIMARY KEY,
    name VARCHAR(10) NOT NULL,
    price DECIMAL(9, 2) NOT NULL CHECK (price > 0)
)
"""


def main() -> None:
    dsn = os.environ.get("DB2_DSN") or sys.exit(NO_SERVER)
    rows: list[Row] = [(n, f"item {n}", Decimal(n) / 100) for n in range(1, 1001)]
    rows[500] = (1, "again", Decimal(1))
    rows[700] = (701, "free", Decimal(0))
    limits = "CONNECTTIMEOUT=5;RECEIVETIMEOUT=60;"
    with closing(ibm_db_dbi.connect(limits + dsn, "", "")) as conn:
        with closing(conn.cursor()) as cursor:
            cursor.execute(SCHEMA)
        loaded = insert_rows(conn, "INSERT INTO item VALUES (?, ?, ?)", rows, batch=250)
        conn.commit()
    print("inserted:", loaded.inserted)
    for refused in loaded.refused:
        found = re.search(r"SQL\d+N", refused.error)
        print("row", refused.position, "refused:", found and found[0])


if __name__ == "__main__":
    main()
