"""transactions: all, nothing, or all but what failed."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors
from psycopg.pq import TransactionStatus

from recipes.postgresql.transactions import (
    ADD_LINE,
    SCHEMA,
    add_lines,
    connect,
    place_order,
    try_out,
)


@pytest.fixture
def conn(postgresql: str) -> Iterator[psycopg.Connection]:
    with connect(postgresql) as conn:
        conn.execute(SCHEMA)
        yield conn


@pytest.fixture
def other(postgresql: str) -> Iterator[psycopg.Connection]:
    """Someone else's connection."""
    with connect(postgresql) as other:
        yield other


def stored(conn: psycopg.Connection) -> list[tuple]:
    return conn.execute("SELECT item, quantity FROM line ORDER BY item").fetchall()


def count_orders(conn: psycopg.Connection) -> int:
    return conn.execute("SELECT count(*) FROM orders").fetchone()[0]


def test_all(conn, other):
    """At the end of the block everyone sees the order and its lines."""
    place_order(conn, "Ada", [("milk", 1), ("tea", 2)])
    assert stored(other) == [("milk", 1), ("tea", 2)]


def test_not_before_the_end(conn, other):
    """Inside the block nobody else sees anything."""
    seen = []

    def lines() -> Iterator[tuple[str, int]]:
        yield "milk", 1
        seen.append((count_orders(other), stored(other)))
        yield "tea", 2

    place_order(conn, "Ada", lines())
    assert seen == [(0, [])]


def test_nothing_after_a_database_error(conn):
    """A line that the database refuses takes the whole order with it."""
    with pytest.raises(errors.CheckViolation):
        place_order(conn, "Ada", [("milk", 1), ("tea", -1)])
    assert (count_orders(conn), stored(conn)) == (0, [])


def test_nothing_after_a_python_error(conn):
    """So does an error of the program itself."""

    def lines() -> Iterator[tuple[str, int]]:
        yield "milk", 1
        raise LookupError("no price")

    with pytest.raises(LookupError):
        place_order(conn, "Ada", lines())
    assert (count_orders(conn), stored(conn)) == (0, [])


def test_nothing_after_a_lost_connection(conn, other):
    """So does a connection that dies half-way; the error says what killed it."""

    def lines() -> Iterator[tuple[str, int]]:
        yield "milk", 1
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (conn.info.backend_pid,))
        yield "tea", 2

    with pytest.raises(errors.AdminShutdown):
        place_order(conn, "Ada", lines())
    assert (count_orders(other), stored(other)) == (0, [])


def test_connection_is_good_after_an_error(conn):
    """After an error that left the block, the same connection goes on working."""
    with pytest.raises(errors.CheckViolation):
        place_order(conn, "Ada", [("tea", -1)])
    place_order(conn, "Ada", [("tea", 1)])
    assert stored(conn) == [("tea", 1)]


def test_all_but_the_refused(conn):
    """With a savepoint for each line, the good lines stay and the bad are named."""
    order = place_order(conn, "Ada", [("tea", 2)])
    refused = add_lines(conn, order, [("milk", 1), ("tea", 1), ("salt", 0), ("rye", 3)])
    assert refused == [("tea", "line_pkey"), ("salt", "line_quantity_check")]
    assert stored(conn) == [("milk", 1), ("rye", 3), ("tea", 2)]


def test_other_errors_undo_all(conn):
    """An error that nobody expected undoes the good lines too, and is raised."""
    order = place_order(conn, "Ada", [])
    with pytest.raises(errors.NumericValueOutOfRange):
        add_lines(conn, order, [("milk", 1), ("tea", 10**9 * 5)])
    assert stored(conn) == []


def test_trying_out_changes_nothing(conn, other):
    """A statement tried out says how many rows it would change, and changes none."""
    place_order(conn, "Ada", [("milk", 1), ("tea", 2)])
    assert try_out(conn, "UPDATE line SET quantity = quantity * 2") == 2
    assert stored(conn) == stored(other) == [("milk", 1), ("tea", 2)]


def test_reading_leaves_nothing_open(conn):
    """With autocommit, a SELECT leaves no transaction open behind it."""
    stored(conn)
    assert conn.info.transaction_status == TransactionStatus.IDLE


def test_timeout(conn):
    """A statement in a transaction is limited to 30 seconds."""
    assert conn.execute("SHOW statement_timeout").fetchone() == ("30s",)


@pytest.fixture
def default(conn: psycopg.Connection, postgresql: str) -> Iterator[psycopg.Connection]:
    """A connection as psycopg makes it, without autocommit; order 1 is there."""
    place_order(conn, "Ada", [])
    with psycopg.connect(postgresql) as default:
        yield default


def test_aborted_and_cured(default):
    """After an error every statement fails with InFailedSqlTransaction. The cure is
    rollback(), or to have run the statement in a savepoint."""
    with pytest.raises(errors.CheckViolation):
        default.execute(ADD_LINE, (1, "tea", -1))
    with pytest.raises(errors.InFailedSqlTransaction, match="transaction is aborted"):
        default.execute("SELECT 1")
    default.rollback()
    default.execute(ADD_LINE, (1, "milk", 1))
    with pytest.raises(errors.CheckViolation), default.transaction():
        default.execute(ADD_LINE, (1, "tea", -1))
    assert stored(default) == [("milk", 1)]


# --8<-- [start:wrong]
def add_lines_as_copied(conn, order, lines):
    for item, quantity in lines:
        try:
            conn.execute(
                "INSERT INTO line VALUES (%s, %s, %s)", (order, item, quantity)
            )
        except psycopg.Error as error:
            print("Error:", error)
    conn.commit()


def rename_as_copied(url, order, customer):
    conn = psycopg.connect(url)
    known = conn.execute("SELECT FROM orders WHERE id = %s", (order,)).rowcount
    if known:
        with conn.transaction():
            query = "UPDATE orders SET customer = %s WHERE id = %s"
            conn.execute(query, (customer, order))
    conn.close()


# --8<-- [end:wrong]


def test_often_copied_stores_nothing(default, conn, capsys):
    """Often copied: one bad line, and commit() rolls all back without an error."""
    add_lines_as_copied(default, 1, [("milk", 1), ("tea", -1), ("rye", 3)])
    assert stored(conn) == []
    assert "current transaction is aborted" in capsys.readouterr().out


def test_often_copied_block_is_no_transaction(default, conn, postgresql):
    """Often copied: after a SELECT, the block is a savepoint, and close() undoes it."""
    rename_as_copied(postgresql, 1, "Grace")
    assert conn.execute("SELECT customer FROM orders").fetchall() == [("Ada",)]


def test_often_copied_leaves_a_transaction_open(default):
    """Often copied: without autocommit, one SELECT keeps a transaction open."""
    default.execute("SELECT 1")
    assert default.info.transaction_status == TransactionStatus.INTRANS
