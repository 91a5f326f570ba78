import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import pytest

from recipes.sqlite.transactions import (
    SCHEMA,
    connect,
    deliver,
    savepoint,
    take,
    transaction,
)

THREADS, TIMES = 4, 50


@pytest.fixture
def conn(sqlite: str) -> Iterator[sqlite3.Connection]:
    """A stock of 200 teas (sqlite is the path of the file)."""
    with closing(connect(sqlite)) as conn:
        conn.execute("PRAGMA synchronous = OFF")  # this test is not about power cuts
        conn.execute(SCHEMA)
        conn.execute("INSERT INTO stock VALUES ('tea', 200)")
        yield conn


def tea(conn: sqlite3.Connection) -> int:
    query = "SELECT quantity FROM stock WHERE item = 'tea'"
    return int(conn.execute(query).fetchone()[0])


def in_threads(path: str, work: Callable[[sqlite3.Connection], None]) -> None:
    """Do the work in every thread at once, with a connection each."""

    def one(_: int) -> None:
        with closing(connect(path, timeout=30)) as conn:
            conn.execute("PRAGMA synchronous = OFF")
            work(conn)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, range(THREADS)))


def test_no_update_is_lost(conn, sqlite):
    """4 threads that take 50 each leave nothing of 200."""

    def work(conn: sqlite3.Connection) -> None:
        for _ in range(TIMES):
            take(conn, "tea", 1)

    in_threads(sqlite, work)
    assert tea(conn) == 0


def test_error_undoes_all(conn):
    """An error between two statements leaves the stock as it was, and is raised."""

    def fail() -> None:
        with transaction(conn):
            conn.execute("UPDATE stock SET quantity = 0")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert tea(conn) == 200
    assert not conn.in_transaction


@pytest.mark.parametrize(
    ("item", "quantity", "error"),
    [("salt", 1, LookupError), ("tea", 201, sqlite3.IntegrityError)],
)
def test_refused(conn, item, quantity, error):
    """An unknown item and an overdraft are refused; nothing changed."""
    with pytest.raises(error):
        take(conn, item, quantity)
    assert tea(conn) == 200
    assert take(conn, "tea", 1) == 199


def test_schema_changes_roll_back(conn):
    """CREATE TABLE and DROP TABLE roll back like everything else."""
    with suppress(ZeroDivisionError), transaction(conn):
        conn.execute("CREATE TABLE other (id INTEGER)")
        conn.execute("DROP TABLE stock")
        raise ZeroDivisionError
    assert conn.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table'"
    ).fetchall() == [("stock",)]


def test_savepoint_undoes_a_part(conn):
    """A refused parcel is undone alone; the others are stored in one transaction."""
    parcels = [("salt", 1), ("tea", 5), ("pepper", -1), ("sugar", 2)]
    assert deliver(conn, parcels) == [("tea", 5), ("pepper", -1)]
    rows = conn.execute("SELECT item, quantity FROM stock ORDER BY item").fetchall()
    assert rows == [("salt", 1), ("sugar", 2), ("tea", 200)]


def test_savepoints_nest(conn):
    """Savepoints nest: the inner one is undone, the outer one is kept."""
    with transaction(conn), savepoint(conn):
        conn.execute("UPDATE stock SET quantity = 7")
        with suppress(ZeroDivisionError), savepoint(conn):
            conn.execute("UPDATE stock SET quantity = 8")
            raise ZeroDivisionError
    assert tea(conn) == 7


@pytest.mark.parametrize("inner_fails", [True, False])
def test_outer_savepoint_undoes_the_inner(conn, inner_fails):
    """An outer savepoint undoes what came before and in an inner one."""
    with transaction(conn), suppress(ZeroDivisionError), savepoint(conn):
        conn.execute("UPDATE stock SET quantity = 7")
        with suppress(LookupError), savepoint(conn):
            conn.execute("UPDATE stock SET quantity = 8")
            if inner_fails:
                raise LookupError
        raise ZeroDivisionError
    assert tea(conn) == 200


def test_error_that_ends_the_transaction(conn):
    """Where SQLite has rolled back everything itself, its own error is raised."""

    def fail() -> None:
        with transaction(conn):
            conn.execute("UPDATE stock SET quantity = 7")
            with savepoint(conn):
                conn.execute("INSERT OR ROLLBACK INTO stock VALUES ('tea', 1)")

    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        fail()
    assert tea(conn) == 200


def test_commit_that_fails(conn, sqlite):
    """A COMMIT that has to wait too long for a reader is an error, and rolls back."""
    with closing(connect(sqlite, timeout=0)) as writer:
        conn.execute("BEGIN")
        assert tea(conn) == 200  # reads until its own transaction ends
        with pytest.raises(sqlite3.OperationalError, match="is locked"):
            take(writer, "tea", 1)
        assert not writer.in_transaction
        conn.rollback()
    assert tea(conn) == 200


def test_locked_by_another_writer(conn, sqlite):
    """A second writer waits at BEGIN IMMEDIATE, before it has read anything."""
    with closing(connect(sqlite, timeout=0)) as other, transaction(conn):
        statements: list[str] = []
        other.set_trace_callback(statements.append)
        with pytest.raises(sqlite3.OperationalError, match="is locked"):
            take(other, "tea", 1)
    assert statements == ["BEGIN IMMEDIATE"]


# --8<-- [start:wrong]
def take_as_often_copied(conn, item, quantity):
    with conn:  # a transaction, or so it looks
        (left,) = conn.execute(
            "SELECT quantity FROM stock WHERE item = ?", (item,)
        ).fetchone()
        conn.execute(
            "UPDATE stock SET quantity = ? WHERE item = ?", (left - quantity, item)
        )
        if left < quantity:
            raise ValueError("not enough")  # to roll back


# --8<-- [end:wrong]


@pytest.mark.parametrize("isolation_level", ["", None], ids=["default", "autocommit"])
def test_often_copied_loses_updates(conn, sqlite, isolation_level):
    """Often copied: of 4 x 50 updates that read first, 150 are lost."""
    barrier = threading.Barrier(THREADS)

    def work(conn: sqlite3.Connection) -> None:
        conn.isolation_level = isolation_level
        conn.set_trace_callback(
            lambda sql: barrier.wait(30) if sql.startswith("UPDATE") else None
        )  # so that all have read before one writes
        for _ in range(TIMES):
            take_as_often_copied(conn, "tea", 1)

    in_threads(sqlite, work)
    assert tea(conn) == 150


def test_often_copied_rolls_nothing_back(conn):
    """Often copied: with `isolation_level=None`, `with conn:` undoes nothing."""
    conn.execute("PRAGMA ignore_check_constraints = ON")
    with pytest.raises(ValueError, match="not enough"):
        take_as_often_copied(conn, "tea", 209)
    assert tea(conn) == -9


def test_often_copied_script_commits(conn):
    """Often copied: `executescript` commits the open transaction before it starts."""
    with suppress(ZeroDivisionError), transaction(conn):
        conn.execute("UPDATE stock SET quantity = 1")
        conn.executescript("UPDATE stock SET quantity = 2")
        raise ZeroDivisionError
    assert tea(conn) == 2
