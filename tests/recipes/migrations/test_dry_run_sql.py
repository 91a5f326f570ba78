import os
import subprocess
import sys
from argparse import Namespace

import pytest
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import create_engine, inspect, make_url, text
from sqlalchemy.exc import (
    CompileError,
    NoInspectionAvailable,
)

from recipes.migrations.dry_run_sql import sql_of, write

NEXT = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0003", "0002"
def upgrade():
    {body}
def downgrade():
    pass
"""


@pytest.fixture
def folder(database, tmp_path, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", database)
    folder = tmp_path / "100%"
    folder.mkdir()
    write(folder)
    return folder


@pytest.fixture
def engine(database):
    engine = create_engine(database)
    yield engine
    engine.dispose()


def add(folder, body):
    (folder / "versions/0003.py").write_text(NEXT.format(body=body), "utf-8")


def run(engine, script):
    """As a database's own client that stops at an error: statement by statement."""
    lines = [line for line in script.splitlines() if not line.startswith("--")]
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    with autocommit.connect() as conn:
        cursor = conn.connection.cursor()  # without parameters a % is a %
        for statement in "\n".join(lines).split(";\n"):
            if statement.strip():
                cursor.execute(statement)


def state(engine):
    inspector = inspect(engine)
    if not inspector.has_table("country"):
        return inspector.get_table_names()
    columns = [str(it) for it in inspector.get_columns("country")]
    with engine.connect() as conn:
        rows = conn.execute(text("SELECT * FROM country ORDER BY code")).all()
        version = conn.scalar(text("SELECT version_num FROM alembic_version"))
    return columns, rows, version


def online(folder, way, revision):
    config = Config(cmd_opts=Namespace(quiet=True))
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    way(config, revision)


def test_same_as_online(engine, folder):
    """The script makes the same columns, rows and version as the migrations do."""
    script = sql_of(folder, "base", "head")
    online(folder, command.upgrade, "head")
    by_alembic = state(engine)
    online(folder, command.downgrade, "base")
    with engine.begin() as conn:
        conn.execute(text("DROP TABLE alembic_version"))
    run(engine, script)
    assert state(engine) == by_alembic
    assert by_alembic[1] == [("CI", "Côte d'Ivoire", None), ("IS", "Iceland", 103000)]


def test_part_of_the_way(engine, folder):
    """From one revision to the next: only that is in the script, and Alembic goes on
    from there."""
    online(folder, command.upgrade, "0001")
    script = sql_of(folder, "0001", "0002")
    assert "CREATE TABLE" not in script
    run(engine, script)
    assert state(engine)[2] == "0002"
    online(folder, command.downgrade, "base")
    assert state(engine) == ["alembic_version"]


def test_way_down(engine, folder):
    """A way down is a script too."""
    online(folder, command.upgrade, "head")
    run(engine, sql_of(folder, "0002", "0001", down=True))
    columns, rows, version = state(engine)
    assert (len(columns), len(rows), version) == (2, 2, "0001")


def test_nothing_runs(engine, folder):
    """Writing the script changes nothing."""
    sql_of(folder, "base", "head")
    assert inspect(engine).get_table_names() == []


def test_needs_no_server(folder, database, monkeypatch):
    """Nothing is connected to: an address where nobody answers does."""
    url = make_url(database)
    if url.get_backend_name() != "sqlite":
        url = url.set(host="db.example.com", port=1)
    monkeypatch.setenv("DATABASE_URL", url.render_as_string(hide_password=False))
    assert "INSERT INTO alembic_version" in sql_of(folder, "base", "head")


def test_values_are_written(folder):
    """Values are in the script, quoted, and there are no placeholders."""
    script = sql_of(folder, "base", "head")
    assert "'Côte d''Ivoire'" in script
    assert "103000" in script
    assert not any(it in script for it in ("?", "%(", ":area"))


def test_difficult_values(engine, folder):
    """Percent signs, backslashes, quotes and colons arrive as the migration has them,
    in values and in SQL that is text there."""
    add(
        folder,
        "op.execute(\"UPDATE country SET name = '50%' WHERE code LIKE 'I%'\")\n"
        "    country = sa.table('country', sa.column('code', sa.String),"
        " sa.column('name', sa.String))\n"
        "    row = {'code': 'XX', 'name': '100% \\\\ \"it\\'s\" :code'}\n"
        "    op.bulk_insert(country, [row])",
    )
    online(folder, command.upgrade, "0002")
    run(engine, sql_of(folder, "0002", "0003"))
    names = [row.name for row in state(engine)[1]]
    assert names == ["Côte d'Ivoire", "50%", '100% \\ "it\'s" :code']


@pytest.mark.parametrize("revision", ["0001", "0003"])
def test_wrong_revision(engine, folder, revision):
    """A script that meets another revision than it starts from, or runs twice, fails
    at its first statement and changes nothing."""
    add(folder, 'op.execute("UPDATE country SET area = area * 2")')
    online(folder, command.upgrade, "0002")
    script = sql_of(folder, "0002", "0003")
    if revision == "0003":
        run(engine, script)
    else:
        online(folder, command.downgrade, "0001")
    before = state(engine)
    assert before[2] == revision
    with pytest.raises(engine.dialect.dbapi.IntegrityError):
        run(engine, script)
    assert state(engine) == before


