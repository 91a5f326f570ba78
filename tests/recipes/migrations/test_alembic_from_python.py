import logging
import os
import subprocess
import sys
import threading
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import create_engine, event, inspect, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError

from recipes.migrations.alembic_from_python import alone, current, migrate, take, write

NEXT = """
import os, subprocess, sys
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0002", "0001"
def upgrade():
    {body}
def downgrade():
    pass
"""
# What a process that starts runs; a line on its input lets it go on.
PROCESS = """
import os, sys
from pathlib import Path
from sqlalchemy import create_engine
from recipes.migrations.alembic_from_python import migrate
print("ready", flush=True)
sys.stdin.readline()
with create_engine(os.environ["DATABASE_URL"]).connect() as conn:
    print(migrate(conn, Path(sys.argv[1])))
"""
LOGS = """
import logging, sys
from tests.recipes.migrations.test_alembic_from_python import migrate_as_often_copied
mine = logging.getLogger("my.program")
migrate_as_often_copied(sys.argv[1])
print("disabled:", mine.disabled)
"""
PROJECT = str(Path(__file__).parents[3])


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "100%"
    folder.mkdir()
    write(folder)
    return folder


@pytest.fixture
def engine(database):
    # SQLite's driver waits by itself, before the recipe does.
    wait = {"timeout": 0.05} if database.startswith("sqlite") else {}
    engine = create_engine(database, connect_args=wait)
    yield engine
    engine.dispose()


@pytest.fixture
def conn(engine):
    with engine.connect() as conn:
        yield conn


def add(folder, body):
    (folder / "versions/0002.py").write_text(NEXT.format(body=body), "utf-8")


def tables(engine):
    return sorted(inspect(engine).get_table_names())


def test_up_and_down(conn, engine, folder):
    """Up to the last revision, down to the first, and each time the answer is where the
    database is; others see it at once."""
    assert current(conn) is None
    conn.rollback()
    assert migrate(conn, folder) == "0001"
    assert not conn.in_transaction()
    assert tables(engine) == ["account", "alembic_version"]
    with engine.connect() as other:
        assert current(other) == "0001"
    assert migrate(conn, folder, "base", down=True) is None
    assert tables(engine) == ["alembic_version"]


def test_again(conn, folder):
    """Where there is nothing to do, nothing is done; a revision can be named."""
    add(folder, "op.execute('INSERT INTO account VALUES (1)')")
    assert migrate(conn, folder, "0001") == "0001"
    assert [migrate(conn, folder) for _ in range(3)] == ["0002"] * 3
    assert conn.scalar(text("SELECT count(*) FROM account")) == 1


def test_connection_in_a_transaction(conn, engine, folder):
    """A connection in a transaction is refused, and the transaction is still the
    caller's."""
    migrate(conn, folder)
    conn.execute(text("INSERT INTO account VALUES (1)"))
    with pytest.raises(ValueError, match="in a transaction"):
        migrate(conn, folder, "base", down=True)
    conn.rollback()
    assert conn.scalar(text("SELECT count(*) FROM account")) == 0


def test_several_processes(conn, database, folder):
    """Several processes that start while another migrates wait; then one of them
    migrates, each row is written once, and all say the same revision."""
    add(folder, "op.execute('INSERT INTO account VALUES (1)')")
    command_line = [sys.executable, "-c", PROCESS, folder]
    environment = {**os.environ, "DATABASE_URL": database, "PYTHONPATH": PROJECT}
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(
                    command_line,
                    env=environment,
                    text=True,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            )
            for _ in range(2)
        ]
        with alone(conn, 10):
            for process in started:
                assert process.stdout.readline() == "ready\n"
                process.stdin.write("\n")
                process.stdin.flush()
            with pytest.raises(subprocess.TimeoutExpired):
                started[0].wait(0.2)
        said = [process.communicate() for process in started]
    assert said == [("0002\n", "")] * 2
    assert conn.scalar(text("SELECT count(*) FROM account")) == 1


