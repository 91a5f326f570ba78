import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from recipes.sqlite.rebuild_table import BEFORE, COLUMNS, DEFINITION, rebuild

MORE = """
CREATE TABLE log (email TEXT);
CREATE TRIGGER customer_log AFTER UPDATE ON customer
    BEGIN INSERT INTO log VALUES (new.email); END;
CREATE TRIGGER orders_log AFTER DELETE ON orders
    BEGIN INSERT INTO log SELECT email FROM customer WHERE id = old.customer_id; END;
CREATE UNIQUE INDEX adult ON customer (id) WHERE age >= '18';
CREATE VIEW adults AS SELECT id, email FROM customer WHERE age >= 18;
"""


@pytest.fixture
def conn(sqlite: str) -> Iterator[sqlite3.Connection]:
    """Customers with indexes, a trigger, a view and orders (sqlite is the file)."""
    with closing(sqlite3.connect(sqlite)) as conn:
        conn.execute("PRAGMA foreign_keys = ON")
        conn.executescript(BEFORE + MORE)
        yield conn


def rows(conn: sqlite3.Connection, table: str) -> list[tuple]:
    return conn.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()


def schema(conn: sqlite3.Connection, what: str = "type <> ''") -> dict[str, str]:
    return dict(conn.execute(f"SELECT name, sql FROM sqlite_schema WHERE {what}"))


def orders(conn: sqlite3.Connection) -> int:
    return int(conn.execute("SELECT count(*) FROM orders").fetchone()[0])


def test_keeps_and_changes_rows(conn):
    """Every row is kept, with the values that were asked for."""
    assert rebuild(conn, "customer", DEFINITION, COLUMNS) == 2
    assert rows(conn, "customer") == [
        (1, "ann@example.com", 41),
        (2, "bob@example.com", None),
    ]


def test_keeps_indexes_triggers_and_views(conn):
    """Indexes, triggers and views are kept, to the letter, and work."""
    what = "type IN ('index', 'trigger', 'view') AND sql IS NOT NULL"
    before = schema(conn, what)
    rebuild(conn, "customer", DEFINITION, COLUMNS)
    assert schema(conn, what) == before
    assert len(before) == 5
    assert rows(conn, "adults") == [(1, "ann@example.com")]
    conn.execute("UPDATE customer SET age = 42 WHERE id = 1")
    assert conn.execute("SELECT * FROM log").fetchall() == [("ann@example.com",)]


def test_keeps_child_rows(conn):
    """Rows of other tables that refer to it are kept, although they would cascade."""
    rebuild(conn, "customer", DEFINITION, COLUMNS)
    assert orders(conn) == 3
    assert schema(conn)["orders"].endswith("REFERENCES customer ON DELETE CASCADE)")


def test_foreign_keys_are_on_again(conn):
    """Afterwards foreign keys are enforced as before, through the new table too."""
    rebuild(conn, "customer", DEFINITION, COLUMNS)
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        conn.execute("INSERT INTO orders VALUES (99)")
    conn.execute("DELETE FROM customer WHERE id = 1")
    assert orders(conn) == 1


def test_new_constraints_hold(conn):
    """The new constraints are enforced."""
    rebuild(conn, "customer", DEFINITION, COLUMNS)
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        conn.execute("INSERT INTO customer VALUES (3, 'c@example.com', -1)")
    with pytest.raises(sqlite3.IntegrityError, match="NOT NULL"):
        conn.execute("INSERT INTO customer VALUES (3, NULL, 1)")


def without(column: str) -> dict[str, str]:
    return {name: value for name, value in COLUMNS.items() if name != column}


@pytest.mark.parametrize(
    ("damage", "definition", "columns", "error"),
    [
        pytest.param(
            "UPDATE customer SET email = NULL",
            DEFINITION,
            COLUMNS,
            "NOT NULL constraint failed",
            id="a row breaks a constraint",
        ),
        pytest.param(
            "DROP INDEX adult; DROP VIEW adults",
            "id INTEGER PRIMARY KEY, email TEXT",
            without("age"),
            "no such column: age",
            id="an index needs a lost column",
        ),
        pytest.param(
            "DROP INDEX adult; DROP INDEX customer_age",
            "id INTEGER PRIMARY KEY, email TEXT",
            without("age"),
            "error in view adults.*no such column: age",
            id="a view needs a lost column",
        ),
        pytest.param(
            "DROP VIEW adults",
            "id INTEGER PRIMARY KEY, age INTEGER",
            without("email"),
            "error in trigger orders_log.*no such column: email",
            id="a trigger needs a lost column",
        ),
        pytest.param(
            "SELECT 1",
            DEFINITION,
            COLUMNS | {"id": "id + 10"},
            "point nowhere",
            id="child rows lose their parent",
        ),
    ],
)
def test_all_or_nothing(conn, damage, definition, columns, error):
    """Rows, indexes, views, triggers or child rows do not fit: nothing changes."""
    conn.executescript(damage)
    before = schema(conn), rows(conn, "customer"), orders(conn)
    with pytest.raises(sqlite3.Error, match=error):
        rebuild(conn, "customer", definition, columns)
    assert (schema(conn), rows(conn, "customer"), orders(conn)) == before
    assert not conn.in_transaction
    assert conn.execute("PRAGMA foreign_keys").fetchone() == (1,)
    assert conn.execute("PRAGMA legacy_alter_table").fetchone() == (0,)


