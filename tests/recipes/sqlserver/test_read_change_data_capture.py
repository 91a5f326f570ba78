import time
from contextlib import suppress
from decimal import Decimal

import mssql_python
import pytest

from recipes.sqlserver.read_change_data_capture import (
    ENABLE,
    Change,
    ChangesLostError,
    read,
)

TABLE = "CREATE TABLE account (id int PRIMARY KEY, balance decimal(9, 2))"


@pytest.fixture
def conn(sqlserver, connections):
    """A connection to a database in which the changes of one table are captured."""
    conn = connections(sqlserver, autocommit=True)
    conn.execute(TABLE)
    for statement in ENABLE:
        conn.execute(statement)
    yield conn
    conn.execute("EXEC sys.sp_cdc_disable_db")


def read_all(conn, after, count):
    """Read on until that many changes have come."""
    changes, deadline = [], time.monotonic() + 60
    while len(changes) < count:
        assert time.monotonic() < deadline, f"captured only {changes}"
        with suppress(mssql_python.Error):  # the job of the server does it already
            conn.execute("EXEC sys.sp_cdc_scan")
        some, after = read(conn, "dbo_account", after)
        changes += some
    return changes, after


def test_each_change(conn):
    """Inserts, updates and deletes come in their order, with their rows."""
    conn.execute("INSERT INTO account VALUES (1, 100)")
    conn.execute("UPDATE account SET balance = 69.90 WHERE id = 1")
    conn.execute("DELETE FROM account WHERE id = 1")
    changes, _ = read_all(conn, None, 3)
    assert changes == [
        Change("insert", {"id": 1, "balance": Decimal(100)}),
        Change("update", {"id": 1, "balance": Decimal("69.90")}),
        Change("delete", {"id": 1, "balance": Decimal("69.90")}),
    ]


def test_goes_on(conn):
    """The next reading begins where the last one ended: nothing twice, nothing lost."""
    conn.execute("INSERT INTO account VALUES (1, 1)")
    first, position = read_all(conn, None, 1)
    assert read(conn, "dbo_account", position)[0] == []
    conn.execute("INSERT INTO account VALUES (2, 2)")
    second, _ = read_all(conn, position, 1)
    assert [change.row["id"] for change in first + second] == [1, 2]


def test_rolled_back(conn, connections, sqlserver):
    """What was rolled back never comes."""
    writer = connections(sqlserver)
    writer.execute("INSERT INTO account VALUES (1, 1)")
    writer.rollback()
    conn.execute("INSERT INTO account VALUES (2, 2)")
    changes, _ = read_all(conn, None, 1)
    assert [change.row["id"] for change in changes] == [2]


def test_order_of_commits(conn, connections, sqlserver):
    """Who commits first comes first, whoever began."""
    slow = connections(sqlserver)
    slow.execute("INSERT INTO account VALUES (1, 1)")
    conn.execute("INSERT INTO account VALUES (2, 2)")
    slow.commit()
    changes, _ = read_all(conn, None, 2)
    assert [change.row["id"] for change in changes] == [2, 1]


def test_changes_lost(conn):
    """A position older than what is kept is an error, and not half of the changes."""
    conn.execute("INSERT INTO account VALUES (1, 1)")
    read_all(conn, None, 1)
    with pytest.raises(ChangesLostError, match="dbo_account"):
        read(conn, "dbo_account", b"\0" * 9 + b"\1")


@pytest.mark.parametrize("instance", ["dbo_nothing", "dbo_account](0, 0, '') --"])
def test_unknown_instance(conn, instance):
    """An unknown table is an error; so is a name that would be code."""
    with pytest.raises(LookupError, match="no capture instance"):
        read(conn, instance, None)


# --8<-- [start:wrong]
def read_as_often_copied(conn, after):
    return conn.execute(
        "SELECT * FROM cdc.fn_cdc_get_all_changes_dbo_account("
        "?, sys.fn_cdc_get_max_lsn(), N'all')",
        after,
    ).fetchall()


# --8<-- [end:wrong]


def test_often_copied_comes_twice(conn):
    """Often copied: the range begins with the last change that was read, again."""
    conn.execute("INSERT INTO account VALUES (1, 1)")
    _, position = read_all(conn, None, 1)
    assert len(read_as_often_copied(conn, position)) == 1


def test_often_copied_speaks_of_arguments(conn):
    """Often copied: a position that is too old is an error about arguments."""
    conn.execute("INSERT INTO account VALUES (1, 1)")
    read_all(conn, None, 1)
    with pytest.raises(mssql_python.Error, match="insufficient number of arguments"):
        read_as_often_copied(conn, b"\0" * 9 + b"\1")
