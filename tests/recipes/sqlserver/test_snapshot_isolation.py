from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import mssql_python
import pytest

from recipes.sqlserver.snapshot_isolation import (
    CONFLICT,
    ENABLE,
    SCHEMA,
    run,
    snapshot,
    take,
)
from tests.recipes.support.tds_listener import error, rolled_back

MESSAGE = f"{CONFLICT}. You cannot use snapshot isolation to access table 'dbo.stock'"


@pytest.fixture
def shop(sqlserver, query):
    """The address of a database with snapshots allowed, ten bolts and ten nuts."""
    query(sqlserver, ENABLE)
    query(sqlserver, SCHEMA)
    query(sqlserver, "INSERT INTO stock VALUES (N'bolt', 10), (N'nut', 10)")
    return sqlserver


def stock(query, dsn):
    return dict(query(dsn, "SELECT item, on_hand FROM stock"))


@pytest.fixture
def conflicts(listener):
    """Make a server that answers the first few writes with error 3960."""

    def make(times):
        left = [times]

        def answer(text):
            if text == "write" and left[0]:
                left[0] -= 1
                return rolled_back() + error(3960, MESSAGE)
            return None

        return listener(answer)

    return make


def work(conn):
    conn.execute("read")
    conn.execute("write")
    return "done"


def said(server):
    """What was asked after the transaction began."""
    return [it for it in server.requests if not it.startswith(("SET ", "BEGIN"))]


def test_level_comes_first(listener):
    """The level is set before the transaction begins, and the language too."""
    server = listener()
    with snapshot(server.dsn) as conn:
        conn.execute("read")
    assert server.requests == [
        "SET TRANSACTION ISOLATION LEVEL SNAPSHOT",
        "SET LANGUAGE us_english",
        "BEGIN",
        "read",
        "COMMIT",
    ]


def test_error_rolls_back(listener):
    """An error in the block rolls back, and arrives."""
    server = listener()

    def fail():
        with snapshot(server.dsn) as conn:
            conn.execute("read")
            raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        fail()
    assert said(server) == ["read", "ROLLBACK"]


def test_all_of_it_again(conflicts):
    """After a conflict the whole transaction runs again, its reads included."""
    server = conflicts(2)
    assert run(server.dsn, work, pauses=(0, 0)) == "done"
    assert said(server) == ["read", "write"] * 3 + ["COMMIT"]


def test_gives_up(conflicts):
    """After the last pause it tries once more; then the conflict reaches the caller."""
    server = conflicts(9)
    with pytest.raises(mssql_python.Error, match=CONFLICT):
        run(server.dsn, work, pauses=(0, 0))
    assert said(server) == ["read", "write"] * 3


@pytest.mark.parametrize("number", [102, 547, 1222, 3951])
def test_other_errors_are_not_retried(listener, number):
    """Any other error arrives at once: a typing error has the same SQLSTATE."""
    server = listener(lambda text: error(number, "no") if text == "write" else None)
    with pytest.raises(mssql_python.Error, match="no"):
        run(server.dsn, work, pauses=(0, 0))
    assert said(server) == ["read", "write", "ROLLBACK"]


def test_number_in_pyodbc(listener, with_pyodbc):
    """In pyodbc it is SQLSTATE 42000, as a typing error is, but the text has 3960."""
    recipe = with_pyodbc("connect_pyodbc")
    conn = recipe.connect(listener(lambda text: error(3960, MESSAGE)).dsn)
    with pytest.raises(recipe.pyodbc.ProgrammingError) as caught:
        conn.execute("write")
    conn.close()
    assert caught.value.args[0] == "42000"
    assert "(3960)" in caught.value.args[1]


