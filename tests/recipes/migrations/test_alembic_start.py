import os
import subprocess
import sys
from configparser import InterpolationSyntaxError

import pytest
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import create_engine, inspect, make_url
from sqlalchemy.exc import DBAPIError, NoSuchModuleError

from recipes.migrations.alembic_start import start

NEW_COLUMN = """
    email: Mapped[str] = mapped_column(String(100), unique=True)
    city: Mapped[str | None] = mapped_column(String(50), index=True)
"""


@pytest.fixture
def config(database, tmp_path, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", database)
    return start(tmp_path)


@pytest.fixture
def engine(database):
    engine = create_engine(database)
    yield engine
    engine.dispose()


def generate(config, number):
    command.revision(config, f"Number {number}", autogenerate=True, rev_id=number)


def version(engine):
    with engine.connect() as conn:
        return MigrationContext.configure(conn).get_current_revision()


def columns(engine):
    return [column["name"] for column in inspect(engine).get_columns("account")]


def test_first_migration(config, engine):
    """The first migration is drafted from the models; up makes the tables, down removes
    them."""
    generate(config, "0001")
    command.upgrade(config, "head")
    assert (version(engine), columns(engine)) == ("0001", ["id", "email"])
    command.downgrade(config, "base")
    assert (version(engine), inspect(engine).has_table("account")) == (None, False)


def test_second_migration(config, engine, tmp_path):
    """A change of the models is the next migration, and both ways of it work."""
    generate(config, "0001")
    command.upgrade(config, "head")
    models = tmp_path / "models.py"
    before, _, _ = models.read_text().partition("    email")
    models.write_text(before + NEW_COLUMN.lstrip("\n"))
    del sys.modules["models"]
    generate(config, "0002")
    command.upgrade(config, "head")
    assert (version(engine), columns(engine)) == ("0002", ["id", "email", "city"])
    (index,) = [it for it in inspect(engine).get_indexes("account") if not it["unique"]]
    assert index["name"] == "ix_account_city"
    command.check(config)  # no difference is left
    command.downgrade(config, "-1")
    assert (version(engine), columns(engine)) == ("0001", ["id", "email"])


def test_constraints_have_names(config, engine):
    """The unique constraint has the name that the convention gives it."""
    generate(config, "0001")
    command.upgrade(config, "head")
    (unique,) = inspect(engine).get_unique_constraints("account")
    assert unique["name"] == "uq_account_email"


def alembic(folder, url, *words):
    environment = {key: it for key, it in os.environ.items() if key != "DATABASE_URL"}
    return subprocess.run(
        [sys.executable, "-m", "alembic", "-c", folder / "pyproject.toml", *words],
        env={**environment, **({"DATABASE_URL": url} if url else {})},
        capture_output=True,
        text=True,
        cwd=folder.parent,
    )


def escaped(database, folder):
    """The same address, or another file, with a percent sign in it."""
    url = make_url(database)
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{folder}/50%25.db"
    secret = "".join(f"%{ord(letter):02x}" for letter in url.password)
    return database.replace(f":{url.password}@", f":{secret}@")


def test_command_line(database, config, tmp_path):
    """The command `alembic` works from another folder, and with percent signs in the
    address."""
    generate(config, "0001")
    url = escaped(database, tmp_path)
    assert "%" in url
    done = alembic(tmp_path, url, "upgrade", "head")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    engine = create_engine(url)
    assert version(engine) == "0001"
    engine.dispose()


def test_command_line_without_address(config, tmp_path):
    """Without an address the command says so, and fails."""
    done = alembic(tmp_path, None, "upgrade", "head")
    assert (done.returncode, done.stderr.strip()) == (1, "Set DATABASE_URL")


def test_offline(config, capsys):
    """The same env.py writes SQL where it may not connect."""
    generate(config, "0001")
    command.upgrade(config, "head", sql=True)
    assert "CREATE TABLE account" in capsys.readouterr().out


def test_offline_percent_sign(config, capsys, tmp_path):
    """In that SQL a percent sign is one, whatever the driver."""
    changes = "op.execute(\"UPDATE account SET email = '50%'\")"
    first = tmp_path / "migrations/versions/0001_percent.py"
    first.write_text(
        "from alembic import op\nrevision = '0001'\ndown_revision = None\n\n"
        f"def upgrade():\n    {changes}\n"
    )
    command.upgrade(config, "head", sql=True)
    assert "email = '50%';" in capsys.readouterr().out


def test_failed_migration(config, engine, tmp_path):
    """A migration that fails raises, and does not count as applied; PostgreSQL also
    takes its first statements back."""
    generate(config, "0001")
    (first,) = (tmp_path / "migrations/versions").glob("*.py")
    fails = "op.execute('CREATE TABLE half (id INTEGER)')\n    op.execute('no SQL')"
    second = (
        "from alembic import op\nrevision = '0002'\ndown_revision = '0001'\n\n"
        f"def upgrade():\n    {fails}\n"
    )
    first.with_name("0002_fails.py").write_text(second)
    command.upgrade(config, "0001")
    with pytest.raises(DBAPIError):
        command.upgrade(config, "head")
    assert version(engine) == "0001"
    is_left = inspect(engine).has_table("half")
    assert is_left == (engine.dialect.name != "postgresql")


def test_folder_that_is_not_empty(config, tmp_path):
    """Files that are there are not overwritten."""
    (tmp_path / "models.py").write_text("mine")
    with pytest.raises(FileExistsError, match=r"models\.py"):
        start(tmp_path)
    assert (tmp_path / "models.py").read_text() == "mine"


# --8<-- [start:wrong]
def start_as_often_copied(folder, url):
    config = Config(folder / "alembic.ini")
    command.init(config, str(folder / "migrations"))  # alembic init migrations
    config.set_main_option("sqlalchemy.url", url)  # or typed into alembic.ini
    return config


# --8<-- [end:wrong]


def test_often_copied_percent_sign(database, tmp_path):
    """Often copied: a password with an escaped character in alembic.ini is a syntax
    error."""
    with pytest.raises((ValueError, InterpolationSyntaxError)):
        start_as_often_copied(tmp_path, escaped(database, tmp_path))
    ini = tmp_path / "alembic.ini"
    address = "sqlalchemy.url = postgresql+psycopg://cook:p%40ss@db.example.com/cook"
    lines = ini.read_text().splitlines()
    written = [address if it.startswith("sqlalchemy.url") else it for it in lines]
    ini.write_text("\n".join(written))
    with pytest.raises(InterpolationSyntaxError):
        command.current(Config(ini))


def test_often_copied_no_models(database, tmp_path):
    """Often copied: the stock env.py knows no models, so nothing can be drafted."""
    config = start_as_often_copied(tmp_path, database)
    with pytest.raises(CommandError, match="MetaData"):
        command.revision(config, "first", autogenerate=True)


def test_often_copied_as_it_is(tmp_path):
    """Often copied: straight after `alembic init` the address is a placeholder."""
    start_as_often_copied(tmp_path, "sqlite://")
    with pytest.raises(NoSuchModuleError, match="driver"):
        command.upgrade(Config(tmp_path / "alembic.ini"), "head")
