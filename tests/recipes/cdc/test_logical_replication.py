import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from recipes.cdc.logical_replication import Change, advance, create_slot, read

TABLE = """
CREATE TABLE stock (item text PRIMARY KEY, count int, note text);
ALTER TABLE stock ALTER COLUMN note SET STORAGE EXTERNAL;
CREATE PUBLICATION stock_changes FOR TABLE stock;
"""


@pytest.fixture
def url(postgresql):
    return make_conninfo(postgresql, options="-c synchronous_commit=on")


@pytest.fixture
def conn(url):
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(TABLE)
        yield conn


@pytest.fixture
def slot(conn, postgresql):
    """Slots are the server's, so each test has one of its own; it ends with conn."""
    name = postgresql.rpartition("/")[2]
    create_slot(conn, name, temporary=True)
    return name


def changes(conn, slot) -> list[Change]:
    """All changes, which are then done with."""
    found = []
    while parts := read(conn, slot, "stock_changes"):
        for end, some in parts:
            found += some
            advance(conn, slot, end)
    return found


def test_every_kind_of_change(conn, slot):
    """Insert, update, delete and truncate come in their order, with the values."""
    conn.execute("INSERT INTO stock VALUES ('apple', 3, 'red'), ('pear', NULL, '')")
    conn.execute("UPDATE stock SET count = 4 WHERE item = 'apple'")
    conn.execute("DELETE FROM stock WHERE item = 'pear'")
    conn.execute("TRUNCATE stock")
    table = "public.stock"
    apple = {"item": "apple", "count": "3", "note": "red"}
    pear = {"item": "pear", "count": None, "note": ""}
    assert changes(conn, slot) == [
        Change(table, "insert", apple, {}),
        Change(table, "insert", pear, {}),
        Change(table, "update", apple | {"count": "4"}, {}),
        Change(table, "delete", {"item": "pear"}, {"item": "pear"}),
        Change(table, "truncate", {}, {}),
    ]


def test_key_that_changes(conn, slot):
    """An update of the key tells the old one."""
    conn.execute("INSERT INTO stock VALUES ('apple', 3)")
    conn.execute("UPDATE stock SET item = 'plum'")
    assert changes(conn, slot)[1].old == {"item": "apple"}


def test_whole_old_row(conn, slot):
    """With REPLICA IDENTITY FULL the log has all of the old row."""
    conn.execute("ALTER TABLE stock REPLICA IDENTITY FULL")
    conn.execute("INSERT INTO stock VALUES ('apple', 3, NULL)")
    conn.execute("DELETE FROM stock")
    (_, deleted) = changes(conn, slot)
    assert deleted.row == {"item": "apple", "count": "3", "note": None}


def test_large_value_that_did_not_change(conn, slot):
    """A large value that an update left alone is not in the row: it is not None."""
    conn.execute("INSERT INTO stock VALUES ('apple', 3, repeat('x', 9000))")
    conn.execute("UPDATE stock SET count = 4")
    _, updated = changes(conn, slot)
    assert updated.row == {"item": "apple", "count": "4"}


def test_every_character(conn, slot):
    """Text arrives as it was, in every alphabet."""
    conn.execute("INSERT INTO stock VALUES ('\u00e9\u4e2d\U0001f34e')")
    assert changes(conn, slot)[0].row["item"] == "\u00e9\u4e2d\U0001f34e"


def test_comes_again_until_it_is_done_with(conn, slot):
    """What is read comes again, as after a crash, until advance() says it is done."""
    conn.execute("INSERT INTO stock VALUES ('apple')")
    conn.execute("INSERT INTO stock VALUES ('pear')")
    first, second = read(conn, slot, "stock_changes")
    assert read(conn, slot, "stock_changes") == [first, second]
    advance(conn, slot, first[0])
    assert read(conn, slot, "stock_changes") == [second]


def test_survives_its_reader(conn, url, postgresql):
    """A slot that is not temporary keeps the log while nobody is connected."""
    slot = f"{postgresql.rpartition('/')[2]}_kept"
    with psycopg.connect(url, autocommit=True) as reader:
        create_slot(reader, slot)
    conn.execute("INSERT INTO stock VALUES ('apple')")
    with psycopg.connect(url, autocommit=True) as reader:
        assert [change.kind for change in changes(reader, slot)] == ["insert"]
        reader.execute("SELECT pg_drop_replication_slot(%s)", (slot,))


def test_whole_transactions(conn, slot):
    """A part ends with a transaction, and never in the middle of one."""
    for count in (3, 1):
        with conn.transaction():
            for number in range(count):
                conn.execute("INSERT INTO stock VALUES (%s)", (f"{count}-{number}",))
    (part,) = read(conn, slot, "stock_changes", limit=1)
    assert len(part[1]) == 3


def test_order_of_the_commits(conn, slot, url):
    """What begins first and commits last comes last; what is rolled back never."""
    with psycopg.connect(url) as slow, psycopg.connect(url) as undone:
        slow.execute("INSERT INTO stock VALUES ('slow')")
        undone.execute("INSERT INTO stock VALUES ('undone')")
        conn.execute("INSERT INTO stock VALUES ('fast')")
        undone.rollback()
        slow.commit()
    assert [change.row["item"] for change in changes(conn, slot)] == ["fast", "slow"]


def test_only_what_is_published(conn, slot):
    """Other tables are not read."""
    conn.execute("CREATE TABLE other (id int)")
    conn.execute("INSERT INTO other VALUES (1)")
    assert changes(conn, slot) == []


def test_column_that_was_added(conn, slot):
    """After ALTER TABLE the new column is there, in the same read."""
    conn.execute("INSERT INTO stock VALUES ('apple')")
    conn.execute("ALTER TABLE stock ADD COLUMN shelf text DEFAULT 'a'")
    conn.execute("INSERT INTO stock VALUES ('pear')")
    first, second = changes(conn, slot)
    assert "shelf" not in first.row
    assert second.row["shelf"] == "a"


# --8<-- [start:wrong]
def changes_as_copied(conn, since):
    query = "SELECT * FROM stock WHERE updated_at > %s ORDER BY updated_at"
    return conn.execute(query, (since,)).fetchall()


# --8<-- [end:wrong]


def test_often_copied(conn, slot, url):
    """Often copied: a delete is never seen, nor is a row that committed late."""
    conn.execute("ALTER TABLE stock ADD updated_at timestamptz DEFAULT now()")
    conn.execute("INSERT INTO stock VALUES ('gone')")
    with psycopg.connect(url) as slow:
        slow.execute("INSERT INTO stock VALUES ('slow')")
        conn.execute("INSERT INTO stock VALUES ('fast')")
        seen = changes_as_copied(conn, "-infinity")
        slow.commit()
    conn.execute("DELETE FROM stock WHERE item = 'gone'")
    assert changes_as_copied(conn, seen[-1][-1]) == []
    kinds = [(change.kind, change.row["item"]) for change in changes(conn, slot)]
    assert kinds[-2:] == [("insert", "slow"), ("delete", "gone")]
