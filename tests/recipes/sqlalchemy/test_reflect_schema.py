import pytest
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, inspect, select
from sqlalchemy import insert as sa_insert
from sqlalchemy.exc import NoSuchTableError, OperationalError, ProgrammingError

from recipes.sqlalchemy.reflect_schema import (
    MEMBER,
    MODELS,
    TEAM,
    first_rows,
    missing,
    reflect_table,
)


@pytest.fixture
def empty(database):
    engine = create_engine(database)
    yield engine
    engine.dispose()


@pytest.fixture
def engine(empty):
    """Team 1 with three members."""
    MODELS.create_all(empty)
    with empty.begin() as conn:
        conn.execute(sa_insert(TEAM).values(id=1))
        names = {3: "Cy", 1: "Ann", 2: "Bo"}
        rows = [{"id": n, "name": name, "team_id": 1} for n, name in names.items()]
        conn.execute(sa_insert(MEMBER), rows)
    return empty


def test_columns(engine):
    """The reflected table has the columns, the primary key and what may be NULL."""
    table = reflect_table(engine, "member")
    assert table.columns.keys() == ["id", "name", "team_id"]
    assert table.primary_key.columns.keys() == ["id"]
    assert [column.nullable for column in table.columns] == [False, False, True]
    assert table.c.name.type.length == 50


def test_foreign_keys(engine):
    """It knows its foreign keys: a join needs no condition."""
    member = reflect_table(engine, "member")
    team = member.metadata.tables["team"]
    query = select(member.c.name, team.c.id).join(team).order_by(member.c.id)
    with engine.connect() as conn:
        assert tuple(conn.execute(query).first()) == ("Ann", 1)


def test_first_rows(engine):
    """Rows come as dicts, in the order of the primary key, no more than asked for."""
    rows = first_rows(engine, reflect_table(engine, "member"), limit=2)
    assert rows == [
        {"id": 1, "name": "Ann", "team_id": 1},
        {"id": 2, "name": "Bo", "team_id": 1},
    ]


def test_unknown_table(engine):
    """A table that does not exist is an error that names it; so is a hostile name."""
    for name in ("nothing", "member; DROP TABLE member"):
        with pytest.raises(NoSuchTableError, match=name):
            reflect_table(engine, name)
    assert first_rows(engine, reflect_table(engine, "member"))


def test_missing_tables(empty):
    """Tables that the database lacks are named."""
    assert missing(empty, MODELS) == ["member", "team"]


def test_nothing_missing(engine):
    """Nothing is missing after the tables were made, on the same engine."""
    assert missing(engine, MODELS) == []


def test_missing_column(engine):
    """A column that the models have and the database lacks is named."""
    newer = MetaData()
    Table("team", newer, Column("id", Integer), Column("city", Integer))
    assert missing(engine, newer) == ["team.city"]


# --8<-- [start:wrong]
def create_if_missing(engine, inspector, metadata):
    for name, table in metadata.tables.items():
        if name not in inspector.get_table_names():
            table.create(engine)


# --8<-- [end:wrong]


def test_often_copied_remembers(empty):
    """Often copied: an inspector that is kept does not see the new tables, and makes
    them a second time."""
    inspector = inspect(empty)
    create_if_missing(empty, inspector, MODELS)
    assert inspector.get_table_names() == []
    assert sorted(inspect(empty).get_table_names()) == ["member", "team"]
    with pytest.raises((OperationalError, ProgrammingError), match="already exists"):
        create_if_missing(empty, inspector, MODELS)
