from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier

import mssql_python
import pytest

from recipes.sqlserver.transactions import SCHEMA, run, transfer
from tests.recipes.support.tds_listener import done, error, rolled_back

DEADLOCK = (
    "Transaction (Process ID 51) was deadlocked on lock resources with another process"
    " and has been chosen as the deadlock victim. Rerun the transaction."
)


@pytest.fixture
def bank(sqlserver, query):
    """The address of a database with two accounts: 100.00 and 50.00."""
    query(sqlserver, SCHEMA)
    query(sqlserver, "INSERT INTO account VALUES (1, 100), (2, 50)")
    return sqlserver


def balances(query, dsn):
    rows = query(dsn, "SELECT balance FROM account ORDER BY id")
    return [balance for (balance,) in rows]


@pytest.fixture
def deadlocks(listener):
    """Make a server that undoes the first few transactions at their second step."""

    def make(times):
        left = [times]

        def answer(text):
            if text == "second" and left[0]:
                left[0] -= 1
                return rolled_back() + error(1205, DEADLOCK, 13)
            return None

        return listener(answer)

    return make


def both_steps(conn):
    conn.execute("first")
    conn.execute("second")
    return "done"


def said(server):
    return [it for it in server.requests if it != "BEGIN"]


def test_all_of_it_again(deadlocks):
    """After a deadlock the whole transaction runs again, from its first statement."""
    server = deadlocks(2)
    assert run(server.dsn, both_steps, pauses=(0, 0)) == "done"
    assert said(server) == ["first", "second"] * 3 + ["COMMIT"]
    assert len(server.logins) == 3


def test_gives_up(deadlocks):
    """After the last pause it tries once more; then the deadlock reaches the caller."""
    server = deadlocks(9)
    with pytest.raises(mssql_python.OperationalError, match="deadlock victim"):
        run(server.dsn, both_steps, pauses=(0, 0))
    assert said(server) == ["first", "second"] * 3


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        pytest.param(547, "IntegrityError", id="check"),
        pytest.param(2627, "IntegrityError", id="twice"),
        pytest.param(208, "ProgrammingError", id="no-table"),
        pytest.param(1222, "ProgrammingError", id="lock-timeout"),
        pytest.param(3960, "ProgrammingError", id="snapshot"),
    ],
)
def test_other_errors_are_not_retried(listener, number, kind):
    """Any other error rolls back and arrives at once: it runs one time."""
    server = listener(lambda text: error(number, "no") if text == "second" else None)
    with pytest.raises(getattr(mssql_python, kind)):
        run(server.dsn, both_steps, pauses=(0, 0))
    assert said(server) == ["first", "second", "ROLLBACK"]


def test_lost_line_is_not_retried(listener):
    """A line that breaks is not retried: the commit may have reached the server."""

    def cut(text):
        if text == "second":
            raise OSError

    server = listener(cut)
    with pytest.raises(mssql_python.OperationalError):
        run(server.dsn, both_steps, pauses=(0, 0))
    assert said(server) == ["first", "second"]


def test_own_error_rolls_back(listener):
    """An error of the work itself rolls back, and arrives."""

    def work(conn):
        conn.execute("first")
        raise KeyError("ours")

    server = listener()
    with pytest.raises(KeyError, match="ours"):
        run(server.dsn, work)
    assert said(server) == ["first", "ROLLBACK"]


def test_number_in_pyodbc(listener, with_pyodbc):
    """In pyodbc the same deadlock is SQLSTATE 40001, with the number in its text."""
    recipe = with_pyodbc("connect_pyodbc")
    server = listener(lambda text: error(1205, DEADLOCK, 13))
    conn = recipe.connect(server.dsn)
    with pytest.raises(recipe.pyodbc.Error) as caught:
        conn.execute("second")
    conn.close()
    assert caught.value.args[0] == "40001"
    assert "(1205)" in caught.value.args[1]


def test_smaller_id_first(listener, connections):
    """Payments in either direction lock the accounts in the same order."""
    server = listener(lambda text: done(rows=1))
    conn = connections(server.dsn)
    for payer, payee in ((1, 2), (2, 1)):
        server.calls.clear()
        transfer(conn, payer, payee, Decimal(5))
        assert len(server.calls) == 2
        first, second = (call[-1] for call in server.calls)
        assert (first, second) == (1, 2)


