"""transactions: run again after what may run again, and after nothing else."""

import importlib
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import oracledb
import pytest

from recipes.oracle.transactions import is_retryable, run_transaction, take


@pytest.fixture
def shop(conn):
    """A connection to a schema with ten cups and ten pots."""
    with conn.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE stock (item VARCHAR2(50) PRIMARY KEY, held NUMBER)"
        )
        cursor.executemany("INSERT INTO stock VALUES (:1, 10)", [("cup",), ("pot",)])
    conn.commit()
    return conn


@pytest.fixture
def other(oracle, shop):
    """A second connection to that schema."""
    with oracledb.connect(oracle, tcp_connect_timeout=5) as other:
        other.call_timeout = 30_000
        yield other


@pytest.fixture
def waits(monkeypatch):
    """The pauses that were asked for; none is made."""
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    return waits


def stock(conn) -> dict[str, int]:
    with conn.cursor() as cursor:
        cursor.execute("SELECT item, held FROM stock")
        return dict(cursor.fetchall())


def fail(conn, code: int) -> None:
    """Have the server raise an error of our own number."""
    with conn.cursor() as cursor:
        cursor.execute("BEGIN RAISE_APPLICATION_ERROR(:code, 'no'); END;", code=-code)


def test_commits(shop, other):
    """The work is committed, and its value returned."""
    assert run_transaction(shop, lambda conn: take(conn, "cup", 3)) == 7
    assert stock(other)["cup"] == 7


def test_runs_again(shop, other, waits):
    """Another session takes five after we have read: ORA-08177, and all of it runs
    again. Nothing is lost."""
    runs = []

    def work(conn):
        runs.append(stock(conn)["cup"])
        if len(runs) == 1:
            run_transaction(other, lambda conn: take(conn, "cup", 5))
        return take(conn, "cup", 3)

    assert run_transaction(shop, work) == 2
    assert runs == [10, 5]
    assert len(waits) == 1


def test_deadlock(shop, other):
    """Two transactions lock the same rows in opposite order: both commit in the end."""
    barrier = Barrier(2)

    def one(conn, first, second):
        met = []

        def work(conn):
            take(conn, first, 1)
            if not met:
                met.append(barrier.wait(timeout=20))
            take(conn, second, 1)

        run_transaction(conn, work)

    with ThreadPoolExecutor() as threads:
        running = [
            threads.submit(one, shop, "cup", "pot"),
            threads.submit(one, other, "pot", "cup"),
        ]
        for future in running:
            future.result(timeout=60)
    assert stock(shop) == {"cup": 8, "pot": 8}


def test_limit_is_kept(shop, other, waits):
    """After the last attempt the caller gets ORA-08177, and our work is undone."""

    def work(conn):
        stock(conn)
        run_transaction(other, lambda conn: take(conn, "cup", 1))
        take(conn, "cup", 1)

    with pytest.raises(oracledb.DatabaseError) as caught:
        run_transaction(shop, work, attempts=3)
    assert caught.value.args[0].code == 8177
    assert stock(shop)["cup"] == 7
    assert len(waits) == 2


def test_other_errors(shop, waits):
    """Any other error ends it at once, and the work is undone."""

    def work(conn):
        take(conn, "cup", 3)
        fail(conn, 20001)

    with pytest.raises(oracledb.DatabaseError) as caught:
        run_transaction(shop, work)
    assert caught.value.args[0].code == 20001
    assert (stock(shop)["cup"], waits) == (10, [])


def test_error_of_the_caller(shop, waits):
    """An error of your own, too: not so many cups."""
    with pytest.raises(LookupError):
        run_transaction(shop, lambda conn: take(conn, "cup", 11))
    assert (stock(shop)["cup"], waits) == (10, [])


def test_inside_a_transaction(shop):
    """Inside a transaction it refuses: a part of one cannot run again."""
    take(shop, "cup", 1)
    with pytest.raises(RuntimeError, match="commit first"):
        run_transaction(shop, lambda conn: None)


