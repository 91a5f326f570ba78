# /// script
# requires-python = ">=3.11"
# dependencies = ["oracledb>=3.4"]
# ///
"""See the plan of a query: the one that is expected, and the one that ran.

EXPLAIN PLAN guesses without running, and without your values. DBMS_XPLAN.DISPLAY_CURSOR
shows what the query did, with the rows that were expected beside those that came.
"""

import os
import re
import sys
from typing import Any, NamedTuple

import oracledb

TABLE = """
CREATE TABLE orders (
    id       NUMBER(9),
    customer NUMBER(9) NOT NULL,
    note     CHAR(200) DEFAULT '-' NOT NULL
)
"""
NO_SERVER = (
    "Set ORACLE_DSN, for example cook/cook@127.0.0.1:11521/FREEPDB1"
    " after `docker compose up -d --wait oracle`"
)


# --8<-- [start:explain]
class Step(NamedTuple):
    operation: str  # such as "INDEX RANGE SCAN"
    name: str | None  # of the table or index
    rows: int | None  # as expected


def explain(conn: oracledb.Connection, query: str) -> list[Step]:
    """Return the expected plan of a query with literals, without running it.

    A bind variable would be taken for a text of unknown value. Needs no rights beyond
    those for the query; leaves nothing behind.
    """
    with conn.cursor() as cursor:
        cursor.execute("SAVEPOINT explain_plan")
        cursor.execute(f"EXPLAIN PLAN SET STATEMENT_ID = 'explained' FOR {query}")
        cursor.execute(
            "SELECT operation || NVL2(options, ' ' || options, ''), object_name,"
            " cardinality FROM plan_table"
            " WHERE statement_id = 'explained' ORDER BY id"
        )
        steps = [Step(*row) for row in cursor]
        cursor.execute("ROLLBACK TO SAVEPOINT explain_plan")
    return steps


# --8<-- [end:explain]


# --8<-- [start:measure]
def measure(conn: oracledb.Connection, query: str, **binds: Any) -> str:
    """Run a SELECT to its end, and return the plan that it had, with the real rows.

    Raises ValueError for anything but a SELECT. Needs rights to see V$SESSION, V$SQL,
    V$SQL_PLAN and V$SQL_PLAN_STATISTICS_ALL, as SELECT_CATALOG_ROLE has.
    """
    with conn.cursor() as cursor:
        cursor.execute(counted(query), binds)
        for _ in cursor:  # to its end, or the counts are those of a part
            pass
        cursor.execute(
            "SELECT plan_table_output FROM"
            " TABLE(DBMS_XPLAN.DISPLAY_CURSOR(NULL, NULL, 'ALLSTATS LAST'))"
        )
        return "\n".join(line or "" for (line,) in cursor)


def counted(query: str) -> str:
    """Ask the server to count the rows of each step."""
    hint = "SELECT /*+ GATHER_PLAN_STATISTICS */"
    query, found = re.subn(r"\A\s*SELECT\b", hint, query, flags=re.IGNORECASE)
    if not found:
        raise ValueError("only a query that begins with SELECT can be measured")
    return query


# --8<-- [end:measure]


def main() -> None:
    dsn = os.environ.get("ORACLE_DSN") or sys.exit(NO_SERVER)
    with oracledb.connect(dsn, tcp_connect_timeout=5) as conn, conn.cursor() as cursor:
        conn.call_timeout = 30_000  # milliseconds
        cursor.execute(TABLE)
        rows = [(n, n // 10) for n in range(5_000)]
        cursor.executemany("INSERT INTO orders (id, customer) VALUES (:1, :2)", rows)
        cursor.callproc("dbms_stats.gather_table_stats", [None, "ORDERS"])
        query = "SELECT id FROM orders WHERE customer = 7"
        print("before:", explain(conn, query)[1].operation)
        cursor.execute("CREATE INDEX orders_customer ON orders (customer)")
        print("after:", explain(conn, query)[-1].operation)


if __name__ == "__main__":
    main()
