from pathlib import Path

import pytest
from alembic import command
from alembic.util import CommandError
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    inspect,
    text,
)

from recipes.migrations.alembic_in_tests import (
    Base,
    climb,
    configure,
    drift,
    schema,
    write,
)

NEXT = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = {revision!r}, {after!r}
def upgrade():
    {up}
def downgrade():
    {down}
"""


@pytest.fixture
def conn(database):
    engine = create_engine(database)
    with engine.connect() as conn:
        yield conn
    engine.dispose()


@pytest.fixture
def config(conn, tmp_path):
    folder = tmp_path / "100%"
    folder.mkdir()
    write(folder)
    return configure(folder, conn)


def add(config, revision, up, down="pass", after="0002"):
    location = config.get_main_option("script_location")
    content = NEXT.format(revision=revision, up=up, down=down, after=after)
    Path(location, "versions", f"{revision}.py").write_text(content)


def test_climbs(config, conn):
    """Every migration goes up, down and up again, the oldest first, and the last is
    applied at the end."""
    assert climb(config) == ["0001", "0002"]
    assert conn.scalar(text("SELECT version_num FROM alembic_version")) == "0002"
    names = [it["name"] for it in inspect(conn).get_columns("account")]
    assert names == ["id", "email", "name"]


def test_all_the_way_down(config, conn):
    """From the top all the way down nothing is left but Alembic's own table."""
    climb(config)
    command.downgrade(config, "base")
    assert inspect(conn).get_table_names() == ["alembic_version"]


def test_no_drift(config):
    """After the migrations the schema is that of the models."""
    climb(config)
    assert drift(config) == ""


def test_drift(config):
    """A column that the models have and no migration makes is named."""
    climb(config)
    models = MetaData()
    account = Base.metadata.tables["account"].to_metadata(models)
    account.append_column(Column("city", String(50)))
    config.attributes["models"] = models
    assert "add_column" in drift(config)
    assert "city" in drift(config)


def test_table_that_no_model_has(config):
    """A table that migrations make and no model has is drift too."""
    climb(config)
    config.attributes["models"] = MetaData()
    assert "remove_table" in drift(config)


@pytest.mark.parametrize(
    ("up", "down"),
    [
        ("op.create_index('ix_email', 'account', ['email'])", "pass"),
        ("op.add_column('account', sa.Column('age', sa.Integer))", "pass"),
        ("op.create_table('t', sa.Column('id', sa.Integer))", "pass"),
        (
            "op.drop_table('account')",
            "op.create_table('account', sa.Column('id', sa.Integer))",
        ),
    ],
)
def test_way_down_that_leaves_something(config, up, down):
    """A way down that leaves an index, a column or a table, or makes another table
    than was there, is found, with the id of the migration."""
    add(config, "0003", up, down)
    with pytest.raises(ValueError, match="0003 does not restore"):
        climb(config)


def test_way_down_that_fails(config):
    """A way down that fails raises its error."""
    add(config, "0003", "pass", "op.drop_table('no_such_table')")
    with pytest.raises(Exception, match="no_such_table"):
        climb(config)


def test_two_heads(config, conn):
    """Two migrations that follow the same one, as after a merge of two branches, are an
    error before anything runs."""
    add(config, "0003", "pass")
    add(config, "0003b", "pass")
    with pytest.raises(CommandError, match="multiple heads"):
        climb(config)
    assert inspect(conn).get_table_names() == []


def test_data_survives(config, conn):
    """Rows that are there before a migration are changed by it as they should be."""
    command.upgrade(config, "0001")
    conn.execute(text("INSERT INTO account (id, email) VALUES (1, 'ann@example.com')"))
    command.upgrade(config, "0002")
    assert conn.execute(text("SELECT * FROM account")).all() == [
        (1, "ann@example.com", "ann@example.com")
    ]


def test_schema_sees_details(conn):
    """What is compared: types, NOT NULL, defaults, indexes, unique constraints."""
    seen = []
    for column in (
        Column("a", Integer),
        Column("a", String(9)),
        Column("a", Integer, nullable=False),
        Column("a", Integer, server_default="1"),
        Column("a", Integer, index=True),
        Column("a", Integer, unique=True),
    ):
        models = MetaData()
        Table("item", models, Column("id", Integer, primary_key=True), column)
        models.create_all(conn)
        seen.append(schema(conn))
        models.drop_all(conn)
    assert all(seen.count(one) == 1 for one in seen)


# --8<-- [start:wrong]
def make_tables_as_often_copied(conn):
    Base.metadata.create_all(conn)  # "the tests have a database now"


# --8<-- [end:wrong]


def test_often_copied_tests_no_migration(config, conn):
    """Often copied: with tables from create_all everything works, though the migration
    of a column was never written; the database of production lacks it."""
    command.upgrade(config, "0001")
    production = schema(conn)
    command.downgrade(config, "base")
    make_tables_as_often_copied(conn)
    conn.execute(text("INSERT INTO account (id, email, name) VALUES (1, 'a', 'Ann')"))
    assert any("'name': 'name'" in it for it in schema(conn)["account"])
    assert not any("'name': 'name'" in it for it in production["account"])