def test_no_attempt_is_an_error(shop):
    """No attempts is an error, not a silent nothing."""
    with pytest.raises(ValueError, match="attempts"):
        run_transaction(shop, lambda conn: None, attempts=0)


def test_lost_connection(shop, oracle, through, waits):
    """The line breaks: the error reaches the caller, and nothing runs again."""
    proxy, dsn = through(oracle)
    with oracledb.connect(dsn) as conn:

        def work(conn):
            proxy.reset_all()
            take(conn, "cup", 1)

        with pytest.raises(oracledb.DatabaseError, match="DPY-4011"):
            run_transaction(conn, work)
    assert waits == []


def test_a_snapshot_is_not_enough(shop, other):
    """SERIALIZABLE is a snapshot: two transactions that each write what the other has
    only read both commit. Lock the row that the decision depends on."""

    def leave_one(conn, item):
        assert sum(stock(conn).values()) == 20  # together at least 10 must stay
        take(conn, item, 10)

    def first(conn):
        leave_one(conn, "cup")
        run_transaction(other, lambda conn: leave_one(conn, "pot"))

    run_transaction(shop, first)
    assert stock(shop) == {"cup": 0, "pot": 0}


# Without a server.


def error_of(code: int, text: str) -> oracledb.Error:
    """The exception that the driver makes of an error of the server."""
    error = importlib.import_module("oracledb.errors")._Error(
        message=f"ORA-{code:05}: {text}", code=code
    )
    return error.exc_type(error)


@pytest.mark.parametrize(
    ("code", "again"),
    [(8177, True), (60, True), (1, False), (1013, False), (54, False)],
)
def test_which_errors(code, again):
    """ORA-08177 and ORA-00060 run again; a duplicate key, a timeout, a lock that was
    not waited for do not."""
    assert is_retryable(error_of(code, "text")) is again


def test_lost_connection_is_recoverable_and_not_retried():
    """The driver calls a lost connection recoverable. The commit may have happened all
    the same, so it does not run again."""
    error = error_of(3113, "end-of-file on communication channel")
    assert error.args[0].full_code == "DPY-4011"
    assert error.args[0].isrecoverable
    assert not is_retryable(error)


def test_errors_that_are_no_answer(closed_port):
    """Nobody listens, or an error of your own: not an answer of the server, not
    retried."""
    with pytest.raises(oracledb.OperationalError) as caught:
        oracledb.connect(closed_port)
    assert not is_retryable(caught.value)
    assert not is_retryable(LookupError("cup"))
    assert not is_retryable(KeyboardInterrupt())


# --8<-- [start:wrong]
def query_as_copied(connect, query, pauses=(1, 2, 4, 8)):
    for pause in (0, *pauses):
        time.sleep(pause)
        try:
            with connect() as conn, conn.cursor() as cursor:
                cursor.execute(query)
                conn.commit()
                names = [column.name for column in cursor.description]
                return [dict(zip(names, row)) for row in cursor]
        except Exception:
            continue
    raise RuntimeError("the query failed")


# --8<-- [end:wrong]


def test_often_copied_does_it_five_times(shop, oracle, waits):
    """Often copied: an UPDATE has no columns, which is an error after the commit. It is
    done five times."""
    query = "UPDATE stock SET held = held - 1 WHERE item = 'cup'"
    with pytest.raises(RuntimeError):
        query_as_copied(lambda: oracledb.connect(oracle), query)
    assert stock(shop)["cup"] == 5


def test_often_copied_hides_the_reason(closed_port, waits):
    """Often copied: a wrong address is tried five times, in 15 seconds, and the error
    says neither address nor reason."""
    with pytest.raises(RuntimeError) as caught:
        query_as_copied(lambda: oracledb.connect(closed_port), "SELECT 1 FROM dual")
    assert sum(waits) == 15
    assert str(caught.value) == "the query failed"
    assert caught.value.__cause__ is None