def test_one_moment(shop, query):
    """All reads see the data of the first one, and writers do not wait for them."""
    with snapshot(shop) as reader:
        first = reader.execute("SELECT SUM(on_hand) FROM stock").fetchall()[0][0]
        query(shop, "UPDATE stock SET on_hand = 0")
        second = reader.execute("SELECT SUM(on_hand) FROM stock").fetchall()[0][0]
    assert (first, second) == (20, 20)
    assert stock(query, shop) == {"bolt": 0, "nut": 0}


def test_reader_does_not_wait(shop, connections):
    """A row that is being written is read as it was, at once."""
    writer = connections(shop)
    writer.execute("UPDATE stock SET on_hand = 0")
    with snapshot(shop) as reader:
        [[total]] = reader.execute("SELECT SUM(on_hand) FROM stock").fetchall()
    assert total == 20


def test_conflict(shop, query):
    """A write to a row that has changed since is refused; nothing is overwritten."""

    def late():
        with snapshot(shop) as conn:
            conn.execute("SELECT on_hand FROM stock").fetchall()
            query(shop, "UPDATE stock SET on_hand = 5 WHERE item = N'bolt'")
            take(conn, "bolt", 1)

    with pytest.raises(mssql_python.Error, match=CONFLICT):
        late()
    assert stock(query, shop)["bolt"] == 5


def test_two_at_once(shop, query):
    """Two callers read the same stock and take from it: both are counted."""
    half_way = Barrier(2)

    def taker(_):
        met = []

        def steps(conn):
            conn.execute("SELECT on_hand FROM stock").fetchall()
            if not met:  # not when it runs again
                met.append(half_way.wait(10))
            return take(conn, "bolt", 3)

        return run(shop, steps)

    with ThreadPoolExecutor() as threads:
        assert sorted(threads.map(taker, range(2))) == [4, 7]
    assert stock(query, shop)["bolt"] == 4


def test_not_enough(shop, query):
    """Too few, and no such item, are a ValueError; nothing is taken."""
    for item, count in (("bolt", 11), ("screw", 1)):
        with pytest.raises(ValueError, match=item):
            run(shop, lambda conn, item=item, count=count: take(conn, item, count))
    assert stock(query, shop) == {"bolt": 10, "nut": 10}


def test_write_skew(shop, query):
    """What a snapshot does not see: two that read both rows and write one each."""
    with snapshot(shop) as one, snapshot(shop) as two:
        for conn in (one, two):
            [[total]] = conn.execute("SELECT SUM(on_hand) FROM stock").fetchall()
            assert total == 20
        one.execute("UPDATE stock SET on_hand = 0 WHERE item = N'bolt'")
        two.execute("UPDATE stock SET on_hand = 0 WHERE item = N'nut'")
    assert stock(query, shop) == {"bolt": 0, "nut": 0}


# --8<-- [start:wrong]
def take_as_often_copied(conn, item, count):
    conn.execute("SET TRANSACTION ISOLATION LEVEL SNAPSHOT")
    query = "SELECT on_hand FROM stock WHERE item = ?"
    left = conn.execute(query, item).fetchone()[0] - count
    conn.execute("UPDATE stock SET on_hand = ? WHERE item = ?", left, item)
    conn.commit()


# --8<-- [end:wrong]


def test_often_copied_level_comes_late(listener, connections):
    """Often copied: the driver has begun a transaction when the level is set."""
    server = listener(lambda text: error(3951, "not started in snapshot"))
    with pytest.raises(mssql_python.Error):
        take_as_often_copied(connections(server.dsn), "bolt", 1)
    assert server.requests[:2] == ["BEGIN", "SET TRANSACTION ISOLATION LEVEL SNAPSHOT"]


def test_often_copied_not_allowed(sqlserver, query):
    """Often copied: without ALLOW_SNAPSHOT_ISOLATION the first read is an error."""
    query(sqlserver, SCHEMA)

    def read():
        with snapshot(sqlserver) as conn:
            conn.execute("SELECT * FROM stock").fetchall()

    with pytest.raises(mssql_python.Error, match="snapshot"):
        read()
