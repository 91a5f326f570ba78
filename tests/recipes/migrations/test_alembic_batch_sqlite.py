import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Integer, create_engine, event, inspect
from sqlalchemy.exc import IntegrityError, OperationalError

from recipes.migrations.alembic_batch_sqlite import OLD, guarded, upgrade


@pytest.fixture
def engine(sqlite):
    """A database with orders, their lines, an index, a trigger and a view; foreign keys
    are checked on every connection, as they should be."""
    engine = create_engine(f"sqlite:///{sqlite}")

    @event.listens_for(engine, "connect")
    def check_keys(connection, _):
        connection.execute("PRAGMA foreign_keys = ON")

    with engine.connect() as conn:
        conn.connection.executescript(OLD)
    yield engine
    engine.dispose()


def read(engine, sql):
    with engine.connect() as conn:
        return [tuple(row) for row in conn.exec_driver_sql(sql)]


def everything(engine):
    """The whole schema and all rows of orders and lines."""
    schema = "SELECT name, sql FROM sqlite_master ORDER BY name"
    return [read(engine, it) for it in (schema, "SELECT * FROM orders, line")]


def migrate(engine, *more):
    with engine.connect() as conn, guarded(conn):
        op = Operations(MigrationContext.configure(conn))
        upgrade(op)
        for step in more:
            step(op)


def test_changes_the_table(engine):
    """The column has its new type and the check refuses what it should."""
    migrate(engine)
    (cents,) = [it for it in inspect(engine).get_columns("orders") if it["default"]]
    assert (cents["name"], str(cents["type"])) == ("cents", "BIGINT")
    with pytest.raises(IntegrityError, match="ck_orders_cents"), engine.begin() as conn:
        conn.exec_driver_sql("UPDATE orders SET cents = -1")


def test_keeps_rows(engine):
    """Every row is kept, the child rows with ON DELETE CASCADE too."""
    migrate(engine)
    assert read(engine, "SELECT * FROM orders") == [(1, 1, 500), (2, 1, 700)]
    assert len(read(engine, "SELECT * FROM line")) == 3


def test_keeps_foreign_keys(engine):
    """The foreign keys to and from the table are kept, and are checked afterwards, on
    the same connection too."""
    migrate(engine)
    (key,) = inspect(engine).get_foreign_keys("orders")
    assert (key["name"], key["referred_table"]) == ("fk_orders_customer", "customer")
    (key,) = inspect(engine).get_foreign_keys("line")
    assert (key["referred_table"], key["options"]) == (
        "orders",
        {"ondelete": "CASCADE"},
    )
    with pytest.raises(IntegrityError, match="FOREIGN KEY"), engine.begin() as conn:
        conn.exec_driver_sql("INSERT INTO line VALUES (99, 'no order')")


def test_keeps_indexes(engine):
    """A partial index of two columns is kept, with its condition."""
    migrate(engine)
    ((sql,),) = read(engine, "SELECT sql FROM sqlite_master WHERE type = 'index'")
    assert sql.endswith("ON orders (customer_id, cents) WHERE cents > 10000")


def test_keeps_triggers_and_views(engine):
    """Triggers and views are kept, and work; the copy did not fire the trigger."""
    migrate(engine)
    assert read(engine, "SELECT * FROM turnover") == [(1, 1200)]
    assert read(engine, "SELECT * FROM log") == []
    with engine.begin() as conn:
        conn.exec_driver_sql("UPDATE orders SET cents = 8 WHERE id = 1")
    assert read(engine, "SELECT * FROM log") == [(1, 8)]


def test_failure(engine):
    """A failure after the table was rebuilt takes everything back, and it can be run
    again."""
    before = everything(engine)

    def fail(op):
        raise ConnectionError("pulled the plug")

    with pytest.raises(ConnectionError):
        migrate(engine, fail)
    assert everything(engine) == before
    migrate(engine)


def test_broken_foreign_key(engine):
    """A migration that would leave a child without its parent is refused."""
    before = everything(engine)
    with pytest.raises(ValueError, match=r"broken foreign keys.*line"):
        migrate(engine, lambda op: op.execute("DELETE FROM orders WHERE id = 2"))
    assert everything(engine) == before


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("index", "CREATE INDEX ix_text ON orders (hex(cents))"),
        ("check", "ALTER TABLE orders ADD COLUMN pieces INTEGER CHECK (pieces > 0)"),
    ],
)
def test_what_cannot_be_copied(engine, name, what):
    """An index on an expression, or a check without a name, cannot be copied: it is an
    error, and nothing is lost."""
    with engine.begin() as conn:
        conn.exec_driver_sql(what)
    before = everything(engine)
    with pytest.raises(Warning, match=r"expression-based|Unnamed CHECK"):
        migrate(engine)
    assert everything(engine) == before


def test_in_a_transaction(engine):
    """Inside a transaction foreign keys cannot be turned off: that is refused."""
    with engine.connect() as conn:
        conn.exec_driver_sql("BEGIN")
        with pytest.raises(ValueError, match="in a transaction already"), guarded(conn):
            pytest.fail("it should not come so far")
    assert len(read(engine, "SELECT * FROM line")) == 3


def test_rule_inside_the_column(engine):
    """Lost even so: ON DELETE behind a column's own REFERENCES, AUTOINCREMENT, and
    COLLATE. SQLAlchemy does not read them from SQLite."""
    with engine.begin() as conn:
        conn.exec_driver_sql(
            "CREATE TABLE note (id INTEGER PRIMARY KEY AUTOINCREMENT,"
            " code TEXT COLLATE NOCASE,"
            " order_id INTEGER REFERENCES orders (id) ON DELETE CASCADE)"
        )
    with engine.connect() as conn, guarded(conn):
        op = Operations(MigrationContext.configure(conn))
        with op.batch_alter_table("note") as batch:
            batch.alter_column("order_id", existing_type=Integer(), nullable=False)
    ((sql,),) = read(engine, "SELECT sql FROM sqlite_master WHERE name = 'note'")
    for lost in ("CASCADE", "AUTOINCREMENT", "NOCASE"):
        assert lost not in sql


# --8<-- [start:wrong]
def upgrade_as_often_copied(engine, upgrade):
    with engine.begin() as conn:
        upgrade(Operations(MigrationContext.configure(conn)))


# --8<-- [end:wrong]


def without_view(engine):
    with engine.begin() as conn:
        conn.exec_driver_sql("DROP VIEW turnover")


def test_often_copied_deletes_children(engine):
    """Often copied: with foreign keys checked, the lines of all orders are deleted,
    and the trigger is gone."""
    without_view(engine)
    upgrade_as_often_copied(engine, upgrade)
    assert read(engine, "SELECT * FROM orders") == [(1, 1, 500), (2, 1, 700)]
    assert read(engine, "SELECT * FROM line") == []
    assert read(engine, "SELECT * FROM sqlite_master WHERE type = 'trigger'") == []


def test_often_copied_view(engine):
    """Often copied: where a view reads the table, it fails half-way, and then cannot be
    run again."""
    with pytest.raises(OperationalError, match="turnover"):
        upgrade_as_often_copied(engine, upgrade)
    with pytest.raises(OperationalError, match="_alembic_tmp_orders already exists"):
        upgrade_as_often_copied(engine, upgrade)
