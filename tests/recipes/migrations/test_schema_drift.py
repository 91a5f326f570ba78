import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, create_engine

from recipes.migrations.schema_drift import drift, snapshot, watch

TRIGGER = {
    "sqlite": [
        "CREATE TRIGGER guard AFTER INSERT ON item"
        " BEGIN UPDATE shelf SET id = id + 1; END"
    ],
    "mysql": [
        "CREATE TRIGGER guard BEFORE INSERT ON item FOR EACH ROW"
        " SET new.price = new.price + 1"
    ],
    "postgresql": [
        "CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN new.price := new.price + 1; RETURN new; END'",
        "CREATE TRIGGER guard BEFORE INSERT ON item"
        " FOR EACH ROW EXECUTE FUNCTION guard()",
    ],
}


def build(conn, old="", new=""):
    """Make the schema, with one thing other than it should be."""
    statements = [
        "CREATE TABLE shelf (id INT PRIMARY KEY)",
        "CREATE TABLE item (id INT PRIMARY KEY, price INT DEFAULT 1 NOT NULL,"
        " shelf_id INT, CONSTRAINT ck_price CHECK (price >= 0),"
        " CONSTRAINT fk_shelf FOREIGN KEY (shelf_id) REFERENCES shelf (id)"
        " ON DELETE CASCADE, CONSTRAINT uq_price UNIQUE (price, shelf_id))",
        "CREATE INDEX quick ON item (price)",
        "CREATE VIEW cheap AS SELECT id FROM item WHERE price < 9",
        *TRIGGER[conn.dialect.name],
    ]
    assert old in "".join(statements)
    for statement in statements:
        conn.exec_driver_sql(statement.replace(old, new) if old else statement)


def clear(conn):
    sql = conn.exec_driver_sql
    sql("DROP VIEW cheap")
    sql("DROP TABLE item")
    sql("DROP TABLE shelf")
    if conn.dialect.name == "postgresql":
        sql("DROP FUNCTION guard")


def names(lines):
    """The sign, the kind and the name of each."""
    return [line.partition("{")[0].strip() for line in lines]


@pytest.fixture
def conn(database):
    engine = create_engine(database)
    with engine.connect() as conn:
        yield conn
    engine.dispose()


@pytest.fixture
def pg(postgresql):
    url = postgresql.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url)
    with engine.connect() as conn:
        yield conn
    engine.dispose()


CHANGED = {
    "type": ("price INT", "price BIGINT", "column item.price"),
    "default": ("DEFAULT 1", "DEFAULT 2", "column item.price"),
    "null": (" NOT NULL", "", "column item.price"),
    "check": ("price >= 0", "price >= 5", "check item.ck_price"),
    "foreign key": ("CASCADE", "SET NULL", "foreign key item.fk_shelf"),
    "unique": ("(price, shelf_id)", "(price, id)", "unique item.uq_price"),
    "index": ("ON item (price)", "ON item (price, id)", "index item.quick"),
    "view": ("price < 9", "price < 8", "view cheap"),
    "trigger": (" + 1", " + 2", "guard"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_changed(conn, name):
    """Found, before and after: another type, default, NOT NULL, condition of a check,
    action of a foreign key, columns of an index, query of a view, body of a trigger."""
    build(conn)
    expected = snapshot(conn)
    clear(conn)
    old, new, what = CHANGED[name]
    build(conn, old, new)
    lines = drift(conn, expected)
    assert any(line.startswith("- ") and what in line for line in lines)
    assert any(line.startswith("+ ") and what in line for line in lines)


def test_gone_and_new(conn):
    """Found: a column, an index and a table that nobody expects, and a view and a
    trigger that are gone."""
    build(conn)
    expected = snapshot(conn)
    on_item = " ON item" if conn.dialect.name == "postgresql" else ""
    for statement in (
        "ALTER TABLE item ADD COLUMN note INT",
        "CREATE INDEX slow ON item (price, id)",
        "CREATE TABLE backup (id INT)",
        "DROP VIEW cheap",
        f"DROP TRIGGER guard{on_item}",
    ):
        conn.exec_driver_sql(statement)
    found = names(drift(conn, expected))
    assert [line.split()[:3] for line in found if line[0] == "-"] == [
        ["-", "trigger", "guard"],
        ["-", "view", "cheap"],
    ]
    new = ["+ column backup.id", "+ column item.note", "+ index item.slow"]
    assert [line for line in found if line in new] == new


def test_nothing_changed(conn):
    """The same schema made again is the same. The file serves another database too:
    the name of the database is in no line."""
    build(conn)
    expected = snapshot(conn)
    clear(conn)
    build(conn)
    assert drift(conn, expected) == []
    assert expected == sorted(set(expected))
    assert not any(f"`{conn.engine.url.database}`" in line for line in expected)
    assert not any("\n" in line for line in expected)


def test_revision(conn):
    """A database that is at another revision says so."""
    conn.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32))")
    conn.exec_driver_sql("INSERT INTO alembic_version VALUES ('0001')")
    expected = snapshot(conn)
    conn.exec_driver_sql("UPDATE alembic_version SET version_num = '0002'")
    assert drift(conn, expected) == ["- revision 0001", "+ revision 0002"]