@pytest.mark.parametrize(
    ("payer", "payee", "amount"),
    [(1, 2, "0"), (1, 2, "-5"), (1, 2, "0.015"), (1, 1, "5")],
)
def test_refused(listener, connections, payer, payee, amount):
    """Zero, a negative amount, half a cent, and a payment to oneself are refused."""
    server = listener()
    with pytest.raises(ValueError, match=f"from {payer}"):
        transfer(connections(server.dsn), payer, payee, Decimal(amount))
    assert server.calls == []


def test_moves_the_amount(bank, query):
    """The payer loses what the payee gains, to the cent."""
    run(bank, lambda conn: transfer(conn, 1, 2, Decimal("30.10")))
    assert balances(query, bank) == [Decimal("69.90"), Decimal("80.10")]


@pytest.mark.parametrize(
    ("payer", "payee", "amount", "kind"),
    [
        pytest.param(1, 9, "5", LookupError, id="unknown-payee"),
        pytest.param(9, 1, "5", LookupError, id="unknown-payer"),
        pytest.param(1, 2, "100.01", mssql_python.IntegrityError, id="overdraft"),
    ],
)
def test_nothing_moved(bank, query, payer, payee, amount, kind):
    """An unknown account and an overdraft: an error, and nothing moved."""
    with pytest.raises(kind):
        run(bank, lambda conn: transfer(conn, payer, payee, Decimal(amount)))
    assert balances(query, bank) == [100, 50]


def cross(bank, run):
    """Two transactions that take rows 1 and 2 in opposite order, and meet half-way."""
    half_way = Barrier(2)

    def work(first, second):
        met = []

        def steps(conn):
            sql = "UPDATE account SET balance = balance + 1 WHERE id = ?"
            conn.execute(sql, first)
            if not met:  # not when it runs again
                met.append(half_way.wait(10))
            conn.execute(sql, second)

        return lambda: run(bank, steps)

    with ThreadPoolExecutor() as threads:
        both = [threads.submit(work(1, 2)), threads.submit(work(2, 1))]
    return [future.exception() for future in both]


def test_deadlock(bank, query):
    """A real deadlock, forced: both transactions end well, and both are there once."""
    assert cross(bank, run) == [None, None]
    assert balances(query, bank) == [102, 52]


def test_crossing_payments(bank, query):
    """Payments that cross, many at once: no error, and not a cent is lost."""

    def pay(number):
        payer, payee = (1, 2) if number % 2 else (2, 1)
        run(bank, lambda conn: transfer(conn, payer, payee, Decimal("0.01")), pauses=())

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(pay, range(40)))
    assert balances(query, bank) == [100, 50]


# --8<-- [start:wrong]
def execute_as_often_copied(conn, sql, *args):
    for _ in range(3):
        try:
            return conn.execute(sql, *args)
        except mssql_python.Error:
            continue
    return None


# --8<-- [end:wrong]


def test_often_copied_half_a_transaction(deadlocks, connections):
    """Often copied: retry the statement; the deadlock has undone the one before it,
    and what is left is committed."""
    server = deadlocks(1)
    conn = connections(server.dsn)
    execute_as_often_copied(conn, "first")
    execute_as_often_copied(conn, "second")
    conn.commit()
    # The second BEGIN starts a transaction that "first" is no part of.
    assert server.requests == [
        "BEGIN",
        "first",
        "second",
        "BEGIN",
        "second",
        "COMMIT",
    ]


def test_often_copied_loses_money(bank, query):
    """Often copied: after a real deadlock the payee has what the payer never paid."""

    def run_wrong(dsn, steps):
        with mssql_python.connect(dsn, timeout=5) as conn:
            steps(Stubborn(conn))

    assert cross(bank, run_wrong) == [None, None]
    assert sum(balances(query, bank)) == 153  # four steps of one each, and one is lost


class Stubborn:
    def __init__(self, conn):
        self.conn = conn

    def execute(self, sql, *args):
        return execute_as_often_copied(self.conn, sql, *args)


def test_often_copied_swallows_the_error(listener, connections):
    """Often copied: after three tries there is no error and no result."""
    server = listener(lambda text: error(208, "no such table"))
    assert execute_as_often_copied(connections(server.dsn), "SELECT") is None
