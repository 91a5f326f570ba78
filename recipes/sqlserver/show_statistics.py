# /// script
# requires-python = ">=3.11"
# dependencies = ["mssql-python>=1.16"]
# ///
"""Measure a query: pages read, time taken, and the plan.

The server counts while the query runs, and tells at its end. Pages read are the
number to compare: unlike the time, it is the same on every run.
"""

import os
import re
import sys
from dataclasses import dataclass, field

import mssql_python
from mssql_python import Connection, Row


# --8<-- [start:measure]
@dataclass
class Statistics:
    """What the server told of one query."""

    rows: list[Row] = field(default_factory=list)
    reads: dict[str, int] = field(default_factory=dict)  # table -> pages
    cpu_ms: int = 0
    plan: str = ""  # XML: save it as plan.sqlplan, and Management Studio draws it

    @property
    def operators(self) -> list[str]:
        """The steps of the plan, the last one first."""
        return re.findall(r'PhysicalOp="([^"]+)"', self.plan)


READS = re.compile(r"Table '(.+?)'\. Scan count \d+, logical reads (\d+)")
TIMES = re.compile(r"SQL Server Execution Times:\s+CPU time = (\d+) ms")
NAME = "Microsoft SQL Server 2005 XML Showplan"  # of the plan's column, in any version


def measure(conn: Connection, sql: str, *args: object) -> Statistics:
    """Run the query with its counters on; a statement that writes does write."""
    found, messages = Statistics(), list[tuple[str, str]]()
    conn.execute("SET LANGUAGE us_english")  # the counters come as text
    conn.execute("SET STATISTICS IO, TIME, XML ON")
    try:
        with conn.cursor() as cursor:
            cursor.execute(sql, *args)
            more: bool | None = True
            while more:  # the rows, then the plan; messages with each, and at the end
                if cursor.description and cursor.description[0][0] == NAME:
                    found.plan += "".join(text for (text,) in cursor.fetchall())
                elif cursor.description:
                    found.rows += cursor.fetchall()
                messages += cursor.messages
                more = cursor.nextset()
            messages += cursor.messages
    finally:
        conn.execute("SET STATISTICS IO, TIME, XML OFF")
    text = "\n".join(text for _, text in messages)
    for table, pages in READS.findall(text):
        found.reads[table] = found.reads.get(table, 0) + int(pages)
    found.cpu_ms = sum(map(int, TIMES.findall(text)))
    return found


# --8<-- [end:measure]

NO_SERVER = (
    "Set SQLSERVER_DSN, for example Server=127.0.0.1,11433;Database=master;UID=sa;"
    "PWD=Cook_Book1;Encrypt=yes;TrustServerCertificate=yes"
    " after `docker compose up -d --wait sqlserver`"
)

SCHEMA = """
CREATE TABLE visit (id int IDENTITY PRIMARY KEY, page int NOT NULL, note char(200));
INSERT INTO visit (page)
SELECT TOP (20000) ROW_NUMBER() OVER (ORDER BY (SELECT 1)) % 500
FROM sys.all_columns AS a CROSS JOIN sys.all_columns AS b;
"""


def main() -> None:
    dsn = os.environ.get("SQLSERVER_DSN") or sys.exit(NO_SERVER)
    with mssql_python.connect(dsn, timeout=5) as conn:
        conn.timeout = 60
        conn.execute(SCHEMA)
        query = "SELECT COUNT(*) FROM visit WHERE page = ?"
        slow = measure(conn, query, 7)
        conn.execute("CREATE INDEX visit_page ON visit (page)")
        fast = measure(conn, query, 7)
        print("the same answer:", slow.rows[0][0] == fast.rows[0][0])
        print(
            "a hundred times fewer pages:",
            slow.reads["visit"] > 100 * fast.reads["visit"],
        )
        print(slow.operators[-1], "became", fast.operators[-1])


if __name__ == "__main__":
    main()
