# /// script
# requires-python = ">=3.11"
# dependencies = ["alembic>=1.17", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Start with Alembic.

Four files make a migration folder. The address comes from the environment, never from a
file: so the same folder serves every database, and no password is committed.
"""

import os
import sys
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, inspect

FILES = {
    "pyproject.toml": """\
# --8<-- [start:pyproject]
[tool.alembic]
script_location = "%(here)s/migrations"
prepend_sys_path = ["%(here)s"]
# --8<-- [end:pyproject]
""",
    "migrations/env.py": """\
# --8<-- [start:env]
import os
import sys

from alembic import context
from sqlalchemy import create_engine, pool
from models import Base

url = os.environ.get("DATABASE_URL") or sys.exit("Set DATABASE_URL")
options = {
    "target_metadata": Base.metadata,
    "compare_server_default": True,  # or changed defaults are not seen
    "render_as_batch": url.startswith("sqlite"),  # its ALTER TABLE can do little
}

if context.is_offline_mode():
    options["dialect_opts"] = {"paramstyle": "named"}  # or every % is doubled
    context.configure(url=url, literal_binds=True, **options)
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, **options)
        with context.begin_transaction():
            context.run_migrations()
# --8<-- [end:env]
""",
    "migrations/script.py.mako": '''\
"""${message}."""

import sqlalchemy as sa
from alembic import op
${imports or ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    ${upgrades or "pass"}


def downgrade() -> None:
    ${downgrades or "pass"}
''',
    "models.py": """\
# --8<-- [start:models]
from sqlalchemy import MetaData, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


NAMES = {  # a constraint without a name cannot be dropped later
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}

class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMES)

class Account(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(100), unique=True)
# --8<-- [end:models]
""",
}


# --8<-- [start:start]
def start(folder: Path) -> Config:
    """Write the files into the folder; return what Alembic's commands take.

    Raises FileExistsError, and then has written nothing.
    """
    if taken := [name for name in FILES if (folder / name).exists()]:
        raise FileExistsError(f"in {folder}: {', '.join(taken)}")
    (folder / "migrations" / "versions").mkdir(parents=True, exist_ok=True)
    for name, content in FILES.items():
        kept = [line for line in content.splitlines(True) if "--8<--" not in line]
        (folder / name).write_text("".join(kept), "utf-8")
    return Config(toml_file=folder / "pyproject.toml", cmd_opts=Namespace(quiet=True))


# --8<-- [end:start]

NO_SERVER = """Set DATABASE_URL, for example \
postgresql+psycopg://cook:cook@127.0.0.1:15432/cookbook or sqlite:///app.db"""


def main() -> None:
    engine = create_engine(os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER))
    with TemporaryDirectory() as folder:
        config = start(Path(folder))
        command.revision(config, "Create account", autogenerate=True, rev_id="0001")
        print(*(path.name for path in Path(folder).glob("migrations/versions/*.py")))
        command.upgrade(config, "head")
        print("upgraded:", sorted(inspect(engine).get_table_names()))
        command.downgrade(config, "base")
        print("downgraded:", sorted(inspect(engine).get_table_names()))
    engine.dispose()


if __name__ == "__main__":
    main()