def test_from_base_twice(engine, folder):
    """A script from base stops where Alembic's table is there already."""
    script = sql_of(folder, "base", "head")
    run(engine, script)
    before = state(engine)
    with pytest.raises(engine.dialect.dbapi.Error, match="already exists"):
        run(engine, script)
    assert state(engine) == before


def test_transaction(folder, engine):
    """For PostgreSQL the script is one transaction; the others commit each change of
    the schema by themselves, so it has none."""
    script = sql_of(folder, "base", "head")
    is_whole = script.lstrip().startswith("BEGIN;") and "COMMIT;" in script
    assert is_whole == (engine.dialect.name == "postgresql")


def test_nothing_to_write(folder):
    """Without the revision to start from, or with nothing between the two, or with a
    revision that is not there, there is no script."""
    for start, end in (("", "head"), ("base", "")):
        with pytest.raises(ValueError, match="starts from"):
            sql_of(folder, start, end)
    for start, end in (("0002", "0001"), ("head", "head")):
        with pytest.raises(ValueError, match="no migration from"):
            sql_of(folder, start, end)
    for start, end in (("base", "no_such"), ("no_such", "head")):
        with pytest.raises(CommandError, match="no_such"):
            sql_of(folder, start, end)


def test_command_line(folder):
    """The command line writes the same script."""
    (folder / "alembic.ini").write_text("[alembic]\nscript_location = .\n")
    words = "-m", "alembic", "-q", "upgrade", "0001:0002", "--sql"
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == sql_of(folder, "0001", "0002")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("op.get_bind().execute(sa.text('SELECT 1')).scalar()", AttributeError),
        ("[*op.get_bind().execute(sa.text('SELECT 1'))]", TypeError),
        ("sa.inspect(op.get_bind())", NoInspectionAvailable),
        (
            "op.execute(sa.table('t', sa.column('d')).update().values(d=1))",
            CompileError,
        ),
    ],
)
def test_cannot_ask(folder, body, error):
    """A migration that reads rows or inspects the schema fails as the script is
    written; so does a value whose column has no type."""
    add(folder, body)
    with pytest.raises(error):
        sql_of(folder, "0002", "0003")


def test_batch(engine, folder):
    """Batch mode on SQLite reads the table first, so it cannot be written as SQL; the
    other engines write an ALTER TABLE."""
    add(
        folder,
        'with op.batch_alter_table("country") as batch:\n'
        '        batch.alter_column("name", existing_type=sa.String(50),'
        " type_=sa.String(99))",
    )
    if engine.dialect.name != "sqlite":
        assert "ALTER TABLE country" in sql_of(folder, "0002", "0003")
        return
    with pytest.raises(CommandError, match="--sql mode"):
        sql_of(folder, "0002", "0003")


def test_batch_with_a_copy(engine, folder):
    """Told the table as it is, with `copy_from`, batch mode can be written as SQL on
    every engine; the script works, and keeps the rows."""
    add(
        folder,
        'code = sa.Column("code", sa.String(2), primary_key=True)\n'
        '    name = sa.Column("name", sa.String(50))\n'
        '    area = sa.Column("area", sa.Integer)\n'
        '    country = sa.Table("country", sa.MetaData(), code, name, area)\n'
        '    with op.batch_alter_table("country", copy_from=country) as batch:\n'
        '        batch.alter_column("name", existing_type=sa.String(50),'
        " type_=sa.String(99))",
    )
    run(engine, sql_of(folder, "base", "head"))
    columns, rows, version = state(engine)
    assert "length=99" in columns[1]
    assert (len(rows), rows[1], version) == (2, ("IS", "Iceland", 103000), "0003")


def test_parameters_in_the_statement(folder):
    """Values of the statement itself, or bound to the text, are in the script."""
    add(
        folder,
        "text = sa.text('UPDATE country SET area = :a WHERE name = :b')\n"
        "    op.execute(text.bindparams(a=103000, b='Iceland'))",
    )
    script = sql_of(folder, "0002", "0003")
    assert "SET area = 103000 WHERE name = 'Iceland';" in script


# --8<-- [start:wrong]
WRONG = """
    op.get_bind().execute(
        sa.text("UPDATE country SET area = :area WHERE code = :code"),
        {"area": 103000, "code": "IS"},
    )
"""
# --8<-- [end:wrong]


def test_often_copied_loses_parameters(engine, folder):
    """Often copied: a migration with bound parameters works online; in the script every
    parameter is NULL, and nothing says so."""
    add(folder, WRONG.strip())
    script = sql_of(folder, "0002", "0003")
    assert "UPDATE country SET area = NULL WHERE code = NULL;" in script
    online(folder, command.upgrade, "head")
    assert state(engine)[1][1] == ("IS", "Iceland", 103000)


def test_often_copied_no_options(folder):
    """Often copied: an env.py without literal_binds writes placeholders instead of
    values; without the paramstyle, every % of PostgreSQL and MariaDB is doubled."""
    add(folder, "op.execute(\"UPDATE country SET name = '50%'\")")
    env = folder / "env.py"
    right = env.read_text("utf-8")
    lines = right.splitlines(True)
    env.write_text("".join(it for it in lines if "literal_binds" not in it), "utf-8")
    assert "SET area=:area" in sql_of(folder, "0001", "0002")
    env.write_text("".join(it for it in lines if "paramstyle" not in it), "utf-8")
    is_sqlite = os.environ["DATABASE_URL"].startswith("sqlite")
    assert ("'50%'" if is_sqlite else "'50%%'") in sql_of(folder, "0002", "0003")
