# /// script
# requires-python = ">=3.11"
# dependencies = ["ibm-db>=3.3"]
# ///
"""Pass values as parameters, and prepare a statement once.

A parameter marker keeps a value out of the SQL text, so no value can change it, and the
server plans the statement once for all values. Use this for every value that is not a
constant of the program.
"""

import os
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime

import ibm_db_dbi

NO_SERVER = (
    "Set DB2_DSN, for example DATABASE=COOKBOOK;HOSTNAME=127.0.0.1;PORT=15000;"
    "PROTOCOL=TCPIP;UID=db2inst1;PWD=cook;"
    " after `docker compose up -d --wait db2`"
)

SCHEMA = """
CREATE TABLE visit (
    page VARCHAR(200) NOT NULL,
    seen TIMESTAMP(6) NOT NULL
)
"""


# --8<-- [start:prepare]
def utc(moment: datetime) -> datetime:
    """Return the time in UTC without a zone, as a TIMESTAMP column holds it.

    The driver would drop the zone without converting. ValueError: there is none.
    """
    if moment.utcoffset() is None:
        raise ValueError(f"{moment} has no time zone")
    return moment.astimezone(UTC).replace(tzinfo=None)


def add_visits(
    conn: "ibm_db_dbi.Connection", visits: Iterable[tuple[str, datetime]]
) -> int:
    """Insert each (page, aware time); return how many. The caller commits."""
    count = 0
    with closing(conn.cursor()) as cursor:
        cursor.prepare("INSERT INTO visit (page, seen) VALUES (?, ?)")
        for page, moment in visits:
            cursor.execute(None, (page, utc(moment)))  # None: what was prepared
            count += 1
    return count


# --8<-- [end:prepare]


# --8<-- [start:find]
def count_visits(
    conn: "ibm_db_dbi.Connection", pages: Sequence[str], since: datetime
) -> int:
    """Count the visits to any of the pages since an aware time."""
    if not pages:  # IN () is no SQL
        return 0
    markers = ", ".join("?" * len(pages))
    query = f"SELECT COUNT(*) FROM visit WHERE page IN ({markers}) AND seen >= ?"
    return int(_first(conn, query, (*pages, utc(since))))


def count_containing(conn: "ibm_db_dbi.Connection", text: str) -> int:
    """Count the visits to pages with that text in their name; % and _ are no jokers."""
    escaped = re.sub(r"([!%_])", r"!\1", text)
    query = "SELECT COUNT(*) FROM visit WHERE page LIKE ? ESCAPE '!'"
    return int(_first(conn, query, (f"%{escaped}%",)))


def minutes_later(conn: "ibm_db_dbi.Connection", moment: datetime, minutes: int) -> str:
    """Let the server add minutes to an aware time; return its text, in UTC."""
    # No column tells the type of these markers, so CAST does.
    query = "VALUES VARCHAR(CAST(? AS TIMESTAMP) + (CAST(? AS INTEGER)) MINUTES)"
    return _first(conn, query, (utc(moment), minutes))


# --8<-- [end:find]


def _first(
    conn: "ibm_db_dbi.Connection", query: str, values: tuple[object, ...]
) -> str:
    with closing(conn.cursor()) as cursor:
        cursor.execute(query, values)
        return str(cursor.fetchone()[0])


def main() -> None:
    dsn = os.environ.get("DB2_DSN") or sys.exit(NO_SERVER)
    noon = datetime(2026, 1, 5, 12, tzinfo=UTC)
    pages = ["/", "/price", "/100%", "/o'brien"]
    limits = "CONNECTTIMEOUT=5;RECEIVETIMEOUT=60;"
    with closing(ibm_db_dbi.connect(limits + dsn, "", "")) as conn:
        with closing(conn.cursor()) as cursor:
            cursor.execute(SCHEMA)
        print("added:", add_visits(conn, [(page, noon) for page in pages]))
        conn.commit()
        print("of two pages:", count_visits(conn, ["/", "/o'brien"], noon))
        print("with a % in the name:", count_containing(conn, "%"))
        print("a quarter later:", minutes_later(conn, noon, 15))


if __name__ == "__main__":
    main()
