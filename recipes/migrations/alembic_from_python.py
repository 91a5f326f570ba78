# /// script
# requires-python = ">=3.11"
# dependencies = ["alembic>=1.17", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Run Alembic from your program.

For a program that migrates its database as it starts. Of several that start at once one
migrates and the others wait; an error reaches the caller; logging stays as it is.
"""

import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, exc

FILES = {  # your migration folder, in small
    "env.py": """\
# --8<-- [start:env]
from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
# --8<-- [end:env]
""",
    "versions/0001_create_account.py": """\
from alembic import op
revision, down_revision = "0001", None
def upgrade():
    op.execute("CREATE TABLE account (id INTEGER PRIMARY KEY)")
def downgrade():
    op.drop_table("account")
""",
}


def write(folder: Path) -> None:
    (folder / "versions").mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text, "utf-8")


# --8<-- [start:lock]
NAME = "CONCAT('alembic ', MD5(DATABASE()))"  # without it, the whole server's lock
MYSQL = f"SELECT GET_LOCK({NAME}, 0)", f"SELECT RELEASE_LOCK({NAME})"
POSTGRESQL = "SELECT pg_try_advisory_lock(727)", "SELECT pg_advisory_unlock(727)"
LOCKS = {"postgresql": POSTGRESQL, "mariadb": MYSQL, "mysql": MYSQL}


def take(conn: Connection) -> bool:
    """Try to take the lock, which is the session's; on SQLite the transaction's."""
    if conn.dialect.name in LOCKS:
        taken = bool(conn.exec_driver_sql(LOCKS[conn.dialect.name][0]).scalar())
        conn.commit()  # or it waits idle in a transaction
        return taken
    try:
        conn.exec_driver_sql("BEGIN IMMEDIATE")
    except exc.OperationalError as error:
        conn.rollback()
        if "database is locked" not in str(error):
            raise
        return False
    return True


@contextmanager
def alone(conn: Connection, seconds: float) -> Iterator[None]:
    """Only one process at a time, on this database. Commits at the end.

    Raises TimeoutError where another holds the lock for longer; ValueError where the
    connection is in a transaction, which would be committed too.
    """
    if conn.in_transaction():
        raise ValueError("the connection is in a transaction")
    until = monotonic() + seconds
    while not take(conn):
        if monotonic() > until:
            raise TimeoutError(f"another process migrates for more than {seconds} s")
        sleep(0.1)
    try:
        yield
        conn.commit()
    finally:
        conn.rollback()  # which does nothing after the commit
        if conn.dialect.name in LOCKS and not conn.invalidated:
            conn.exec_driver_sql(LOCKS[conn.dialect.name][1])
            conn.commit()


# --8<-- [end:lock]
# --8<-- [start:migrate]
def current(conn: Connection) -> str | None:
    """The revision that the database is at; None before the first."""
    return MigrationContext.configure(conn).get_current_revision()


def migrate(
    conn: Connection, folder: Path, to: str = "head", down: bool = False, wait: int = 60
) -> str | None:
    """Go up to that revision, or down to it; return where the database is then.

    Waits that many seconds for another process. Raises what `alone` raises,
    CommandError for a revision that is not there, and what a migration raises.
    """
    config = Config(cmd_opts=Namespace(quiet=True), attributes={"connection": conn})
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    with alone(conn, wait):
        (command.downgrade if down else command.upgrade)(config, to)
        return current(conn)


# --8<-- [end:migrate]

NO_SERVER = """Set DATABASE_URL, for example \
postgresql+psycopg://cook:cook@127.0.0.1:15432/cookbook or sqlite:///app.db"""


def main() -> None:
    engine = create_engine(os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER))
    with TemporaryDirectory() as name, engine.connect() as conn:
        write(folder := Path(name))
        print("up:", migrate(conn, folder))
        print("down:", migrate(conn, folder, "base", down=True))
    engine.dispose()


if __name__ == "__main__":
    main()