def test_needs_its_own_transaction(conn):
    """Inside a transaction, where the pragmas do nothing, it refuses."""
    conn.execute("BEGIN")
    with pytest.raises(sqlite3.ProgrammingError, match="own transaction"):
        rebuild(conn, "customer", DEFINITION, COLUMNS)
    assert conn.in_transaction


def test_refers_to_itself(conn):
    """A table that refers to itself, with a difficult name, in another case."""
    conn.executescript(
        """
        CREATE TABLE [a "tree] (id INTEGER PRIMARY KEY, up REFERENCES [a "tree]);
        CREATE INDEX up ON [a "tree] (up);
        INSERT INTO [a "tree] VALUES (1, NULL), (2, 1), (3, 1);
        """
    )
    definition = 'id INTEGER PRIMARY KEY, up INTEGER REFERENCES [a "tree]'
    assert rebuild(conn, 'A "tree', definition, {"id": "id", "up": "up"}) == 3
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        conn.execute('DELETE FROM [a "tree] WHERE id = 1')
    assert "up" in schema(conn, "type = 'index'")


# --8<-- [start:wrong]
REBUILD_AS_OFTEN_COPIED = """
CREATE TABLE customer_new (
    id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE, age INTEGER
);
INSERT INTO customer_new SELECT id, email, age FROM customer;
DROP TABLE customer;
ALTER TABLE customer_new RENAME TO customer;
"""
# --8<-- [end:wrong]


def test_often_copied_deletes_child_rows(conn):
    """Often copied: DROP TABLE cascades, and every order is gone."""
    conn.execute("DROP VIEW adults")
    conn.execute("DROP TRIGGER orders_log")
    conn.executescript(REBUILD_AS_OFTEN_COPIED)
    assert orders(conn) == 0


def test_often_copied_loses_indexes_and_triggers(conn):
    """Often copied: the indexes and the trigger of the table are gone."""
    conn.execute("DROP VIEW adults")
    conn.execute("DROP TRIGGER orders_log")
    conn.executescript(REBUILD_AS_OFTEN_COPIED)
    what = "type IN ('index', 'trigger') AND sql IS NOT NULL"
    assert schema(conn, what) == {}


def test_often_copied_stops_half_way(conn):
    """Often copied: with a view it stops after DROP TABLE, and a rerun fails too."""
    conn.execute("DROP TRIGGER orders_log")
    with pytest.raises(sqlite3.OperationalError, match="error in view adults"):
        conn.executescript(REBUILD_AS_OFTEN_COPIED)
    assert "customer" not in schema(conn)
    with pytest.raises(sqlite3.OperationalError, match="customer_new already exists"):
        conn.executescript(REBUILD_AS_OFTEN_COPIED)


def test_autoincrement_forgets(conn):
    """The limit: AUTOINCREMENT goes on after the highest id that is left."""
    conn.execute("CREATE TABLE bill (id INTEGER PRIMARY KEY AUTOINCREMENT, x)")
    with conn:
        conn.execute("INSERT INTO bill VALUES (1, 1), (100, 1)")
        conn.execute("DELETE FROM bill WHERE id = 100")
    definition = "id INTEGER PRIMARY KEY AUTOINCREMENT, x TEXT"
    rebuild(conn, "bill", definition, {"id": "id", "x": "x"})
    assert conn.execute("INSERT INTO bill (x) VALUES (2)").lastrowid == 2


def test_column_that_a_trigger_writes(conn):
    """The limit: a lost column that a trigger writes is found when it fires."""
    conn.executescript(
        """
        CREATE TABLE note (id INTEGER PRIMARY KEY, text, changed);
        CREATE TRIGGER note_changed AFTER INSERT ON note
            BEGIN UPDATE note SET changed = 1 WHERE id = new.id; END;
        """
    )
    columns = {"id": "id", "text": "text"}
    rebuild(conn, "note", "id INTEGER PRIMARY KEY, text TEXT", columns)
    with pytest.raises(sqlite3.OperationalError, match="no such column: changed"):
        conn.execute("INSERT INTO note (text) VALUES ('a')")
