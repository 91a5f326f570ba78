# /// script
# requires-python = ">=3.11"
# dependencies = ["alembic>=1.17", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Find what somebody changed in the schema by hand.

A release writes down the schema that its migrations make. Every night the live database
is compared with that file: also checks, views and triggers, which Alembic does not see.
"""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, inspect

# --8<-- [start:snapshot]
MORE = {  # what SQLAlchemy does not read: kind, name, definition
    "sqlite": "SELECT type, name, sql FROM sqlite_master WHERE type = 'trigger'",
    "mysql": """
        SELECT 'trigger', trigger_name, concat_ws(' ', action_timing,
            event_manipulation, event_object_table, action_statement)
        FROM information_schema.triggers WHERE trigger_schema = database()
        UNION ALL SELECT routine_type, routine_name, routine_definition
        FROM information_schema.routines WHERE routine_schema = database()""",
    "postgresql": """
        SELECT 'trigger', tgname, tgenabled::text || ' ' || pg_get_triggerdef(t.oid)
        FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
        WHERE NOT tgisinternal AND relnamespace = current_schema()::regnamespace
        UNION ALL SELECT 'function', oid::regprocedure::text, prosrc
        FROM pg_proc WHERE pronamespace = current_schema()::regnamespace
        UNION ALL SELECT 'not valid', conname, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE NOT convalidated
        AND connamespace = current_schema()::regnamespace""",
}


def snapshot(conn: Connection) -> list[str]:
    """The revision and the schema: one line for each thing in it, sorted."""
    ask = inspect(conn)
    found: list[tuple[str, str, Any]] = [
        ("revision", head, "")
        for head in MigrationContext.configure(conn).get_current_heads()
    ]
    of: dict[str, Any] = {
        "column": ask.get_columns,
        "primary key": lambda table: [ask.get_pk_constraint(table)],
        "index": ask.get_indexes,
        "unique": ask.get_unique_constraints,
        "foreign key": ask.get_foreign_keys,
        "check": ask.get_check_constraints,
    }
    for table in ask.get_table_names():
        for kind, get in of.items():
            found += [(kind, f"{table}.{it['name']}", it) for it in get(table)]
    for view in ask.get_view_names():
        found.append(("view", view, ask.get_view_definition(view)))
    found += [tuple(row) for row in conn.exec_driver_sql(MORE[conn.dialect.name])]
    lines = (f"{kind} {name} {what}" for kind, name, what in found)
    return sorted(" ".join(line.split()) for line in lines)


# --8<-- [end:snapshot]


# --8<-- [start:drift]
def drift(conn: Connection, expected: list[str]) -> list[str]:
    """What is missing, as "- line", and what nobody expects, as "+ line"."""
    there, wanted = set(snapshot(conn)), set(expected)
    gone = [f"- {line}" for line in sorted(wanted - there)]
    return gone + [f"+ {line}" for line in sorted(there - wanted)]


def watch(url: str, file: Path) -> None:
    """For cron: return where nothing differs; else SystemExit, which prints the lines
    on stderr and ends the program with code 1. Raises what the database raises.
    """
    engine = create_engine(url)
    try:
        with engine.connect() as conn:
            lines = drift(conn, file.read_text("utf-8").splitlines())
    finally:
        engine.dispose()
    if lines:
        sys.exit("\n".join(lines))


# --8<-- [end:drift]

NO_SERVER = """Set DATABASE_URL, for example \
postgresql+psycopg://cook:cook@127.0.0.1:15432/cookbook or sqlite:///app.db"""


def main() -> None:
    url = os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER)
    engine = create_engine(url)
    with TemporaryDirectory() as folder, engine.begin() as conn:
        file = Path(folder, "schema.txt")
        conn.exec_driver_sql("CREATE TABLE item (id INT PRIMARY KEY, price INT)")
        conn.exec_driver_sql("CREATE VIEW cheap AS SELECT id FROM item WHERE price < 9")
        file.write_text("\n".join(snapshot(conn)), "utf-8")
        print("after the release:", drift(conn, file.read_text("utf-8").splitlines()))
        conn.exec_driver_sql("DROP VIEW cheap")
        conn.exec_driver_sql("CREATE INDEX quick ON item (price)")
        for line in drift(conn, file.read_text("utf-8").splitlines()):
            print("by hand:", *line.split()[:3])
    engine.dispose()


if __name__ == "__main__":
    main()