def test_waits_no_longer(conn, engine, folder):
    """Where another holds the lock for longer, TimeoutError; nothing has changed."""
    is_late = pytest.raises(TimeoutError, match="more than 0 s")
    with engine.connect() as other, alone(other, 10), is_late:
        migrate(conn, folder, wait=0)
    assert tables(engine) == []
    assert migrate(conn, folder) == "0001"


def test_holder_dies(conn, engine, folder):
    """A process that dies takes its lock with it: the next one migrates."""
    with engine.connect() as other:
        assert take(other)
        assert not take(conn)
        assert not conn.in_transaction()
        other.invalidate()  # closes its connection
    assert migrate(conn, folder, wait=10) == "0001"


def test_error(conn, engine, folder):
    """The error of a migration reaches the caller, and the lock is free. PostgreSQL and
    SQLite take all of it back, MariaDB what no ALTER or CREATE has committed."""
    add(folder, "op.execute('INSERT INTO account VALUES (1)'); op.execute('no SQL')")
    with pytest.raises(DBAPIError, match="no SQL"):
        migrate(conn, folder)
    is_whole = engine.dialect.name in ("postgresql", "sqlite")
    left = [] if is_whole else ["account", "alembic_version"]
    assert tables(engine) == left
    if left:
        assert current(conn) == "0001"
        assert conn.scalar(text("SELECT count(*) FROM account")) == 0
        conn.rollback()
    add(folder, "op.execute('INSERT INTO account VALUES (2)')")
    with engine.connect() as other:
        assert migrate(other, folder, wait=10) == "0002"


def test_error_before_the_first(conn, folder, engine):
    """A revision that is not there, and a folder that is not there, are errors."""
    with pytest.raises(CommandError, match="no_such"):
        migrate(conn, folder, "no_such")
    with pytest.raises(CommandError, match="no_such"):
        migrate(conn, folder / "no_such")
    with engine.connect() as other:
        assert take(other)
        other.rollback()


def test_connection_lost(conn, engine, folder):
    """A connection that is lost while it migrates is the error that the caller sees,
    even if the server answers nobody any more; and the lock is free."""
    kill = {
        "postgresql": "SELECT pg_terminate_backend(pg_backend_pid())",
        "sqlite": "PRAGMA no_such_pragma",
    }.get(engine.dialect.name, "KILL CONNECTION_ID()")
    add(folder, f'op.execute("{kill}"); op.execute("no SQL")')

    def refuse(*_):
        raise ConnectionRefusedError

    event.listen(engine, "do_connect", refuse)
    with pytest.raises(DBAPIError):
        migrate(conn, folder)
    event.remove(engine, "do_connect", refuse)
    (folder / "versions/0002.py").unlink()
    with engine.connect() as other:
        assert migrate(other, folder, wait=10) == "0001"


def test_database_that_cannot_be_written(tmp_path, folder):
    """On SQLite only "locked" is waited for: a file that cannot be written is an error
    at once."""
    path = tmp_path / "read_only.db"
    path.touch()
    engine = create_engine(f"sqlite:///file:{path}?mode=ro&uri=true")
    with engine.connect() as conn, pytest.raises(OperationalError, match="readonly"):
        migrate(conn, folder)
    engine.dispose()


def test_error_that_is_no_lock(sqlite):
    """On SQLite another error than "locked" is raised at once: here a transaction that
    SQLAlchemy does not know of."""
    engine = create_engine(f"sqlite:///{sqlite}")
    with engine.connect() as conn:
        conn.connection.driver_connection.execute("BEGIN")
        with pytest.raises(OperationalError, match="within a transaction"):
            take(conn)
    engine.dispose()


