# /// script
# requires-python = ">=3.11"
# dependencies = ["sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Read tables that have no models.

The database knows its own tables. Reflect one, query it, follow its foreign keys; or
ask what your models have and the database lacks, before the first request finds out.
"""

import os
import sys
from typing import Any

from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    insert,
    inspect,
    select,
)


# --8<-- [start:reflect]
def reflect_table(engine: Engine, name: str) -> Table:
    """The table as it is in the database, with those that it refers to in its metadata.

    Raises NoSuchTableError. Keep the table: this asks the database many questions.
    """
    return Table(name, MetaData(), autoload_with=engine)


def first_rows(engine: Engine, table: Table, limit: int = 10) -> list[dict[str, Any]]:
    """The first rows by primary key, as dicts."""
    query = select(table).order_by(*table.primary_key).limit(limit)
    with engine.connect() as conn:
        return [dict(row) for row in conn.execute(query).mappings()]


# --8<-- [end:reflect]


# --8<-- [start:missing]
def missing(engine: Engine, models: MetaData) -> list[str]:
    """What the models have and the database lacks: "table" or "table.column", sorted.

    Tables of the default schema. Types and constraints are not compared.
    """
    inspector = inspect(engine)  # a new one: it remembers what it was told
    there = {
        table: {column["name"] for column in columns}
        for (_, table), columns in inspector.get_multi_columns().items()
    }
    lacking = []
    for table in models.tables.values():
        if table.name not in there:
            lacking.append(table.name)
            continue
        names = {column.name for column in table.columns}
        lacking += [f"{table.name}.{name}" for name in names - there[table.name]]
    return sorted(lacking)


# --8<-- [end:missing]

# Your models' metadata: `Base.metadata`.
MODELS = MetaData()
TEAM = Table("team", MODELS, Column("id", Integer, primary_key=True))
MEMBER = Table(
    "member",
    MODELS,
    Column("id", Integer, primary_key=True),
    Column("name", String(50), nullable=False),
    Column("team_id", ForeignKey("team.id")),
)

NO_SERVER = (
    "Set DATABASE_URL, for example"
    " postgresql+psycopg://cook:cook@127.0.0.1:15432/cookbook or sqlite:///app.db"
)


def main() -> None:
    url = os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER)
    engine = create_engine(url)
    print("missing:", missing(engine, MODELS))
    MODELS.create_all(engine)
    with engine.begin() as conn:
        conn.execute(insert(TEAM).values(id=1))
        conn.execute(insert(MEMBER).values(id=1, name="Ann", team_id=1))
    print("missing:", missing(engine, MODELS))
    table = reflect_table(engine, "member")
    print("columns:", *table.columns.keys())
    print("refers to:", *(key.column for key in table.foreign_keys))
    print("rows:", first_rows(engine, table))
    engine.dispose()


if __name__ == "__main__":
    main()
