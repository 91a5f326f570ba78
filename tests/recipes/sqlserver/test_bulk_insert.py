import time
import tracemalloc
from contextlib import closing
from decimal import Decimal

import mssql_python
import pytest

from recipes.sqlserver.bulk_insert import SCHEMA
from tests.recipes.support.tds_listener import error

ODD = "O'Brien, größer \N{CJK UNIFIED IDEOGRAPH-20000}\t\n"


def make(total):
    return ((n, f"product {n}", Decimal(n) / 100) for n in range(total))


@pytest.fixture
def shop(sqlserver, query):
    """The address of a database with an empty table."""
    query(sqlserver, SCHEMA)
    return sqlserver


@pytest.fixture(params=["bulk_insert", "bulk_insert_pyodbc"])
def insert(request, with_pyodbc):
    """Insert with one driver or the other, on a connection of its own."""
    recipe = with_pyodbc(request.param)

    def run(dsn, rows, **options):
        if recipe.__name__.endswith("pyodbc"):
            conn = recipe.pyodbc.connect(recipe.DRIVER + dsn, timeout=5)
        else:
            conn = mssql_python.connect(dsn, timeout=5)
        with closing(conn):
            return recipe.bulk_insert(conn, rows, **options)

    return run


def sales(query, dsn):
    return query(dsn, "SELECT id, product, amount FROM sale ORDER BY id")


def test_all_rows(shop, insert, query):
    """Every row arrives, with its types: 12 345 of them, from a generator."""
    assert insert(shop, make(12_345)) == 12_345
    rows = sales(query, shop)
    assert rows == list(make(12_345))


def test_text_and_money(shop, insert, query):
    """Quotes, line ends, rare characters and each cent arrive as they were."""
    rows = [(1, ODD, Decimal("9999999999.99")), (2, "", Decimal("0.01"))]
    assert insert(shop, rows) == 2
    assert sales(query, shop) == rows


def test_no_rows(shop, insert, query):
    """No rows are no error."""
    assert insert(shop, []) == 0
    assert sales(query, shop) == []


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param((7, "again", Decimal(1)), id="twice"),
        pytest.param((-1, "minus", Decimal(-1)), id="check"),
    ],
)
def test_all_or_none(shop, insert, query, bad):
    """One bad row among 12 000, and none is there: a key twice, a broken rule."""
    rows = [*make(12_000), bad]
    with pytest.raises(Exception, match="constraint"):
        insert(shop, rows)
    assert sales(query, shop) == []


def test_error_of_the_source(shop, insert, query):
    """An error of the generator arrives, and no row is there."""

    def source():
        yield from make(6_000)
        raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        insert(shop, source())
    assert sales(query, shop) == []


def test_nothing_is_left(shop, insert, query):
    """No table beside the real one is left, after an error neither."""
    insert(shop, make(10))
    with pytest.raises(Exception, match="constraint"):
        insert(shop, make(10))
    assert query(shop, "SELECT name FROM sys.tables") == [("sale",)]


COPY = """
import sys, threading, time, mssql_python
from decimal import Decimal
from recipes.sqlserver.bulk_insert import bulk_insert

ticks = []
def tick():
    while True:
        ticks.append(time.monotonic())
        time.sleep(0.01)

threading.Thread(target=tick, daemon=True).start()
conn = mssql_python.connect(sys.argv[1], timeout=5)
try:
    bulk_insert(conn, [(1, "bolt", Decimal(1))], timeout=5)
except RuntimeError as error:
    print(isinstance(error, mssql_python.Error), error)
ticks.append(time.monotonic())
conn.close()
print("stood still for", max(b - a for a, b in zip(ticks, ticks[1:])))
"""


def refuse_copy(text):
    if "@@TRANCOUNT" in text:  # what bulk copy asks first
        time.sleep(0.5)
        return error(208, "Invalid object name")
    return None


def test_bulk_copy_logs_in_again(listener, elsewhere):
    """Bulk copy opens a connection of its own; so the table for it is committed first,
    and dropped when the copy fails."""
    server = listener(refuse_copy)
    elsewhere(COPY, server.dsn)
    assert len(server.logins) == 2
    said = [it.split("sale_load_")[0] for it in server.requests if it != "BEGIN"]
    assert said[:2] == ["SELECT TOP (0) id, product, amount INTO ", "COMMIT"]
    assert said[-2:] == ["DROP TABLE ", "COMMIT"]


