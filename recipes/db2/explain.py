# /// script
# requires-python = ">=3.11"
# dependencies = ["ibm-db>=3.3"]
# ///
"""Explain a statement: its steps, their costs, and the indexes it uses.

EXPLAIN writes the plan into tables, where a query finds it. Use this to see why a
statement is slow, and in a test to prove that it uses its index.
"""

import os
import secrets
import sys
from contextlib import closing, suppress
from dataclasses import dataclass

import ibm_db_dbi

NO_SERVER = (
    "Set DB2_DSN, for example DATABASE=COOKBOOK;HOSTNAME=127.0.0.1;PORT=15000;"
    "PROTOCOL=TCPIP;UID=db2inst1;PWD=cook;"
    " after `docker compose up -d --wait db2`"
)


# --8<-- [start:explain]
@dataclass(frozen=True)
class Step:
    operator: str  # TBSCAN reads a whole table, IXSCAN an index
    cost: float  # estimated, in timerons, with the steps below it
    reads: str | None  # the table or the index


KEYS = (
    "EXPLAIN_REQUESTER, EXPLAIN_TIME, SOURCE_NAME, SOURCE_SCHEMA, SOURCE_VERSION,"
    " EXPLAIN_LEVEL, STMTNO, SECTNO"
)


def explain(conn: "ibm_db_dbi.Connection", statement: str) -> list[Step]:
    """Return the plan of the statement, the last step first, and leave no trace.

    It is not executed. Write values into it, not markers: the plan depends on them.
    Raises what the server says of the statement.
    """
    tables = explain_schema(conn)
    tag = secrets.token_hex(10)  # of at most 20 characters; marks the rows as ours
    query = f"""
        SELECT RTRIM(o.OPERATOR_TYPE), o.TOTAL_COST, d.OBJECT_NAME
        FROM {tables}.EXPLAIN_STATEMENT AS t
        JOIN {tables}.EXPLAIN_OPERATOR AS o ON {_same("t", "o")}
        LEFT JOIN {tables}.EXPLAIN_STREAM AS d ON {_same("o", "d")}
            AND d.SOURCE_TYPE = 'D' AND d.TARGET_ID = o.OPERATOR_ID
        WHERE t.QUERYTAG = ? AND t.EXPLAIN_LEVEL = 'P'
        ORDER BY o.OPERATOR_ID
    """
    with closing(conn.cursor()) as cursor:
        cursor.execute("SAVEPOINT plan ON ROLLBACK RETAIN CURSORS")
        try:
            cursor.execute(f"EXPLAIN PLAN SET QUERYTAG = '{tag}' FOR {statement}")
            cursor.execute(query, (tag,))
            return [Step(*row) for row in cursor.fetchall()]
        finally:
            with suppress(ibm_db_dbi.Error):  # a lost line: the first error counts
                cursor.execute("ROLLBACK TO SAVEPOINT plan")


def _same(one: str, other: str) -> str:
    return " AND ".join(f"{one}.{key} = {other}.{key}" for key in KEYS.split(", "))


# --8<-- [end:explain]


# --8<-- [start:tables]
def explain_schema(conn: "ibm_db_dbi.Connection") -> str:
    """Return the schema of the tables that EXPLAIN writes to: the user's, or SYSTOOLS.

    LookupError: there are none. create_explain_tables() makes them, once a database.
    """
    query = (
        "SELECT RTRIM(TABSCHEMA) FROM SYSCAT.TABLES WHERE TABNAME = 'EXPLAIN_STATEMENT'"
        " AND TABSCHEMA IN (SESSION_USER, 'SYSTOOLS')"
        " ORDER BY CASE TABSCHEMA WHEN 'SYSTOOLS' THEN 1 ELSE 0 END"
    )
    with closing(conn.cursor()) as cursor:
        cursor.execute(query)
        row = cursor.fetchone()
    if row is None:
        raise LookupError("no explain tables: call create_explain_tables()")
    return f'"{row[0]}"'


def create_explain_tables(conn: "ibm_db_dbi.Connection") -> None:
    """Create the tables in the schema SYSTOOLS, for every user. Commits."""
    nothing = "CAST(NULL AS VARCHAR(128))"
    with closing(conn.cursor()) as cursor:
        cursor.execute(
            f"CALL SYSPROC.SYSINSTALLOBJECTS('EXPLAIN', 'C', {nothing}, {nothing})"
        )
    conn.commit()


# --8<-- [end:tables]

TABLE = "CREATE TABLE visitor (id INTEGER NOT NULL, email VARCHAR(40) NOT NULL)"

# Ten thousand rows, from ten digits.
ROWS = """
INSERT INTO visitor
WITH digit (n) AS (VALUES 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
SELECT id, 'visitor' CONCAT VARCHAR(id) CONCAT '@example.com' FROM (
    SELECT a.n + 10 * b.n + 100 * c.n + 1000 * d.n
    FROM digit a, digit b, digit c, digit d
) AS t (id)
"""

INDEX = "CREATE UNIQUE INDEX visitor_email ON visitor (email) COLLECT STATISTICS"


def main() -> None:
    dsn = os.environ.get("DB2_DSN") or sys.exit(NO_SERVER)
    query = "SELECT id FROM visitor WHERE email = 'visitor7@example.com'"
    limits = "CONNECTTIMEOUT=5;RECEIVETIMEOUT=60;"
    with closing(ibm_db_dbi.connect(limits + dsn, "", "")) as conn:
        try:
            explain_schema(conn)
        except LookupError:
            create_explain_tables(conn)
        with closing(conn.cursor()) as cursor:
            cursor.execute(TABLE)
            for statement in (ROWS, INDEX):
                cursor.execute(statement)
                conn.commit()
                plan = explain(conn, query)
                print(*(f"{step.operator} {step.reads}" for step in plan if step.reads))


if __name__ == "__main__":
    main()