def test_index_while_another_waits(conn, engine):
    """Who waits holds no snapshot: PostgreSQL builds an index CONCURRENTLY meanwhile,
    which waits for every transaction that is older."""
    done, tries, waits = [], [], threading.Event()

    def wait_for_it():
        with engine.connect() as other, alone(other, 60):
            done.append("after")

    def count(conn, cursor, statement, *_):
        if any(it in statement for it in ("advisory", "GET_LOCK", "BEGIN")):
            tries.append(statement)
        if len(tries) > 1:
            waits.set()

    with alone(conn, 10):
        event.listen(engine, "before_cursor_execute", count)
        thread = threading.Thread(target=wait_for_it, daemon=True)
        thread.start()
        assert waits.wait(30)
        if engine.dialect.name == "postgresql":
            autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
            with autocommit.connect() as third:
                third.exec_driver_sql("CREATE TABLE item (id INTEGER)")
                third.exec_driver_sql("SET statement_timeout = '30s'")
                third.exec_driver_sql("CREATE INDEX CONCURRENTLY ix ON item (id)")
        done.append("before")
    thread.join(60)
    event.remove(engine, "before_cursor_execute", count)
    assert done == ["before", "after"]


def test_another_database(conn, database, tmp_path):
    """Another database of the same server has a lock of its own."""
    url = make_url(database)
    names = {"sqlite": f"{tmp_path}/other.db", "postgresql": "postgres"}
    name = names.get(url.get_backend_name(), "information_schema")
    engine = create_engine(url.set(database=name))
    with alone(conn, 10), engine.connect() as other:
        assert take(other)
    engine.dispose()


def test_logging_stays(conn, folder, caplog):
    """Handlers, levels and loggers of the program stay as they are, and Alembic's
    messages go where the program's go; nothing is printed."""
    mine, root = logging.getLogger("my.program"), logging.getLogger()
    before = root.handlers[:], root.level, mine.level
    with caplog.at_level(logging.INFO, "alembic"):
        migrate(conn, folder)
    assert "Running upgrade  -> 0001" in caplog.text
    assert (root.handlers, root.level, mine.level) == before
    assert not mine.disabled


def test_prints_nothing(conn, folder, capfd):
    """Nothing is printed."""
    migrate(conn, folder)
    assert capfd.readouterr() == ("", "")


# --8<-- [start:wrong]
def migrate_as_often_copied(ini):
    command.upgrade(Config(ini), "head")  # each process, as it starts


# --8<-- [end:wrong]


ENV = """
import os
from alembic import context
from sqlalchemy import create_engine, pool
engine = create_engine(os.environ["DATABASE_URL"], poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
# While the first process is between reading the version and writing, another runs.
MEANWHILE = """
    if "SECOND" not in os.environ:
        again = [sys.executable, "-m", "alembic", "-q", "upgrade", "head"]
        subprocess.run(again, env={**os.environ, "SECOND": "1"}, check=True)
    op.create_table("item", sa.Column("id", sa.Integer))
"""


def test_often_copied_two_at_once(conn, engine, folder, database, monkeypatch):
    """Often copied: without a lock two processes read the same version, both migrate,
    and one of them fails as it starts."""
    migrate(conn, folder)
    add(folder, MEANWHILE.strip())
    (folder / "env.py").write_text(ENV)
    (folder / "alembic.ini").write_text("[alembic]\nscript_location = .\n")
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.chdir(folder)
    with pytest.raises(DBAPIError, match="already exists"):
        migrate_as_often_copied("alembic.ini")
    assert current(conn) == "0002"


def test_often_copied_logging(tmp_path):
    """Often copied: the stock env.py configures logging: loggers that the program has
    already are disabled."""
    ini = tmp_path / "alembic.ini"
    config = Config(ini, cmd_opts=Namespace(quiet=True))
    command.init(config, str(tmp_path / "stock"))
    stock = ini.read_text().replace("driver://user:pass@localhost/dbname", "sqlite://")
    ini.write_text(stock)
    done = subprocess.run(
        [sys.executable, "-c", LOGS, ini],
        env={**os.environ, "PYTHONPATH": PROJECT},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "disabled: True\n", done.stderr
