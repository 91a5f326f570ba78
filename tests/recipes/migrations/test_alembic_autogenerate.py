import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import (
    CheckConstraint,
    Column,
    Computed,
    Enum,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    select,
    text,
)

from recipes.migrations.alembic_autogenerate import draft, maybe_renamed, missed


def item(*parts, name="item"):
    models = MetaData()
    Table("shelf", models, Column("id", Integer, primary_key=True))
    Table(name, models, Column("id", Integer, primary_key=True), *parts)
    return models


def amount(**how):
    return Column("amount", Integer, **how)


def status(*values, **how):
    return Column("status", Enum(*values, name="status", **how))


CHECKED = {"native_enum": False, "create_constraint": True, "length": 10}


@pytest.fixture
def conn(database):
    engine = create_engine(database)
    with engine.connect() as conn:
        yield conn
    engine.dispose()


def drafted(conn, before, after):
    before.create_all(conn)
    lines = [line.strip() for line in draft(conn, after).splitlines()]
    return [line for line in lines if line.startswith("op.")]


SEEN = {
    "a column": (lambda: [], lambda: [amount()], "add_column"),
    "a type": (
        lambda: [Column("name", String(10))],
        lambda: [Column("name", String(20))],
        "alter_column",
    ),
    "NOT NULL": (
        lambda: [amount()],
        lambda: [amount(nullable=False)],
        "alter_column",
    ),
    "a default": (
        lambda: [amount(server_default="1")],
        lambda: [amount(server_default="2")],
        "alter_column",
    ),
    "an index": (lambda: [amount()], lambda: [amount(index=True)], "create_index"),
    "a unique constraint": (
        lambda: [amount()],
        lambda: [amount(), UniqueConstraint("amount", name="uq_amount")],
        "create_unique_constraint",
    ),
    "a foreign key": (
        lambda: [Column("shelf_id", Integer)],
        lambda: [Column("shelf_id", ForeignKey("shelf.id", name="fk_shelf"))],
        "create_foreign_key",
    ),
}


@pytest.mark.parametrize("name", SEEN)
def test_seen(conn, name):
    """Drafted: new columns, types, NOT NULL, server defaults (when they are compared),
    indexes, unique constraints, foreign keys."""
    before, after, operation = SEEN[name]
    drafts = drafted(conn, item(*before()), item(*after()))
    assert f"op.{operation}(" in {line.partition("(")[0] + "(" for line in drafts}


UNSEEN = {
    "new check": (
        lambda: [amount()],
        lambda: [amount(), CheckConstraint("amount > 0", name="ck_amount")],
        "item: checks [] -> ['ck_amount']",
    ),
    "dropped check": (
        lambda: [amount(), CheckConstraint("amount > 0", name="ck_amount")],
        lambda: [amount()],
        "item: checks ['ck_amount'] -> []",
    ),
    "primary key": (
        lambda: [amount(nullable=False)],
        lambda: [amount(primary_key=True)],
        "item: key ['id'] -> ['id', 'amount']",
    ),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_unseen_and_found(conn, name):
    """In no draft, and found here: a check that comes or goes, another primary key."""
    before, after, line = UNSEEN[name]
    assert drafted(conn, item(*before()), item(*after())) == []
    assert missed(conn, item(*after())) == [line]


def test_enum_value(conn):
    """In no draft on PostgreSQL, and found here: a new value of an enum. MySQL and
    MariaDB draft it; SQLite has no enum in the database."""
    after = item(status("new", "paid"))
    drafts = drafted(conn, item(status("new", "done")), after)
    assert (drafts != []) == (conn.dialect.name == "mysql")
    found = ["item: status ['new', 'done'] -> ['new', 'paid']"]
    assert missed(conn, after) == (found if conn.dialect.name == "postgresql" else [])


UNSEEN_AND_NOT_FOUND = {
    "condition of a check": (
        lambda: [amount(), CheckConstraint("amount > 0", name="ck_amount")],
        lambda: [amount(), CheckConstraint("amount > 5", name="ck_amount")],
    ),
    "values of a checked enum": (
        lambda: [status("new", **CHECKED)],
        lambda: [status("new", "paid", **CHECKED)],
    ),
    "condition of an index": (
        lambda: [amount(), Index("ix_amount", "amount")],
        lambda: [
            amount(),
            Index(
                "ix_amount",
                "amount",
                postgresql_where=text("amount > 1"),
                sqlite_where=text("amount > 1"),
            ),
        ],
    ),
    "order of columns": (
        lambda: [amount(), Column("name", String(9))],
        lambda: [Column("name", String(9)), amount()],
    ),
}


@pytest.mark.parametrize("name", UNSEEN_AND_NOT_FOUND)
def test_unseen(conn, name):
    """In no draft, and not found here either: the condition of a check or of a partial
    index under the same name, the values of a checked enum, the order of columns."""
    before, after = UNSEEN_AND_NOT_FOUND[name]
    assert drafted(conn, item(*before()), item(*after())) == []
    assert missed(conn, item(*after())) == []


@pytest.mark.filterwarnings("ignore:Computed default")
def test_generated_column(conn):
    """In no draft: another expression of a generated column. Alembic only warns."""
    before = item(amount(), Column("more", Integer, Computed("amount + 1")))
    after = item(amount(), Column("more", Integer, Computed("amount + 2")))
    assert drafted(conn, before, after) == []


def test_nothing_changed(conn):
    """Where nothing differs, nothing is drafted and nothing is reported; tables that
    are still to come are no surprise."""
    check = CheckConstraint("amount > 0", name="ck_amount")
    models = item(amount(server_default="1"), check, status("new"))
    models.create_all(conn)
    assert "pass" in draft(conn, models)
    Table("later", models, Column("id", Integer, primary_key=True))
    assert (missed(conn, models), maybe_renamed(conn, models)) == ([], [])


def test_renamed(conn):
    """A column that goes and one of the same type that comes are pointed out; one of
    another type is not."""
    before = item(Column("title", String(50)), amount())
    after = item(Column("name", String(50)), Column("note", String(9)))
    before.create_all(conn)
    assert maybe_renamed(conn, after) == ["item: title -> name"]


# --8<-- [start:wrong]
def upgrade_as_drafted(op):
    op.add_column("item", Column("name", String(50)))
    op.drop_column("item", "title")


# --8<-- [end:wrong]


def test_often_copied_rename(conn):
    """Often copied: the draft of a renamed column, run unread, deletes its values."""
    before, after = (item(Column(name, String(50))) for name in ("title", "name"))
    drafts = drafted(conn, before, after)
    assert [it.partition("(")[0] for it in drafts] == [
        "op.add_column",
        "op.drop_column",
    ]
    conn.execute(before.tables["item"].insert().values(id=1, title="tea"))
    upgrade_as_drafted(Operations(MigrationContext.configure(conn)))
    assert conn.scalar(select(after.tables["item"].c.name)) is None


def test_often_copied_default(conn):
    """Often copied: without compare_server_default a changed default is not drafted."""
    item(amount(server_default="1")).create_all(conn)
    after = item(amount(server_default="2"))
    assert compare_metadata(MigrationContext.configure(conn), after) == []