def test_bulk_copy_raises_runtime_error(listener, elsewhere):
    """What the server tells bulk copy is a RuntimeError, and no mssql_python.Error."""
    told = elsewhere(COPY, listener(refuse_copy).dsn)
    assert told.startswith("False Failed to retrieve destination metadata")
    assert "208" in told


def test_bulk_copy_stops_the_process(listener, elsewhere):
    """While bulk copy waits for the server, all threads of the process stand still."""
    told = elsewhere(COPY, listener(refuse_copy).dsn)
    assert float(told.rpartition(" ")[2]) > 0.4


def test_chunks(with_pyodbc):
    """pyodbc gets a chunk at a time, with its sizes, and commits once at the end."""
    recipe = with_pyodbc("bulk_insert_pyodbc")
    conn = Recorder()
    assert recipe.bulk_insert(conn, make(12_345)) == 12_345
    assert conn.chunks == [5_000, 5_000, 2_345]
    assert (conn.fast_executemany, conn.sizes) == (True, recipe.SIZES)
    assert conn.ended == ["close", "commit"]


def test_chunks_rolled_back(with_pyodbc):
    """After an error in the middle pyodbc's chunks are rolled back, all of them."""
    recipe = with_pyodbc("bulk_insert_pyodbc")

    def source():
        yield from make(6_000)
        raise KeyError("ours")

    conn = Recorder()
    with pytest.raises(KeyError):
        recipe.bulk_insert(conn, source())
    assert conn.chunks == [5_000]
    assert conn.ended == ["close", "rollback"]


def test_chunks_in_constant_memory(with_pyodbc):
    """Ten times the rows take no more memory."""
    recipe = with_pyodbc("bulk_insert_pyodbc")

    def peak(total):
        tracemalloc.start()
        try:
            recipe.bulk_insert(Recorder(), make(total), chunk=500)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(500)
    assert peak(10_000) < 1.5 * peak(1_000)


class Recorder:
    """Stands where a connection and its cursor would, and keeps what it is told."""

    def __init__(self):
        self.chunks, self.ended, self.sizes = [], [], None

    def cursor(self):
        return self

    def setinputsizes(self, sizes):
        self.sizes = sizes

    def executemany(self, sql, rows):
        assert sql.count("?") == len(rows[0])
        self.chunks.append(len(rows))

    def __getattr__(self, name):
        return lambda: self.ended.append(name)


# --8<-- [start:wrong]
def insert_as_often_copied(conn, rows):
    cursor = conn.cursor()
    cursor.fast_executemany = True
    cursor.executemany("INSERT INTO sale VALUES (?, ?, ?)", list(rows))


# --8<-- [end:wrong]


def test_often_copied_holds_all_rows():
    """Often copied: one call for everything, so all rows are in memory at once."""
    conn = Recorder()
    insert_as_often_copied(conn, make(12_345))
    assert conn.chunks == [12_345]


def test_often_copied_never_commits():
    """Often copied: no commit, and no error; the rows are gone with the connection."""
    conn = Recorder()
    insert_as_often_copied(conn, make(1))
    assert conn.ended == []


# --8<-- [start:wrong_copy]
def copy_as_often_copied(conn, rows):
    cursor = conn.cursor()
    cursor.bulkcopy("sale", rows, batch_size=1_000)
    conn.commit()


# --8<-- [end:wrong_copy]


def test_often_copied_leaves_a_part(shop, connections, query):
    """Often copied: bulk copy into the real table; an error leaves earlier batches."""
    rows = [*make(5_000), (7, "again", Decimal(1))]
    conn = connections(shop)
    with pytest.raises(RuntimeError):
        copy_as_often_copied(conn, rows)
    conn.rollback()
    assert 0 < len(sales(query, shop)) < 5_001


def test_often_copied_skips_the_rules(shop, connections, query):
    """Often copied: bulk copy checks no constraint, unless it is told to."""
    copy_as_often_copied(connections(shop), [(1, "minus", Decimal(-1))])
    assert sales(query, shop) == [(1, "minus", Decimal(-1))]
