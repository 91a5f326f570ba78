# /// script
# requires-python = ">=3.11"
# dependencies = ["alembic>=1.17", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Know what Alembic's autogenerate misses.

It drafts most changes. It takes a renamed column for a dropped one, and does not see
checks, primary keys or the values of an enum. This finds those, before a review has to.
"""

import os
import sys
from typing import Any

from alembic.autogenerate import compare_metadata, produce_migrations
from alembic.autogenerate.api import render_python_code
from alembic.migration import MigrationContext
from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Enum,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    inspect,
)


# --8<-- [start:draft]
def draft(conn: Connection, models: MetaData) -> str:
    """The body of upgrade() as Alembic drafts it: from the database to the models."""
    context = MigrationContext.configure(conn, opts={"compare_server_default": True})
    upgrade = produce_migrations(context, models).upgrade_ops
    return render_python_code(upgrade) if upgrade else "pass"


# --8<-- [end:draft]


# --8<-- [start:renamed]
def maybe_renamed(conn: Connection, models: MetaData) -> list[str]:
    """Columns that the draft drops where it adds one of the same type, as "table: old
    -> new". Was it renamed, write op.alter_column(..., new_column_name=...) yourself.
    """
    dropped, added = [], []
    for change in compare_metadata(MigrationContext.configure(conn), models):
        match change:
            case ("remove_column", _, table, Column() as column):
                dropped.append((table, column))
            case ("add_column", _, table, Column() as column):
                added.append((table, column))

    def kind(column: Column[Any]) -> str:
        return column.type.as_generic().compile(conn.dialect)

    return [
        f"{table}: {old.name} -> {new.name}"
        for table, old in dropped
        for other, new in added
        if table == other and kind(old) == kind(new)
    ]


# --8<-- [end:renamed]


# --8<-- [start:missed]
def missed(conn: Connection, models: MetaData) -> list[str]:
    """What differs and is in no draft, as "table: what database -> models".

    Compares checks by name: a changed condition needs a new name.
    """
    inspector, found = inspect(conn), []
    enums: dict[str, Any] = {}
    if conn.dialect.name == "postgresql":
        types: Any = inspector  # of PostgreSQL
        enums = {it["name"]: it["labels"] for it in types.get_enums()}
    for name, table in models.tables.items():
        if not inspector.has_table(name):
            continue
        checks = [it for it in table.constraints if isinstance(it, CheckConstraint)]
        models_have = sorted(str(it.name) for it in checks if it.name)
        there = inspector.get_check_constraints(name)
        database_has = sorted(str(it["name"]) for it in there if it["name"])
        pairs = [("checks", database_has, models_have)]
        key = inspector.get_pk_constraint(name)["constrained_columns"]
        pairs.append(("key", key, [column.name for column in table.primary_key]))
        for column in table.columns:
            if isinstance(column.type, Enum) and column.type.name in enums:
                values = enums[column.type.name]
                pairs.append((column.name, values, column.type.enums))
        found += [f"{name}: {what} {a} -> {b}" for what, a, b in pairs if a != b]
    return found


# --8<-- [end:missed]

NO_SERVER = (
    "Set DATABASE_URL, for example"
    " postgresql+psycopg://cook:cook@127.0.0.1:15432/cookbook or sqlite:///app.db"
)


def main() -> None:
    engine = create_engine(os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER))
    number = Column("id", Integer, primary_key=True)
    before, models = MetaData(), MetaData()
    Table("item", before, number.copy(), Column("title", String(50)))
    check = CheckConstraint("id > 0", name="ck_item_id")
    Table("item", models, number.copy(), Column("name", String(50)), check)
    before.create_all(engine)
    with engine.connect() as conn:
        lines = [line.strip() for line in draft(conn, models).splitlines()]
        print("drafted:", *(it.split("(")[0] for it in lines if it.startswith("op.")))
        print("renamed?", *maybe_renamed(conn, models))
        print("missed:", *missed(conn, models))
    engine.dispose()


if __name__ == "__main__":
    main()