ROUTINE = {
    "mysql": "CREATE PROCEDURE tidy() SELECT 1",
    "postgresql": "CREATE FUNCTION tidy() RETURNS int LANGUAGE sql AS 'SELECT 1'",
}


def test_routine(conn):
    """Found, where the engine has them: a function or procedure."""
    expected = snapshot(conn)
    if create := ROUTINE.get(conn.dialect.name):
        conn.exec_driver_sql(create)
    found = any("tidy" in line for line in drift(conn, expected))
    assert found == (conn.dialect.name != "sqlite")


BY_HAND = {
    "disabled trigger": ("ALTER TABLE item DISABLE TRIGGER guard", "trigger guard"),
    "function": (
        "CREATE OR REPLACE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN RETURN new; END'",
        "function guard()",
    ),
    "NOT VALID": (
        "ALTER TABLE item ADD CONSTRAINT cheap CHECK (price < 9) NOT VALID",
        "not valid cheap",
    ),
    "enum value": ("ALTER TYPE status ADD VALUE 'paid'", "column item.status"),
    "partial index": (
        "DROP INDEX quick; CREATE INDEX quick ON item (price) WHERE price > 5",
        "index item.quick",
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_on_postgresql(pg, name):
    """Found on PostgreSQL too: a trigger that is disabled, another function, a
    constraint that is not validated, a value of an enum, the condition of an index."""
    build(pg)
    pg.exec_driver_sql("CREATE TYPE status AS ENUM ('new')")
    pg.exec_driver_sql("ALTER TABLE item ADD COLUMN status status")
    expected = snapshot(pg)
    statement, what = BY_HAND[name]
    pg.exec_driver_sql(statement)
    assert any(line.startswith(f"+ {what}") for line in drift(pg, expected))


@pytest.fixture
def released(conn, tmp_path):
    """The file of a release, and the database as it was then."""
    build(conn)
    file = tmp_path / "schema.txt"
    file.write_text("\n".join(snapshot(conn)), "utf-8")
    conn.commit()
    return file


def test_watch(conn, database, released):
    """Where nothing differs, it returns. After a change by hand it ends the program,
    with the lines as its error. It changes nothing."""
    watch(database, released)
    conn.exec_driver_sql("ALTER TABLE item ADD COLUMN note INT")
    conn.commit()
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            watch(database, released)
        assert names(str(ended.value.code).splitlines()) == ["+ column item.note"]


def test_no_file(database, tmp_path):
    """Without its file it fails, and does not call the schema the same."""
    with pytest.raises(FileNotFoundError):
        watch(database, tmp_path / "schema.txt")


# --8<-- [start:wrong]
def is_unchanged(conn, models):
    return compare_metadata(MigrationContext.configure(conn), models) == []


# --8<-- [end:wrong]


@pytest.mark.parametrize("name", ["check", "view", "trigger"])
def test_often_copied_check(conn, name):
    """Often copied: the models alone. A check that now says something else, another
    view and another trigger are no difference to Alembic."""
    old, new, _ = CHANGED[name]
    build(conn, old, new)
    models = MetaData()
    models.reflect(conn)
    clear(conn)
    build(conn)
    assert is_unchanged(conn, models)
