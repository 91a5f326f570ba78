from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import mssql_python
import pytest

from recipes.sqlserver.merge_upsert import ADD, SCHEMA, add
from tests.recipes.sqlserver.blocked import wait_until_blocked

RANGES = (
    "SELECT COUNT(*) FROM sys.dm_tran_locks WHERE request_session_id = @@SPID"
    " AND request_mode LIKE 'Range%'"
)


@pytest.fixture
def counters(sqlserver, query):
    """The address of a database with an empty table."""
    query(sqlserver, SCHEMA)
    return sqlserver


def values(query, dsn):
    return query(dsn, "SELECT name, value FROM counter ORDER BY name")


def test_insert_then_update(counters, connections, query):
    """A new name is inserted, a known one is updated, and both tell the value."""
    conn = connections(counters)
    assert add(conn, "a", 1) == ("INSERT", 1)
    assert add(conn, "a", 41) == ("UPDATE", 42)
    assert add(conn, "größer 'b'", 2**40) == ("INSERT", 2**40)
    conn.commit()
    assert values(query, counters) == [("a", 42), ("größer 'b'", 2**40)]


def test_part_of_the_transaction(counters, connections, query):
    """It is undone with the transaction of the caller."""
    conn = connections(counters)
    add(conn, "a", 1)
    conn.rollback()
    assert values(query, counters) == []


def test_same_new_key_at_once(counters, connections, query):
    """Two callers with the same new name: the second waits, and adds to the first."""
    first, second = connections(counters), connections(counters)
    assert add(first, "a", 1) == ("INSERT", 1)
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(add, second, "a", 1)
        wait_until_blocked(counters, 1)
        first.commit()
        assert waiting.result() == ("UPDATE", 2)
    second.commit()
    assert values(query, counters) == [("a", 2)]


def test_locks_the_gap(counters, connections):
    """HOLDLOCK locks the place where the new row goes, before it is there."""
    conn = connections(counters)
    add(conn, "a", 1)
    [[ranges]] = conn.execute(RANGES).fetchall()
    assert ranges > 0


def test_eight_callers(counters, query):
    """Eight callers start at once with new names: no error, and nothing is lost."""
    start = Barrier(8)

    def run(_):
        with mssql_python.connect(counters, timeout=5, autocommit=True) as conn:
            start.wait(10)
            for name in "abcde":
                add(conn, name, 1)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(run, range(8)))
    assert values(query, counters) == [(name, 8) for name in "abcde"]


# --8<-- [start:wrong]
def add_as_often_copied(conn, name, step):
    query = "SELECT 1 FROM counter WHERE name = ?"
    if conn.execute(query, name).fetchone():
        conn.execute("UPDATE counter SET value = value + ? WHERE name = ?", step, name)
    else:
        conn.execute("INSERT INTO counter (name, value) VALUES (?, ?)", name, step)


# --8<-- [end:wrong]


class Paused:
    """A connection whose caller stops after the look, until another has looked too."""

    def __init__(self, conn, start):
        self.conn, self.start = conn, start

    def execute(self, sql, *args):
        if not sql.startswith("SELECT"):
            self.start.wait(10)
        return self.conn.execute(sql, *args)


def test_often_copied_both_insert(counters, query):
    """Often copied: two callers look, both see nothing, both insert: one gets an
    error, and its step is lost."""
    start = Barrier(2)

    def run(_):
        with mssql_python.connect(counters, timeout=5, autocommit=True) as conn:
            try:
                add_as_often_copied(Paused(conn, start), "a", 1)
            except mssql_python.IntegrityError as error:
                return error
            return None

    with ThreadPoolExecutor(2) as threads:
        ends = list(threads.map(run, range(2)))
    assert sum(end is None for end in ends) == 1
    assert values(query, counters) == [("a", 1)]


def test_often_copied_without_holdlock(counters, connections):
    """Often copied, as MERGE without HOLDLOCK: nothing keeps another from inserting
    between its look and its write."""
    conn = connections(counters)
    conn.execute(ADD.replace(" WITH (HOLDLOCK)", ""), "a", 1).fetchall()
    assert conn.execute(RANGES).fetchall()[0][0] == 0
