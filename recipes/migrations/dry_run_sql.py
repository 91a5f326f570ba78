# /// script
# requires-python = ">=3.11"
# dependencies = ["alembic>=1.17", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Write a migration as SQL, without running it.

Somebody else reviews or runs it, and may have no Python. Alembic writes it offline; a
migration that asks the database, or binds parameters, cannot be written so.
"""

import os
import sys
from argparse import Namespace
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, inspect

FILES = {  # your migration folder, in small
    "env.py": """\
# --8<-- [start:env]
import os

from alembic import context
from sqlalchemy import create_engine, pool, text

GUARD = (  # a script cannot ask; this INSERT of NULL stops it
    "-- Fails where the database is at another revision\\n"
    "INSERT INTO alembic_version (version_num) SELECT NULL WHERE NOT EXISTS"
    " (SELECT 1 FROM alembic_version WHERE version_num = :start)"
)
url = os.environ["DATABASE_URL"]
if context.is_offline_mode():
    context.configure(
        url=url,
        literal_binds=True,  # values, no placeholders
        dialect_opts={"paramstyle": "named"},  # or every % is doubled
    )
    with context.begin_transaction():
        if start := context.get_starting_revision_argument():
            context.execute(text(GUARD).bindparams(start=start))
        context.run_migrations()
else:
    with create_engine(url, poolclass=pool.NullPool).connect() as connection:
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()
# --8<-- [end:env]
""",
    "versions/0001_create_country.py": """\
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0001", None
def upgrade():
    code = sa.Column("code", sa.String(2), primary_key=True)
    country = op.create_table("country", code, sa.Column("name", sa.String(50)))
    rows = [{"code": "IS", "name": "Iceland"}, {"code": "CI", "name": "Côte d'Ivoire"}]
    op.bulk_insert(country, rows)
def downgrade():
    op.drop_table("country")
""",
    "versions/0002_add_area.py": """\
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0002", "0001"
def upgrade():
    op.add_column("country", sa.Column("area", sa.Integer))
    country = sa.table("country", sa.column("code"), sa.column("area", sa.Integer))
    op.execute(country.update().where(country.c.code == "IS").values(area=103000))
def downgrade():
    op.drop_column("country", "area")
""",
}


def write(folder: Path) -> None:
    """Write the migration folder."""
    (folder / "versions").mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text, "utf-8")


# --8<-- [start:sql]
def sql_of(folder: Path, start: str, end: str, *, down: bool = False) -> str:
    """The SQL from one revision to another, for the engine that DATABASE_URL names;
    nothing is connected to. "base" is before the first, "head" the last.

    Raises ValueError where there is nothing to write, CommandError for a revision that
    is not there or a migration that wants a connection.
    """
    if not start or not end:
        raise ValueError("a script must know which revision it starts from")
    written = StringIO()
    config = Config(output_buffer=written, cmd_opts=Namespace(quiet=True))
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    run = command.downgrade if down else command.upgrade
    run(config, f"{start}:{end}", sql=True)
    script = written.getvalue()
    if "-- Running" not in script:
        raise ValueError(f"no migration from {start} to {end}")
    return script


# --8<-- [end:sql]

NO_SERVER = (
    "Set DATABASE_URL, for example"
    " postgresql+psycopg://cook:cook@127.0.0.1:15432/cookbook or sqlite:///app.db"
)


def main() -> None:
    engine = create_engine(os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER))
    with TemporaryDirectory() as name:
        write(folder := Path(name))
        for line in sql_of(folder, "0001", "0002").splitlines():
            if line.startswith(("ALTER", "UPDATE")):
                print(line.replace("`", ""))
    print("tables:", inspect(engine).get_table_names())
    engine.dispose()


if __name__ == "__main__":
    main()
