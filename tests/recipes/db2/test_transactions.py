"""transactions: all of it, or nothing of it, and again only where that is safe."""

import time
from contextlib import closing
from decimal import Decimal
from types import SimpleNamespace

import ibm_db
import ibm_db_dbi
import pytest

from recipes.db2.transactions import SCHEMA, run_transaction, sqlcodes, transfer
from tests.recipes.support.fault_proxy import FaultProxy

DEADLOCK = (
    "[IBM][CLI Driver][DB2/LINUXX8664] SQL0911N  The current transaction has been"
    ' rolled back because of a deadlock or timeout.  Reason code "2".  SQLSTATE=40001'
    " SQLCODE=-911"
)


# On a server.


@pytest.fixture
def bank(conn):
    """A connection to two accounts, 100 and 50, that does not wait for locks."""
    with closing(conn.cursor()) as cursor:
        cursor.execute(SCHEMA)
        cursor.execute("INSERT INTO account VALUES (1, 100), (2, 50)")
        cursor.execute("SET CURRENT LOCK TIMEOUT NOT WAIT")
    conn.commit()
    return conn


@pytest.fixture
def other(dsn):
    """Another connection to the same schema; it does not wait for locks either."""
    with closing(ibm_db_dbi.connect(dsn, "", "")) as conn:
        conn.cursor().execute("SET CURRENT LOCK TIMEOUT NOT WAIT")
        yield conn


def balances(conn):
    with closing(conn.cursor()) as cursor:
        cursor.execute("SELECT balance FROM account ORDER BY id")
        found = [row[0] for row in cursor.fetchall()]
    conn.rollback()
    return found


def pay(amount, payer=1, payee=2):
    return lambda cursor: transfer(cursor, payer, payee, Decimal(amount))


def test_commits(bank, other):
    """What work did is committed: another connection sees it."""
    run_transaction(bank, pay("30.10"))
    assert balances(other) == [Decimal("69.90"), Decimal("80.10")]


@pytest.mark.parametrize(
    ("work", "error"),
    [
        pytest.param(pay(500), ibm_db_dbi.IntegrityError, id="overdraft"),
        pytest.param(pay(5, payee=9), LookupError, id="unknown-payee"),
        pytest.param(pay(5, payer=-9), LookupError, id="unknown-payer"),
    ],
)
def test_all_or_nothing(bank, work, error):
    """An overdraft or an unknown account: the error, and nothing moved."""
    with pytest.raises(error):
        run_transaction(bank, work)
    assert balances(bank) == [100, 50]


def test_runs_again_after_a_lock_timeout(bank, other):
    """The second account is locked: SQL0911N undoes the first update too, and all of it
    runs again when the lock is gone."""
    other.cursor().execute("UPDATE account SET balance = balance WHERE id = 2")
    attempts = []

    def work(cursor):
        attempts.append(1)
        if len(attempts) == 2:
            other.rollback()
        transfer(cursor, 1, 2, Decimal(30))

    run_transaction(bank, work, pause=0)
    assert len(attempts) == 2
    assert balances(bank) == [70, 80]


def test_gives_up(bank, other):
    """The lock stays: after the last attempt the server's error is raised."""
    other.cursor().execute("UPDATE account SET balance = balance WHERE id = 2")
    with pytest.raises(ibm_db_dbi.Error, match="SQL0911N"):
        run_transaction(bank, pay(30), attempts=3, pause=0)
    other.rollback()
    assert balances(bank) == [100, 50]


@pytest.mark.parametrize(("isolation", "may_insert"), [("CS", True), ("RR", False)])
def test_isolation(bank, other, isolation, may_insert):
    """While a transaction at RR has read the table, nobody can insert a row that its
    query would find; at CS anybody can."""

    def insert(cursor):
        cursor.execute("INSERT INTO account VALUES (3, 10)")

    def read(cursor):
        cursor.execute("SELECT COUNT(*) FROM account")
        cursor.fetchall()
        if may_insert:
            return run_transaction(other, insert)
        with pytest.raises(ibm_db_dbi.Error, match="SQL0911N"):
            run_transaction(other, insert, attempts=1)
        return None

    run_transaction(bank, read, isolation=isolation)
    assert len(balances(bank)) == (3 if may_insert else 2)


def test_rollback_on_a_dead_line(dsn):
    """On a lost connection rollback() raises nothing: it returns False."""
    parts = dict(part.split("=", 1) for part in dsn.split(";") if part)
    with FaultProxy(f"tcp://{parts['HOSTNAME']}:{parts['PORT']}") as proxy:
        there = f"HOSTNAME={proxy.host};PORT={proxy.port};"
        conn = ibm_db_dbi.connect(there + dsn, "", "")
        conn.cursor().execute("VALUES 1")
        proxy.reset_all()
        assert conn.rollback() is False


# Without one: what is tried again.


class Connection:
    """A connection whose n-th transaction ends as it is told; notes what is called."""

    def __init__(self, *ends):
        self.ends, self.calls = list(ends), []

    def cursor(self):
        return SimpleNamespace(execute=self.calls.append, close=lambda: None)

    def commit(self):
        self.calls.append("commit")

    def rollback(self):
        self.calls.append("rollback")
        return False  # what the driver returns on a dead line

    def work(self, cursor):
        if end := self.ends.pop(0):
            raise end
        return "done"


SET = "SET CURRENT ISOLATION CS"


@pytest.mark.parametrize(
    "error",
    [
        ibm_db_dbi.ProgrammingError(DEADLOCK),
        ibm_db_dbi.InternalError("SQL0913N  SQLSTATE=57033 SQLCODE=-913"),
        ibm_db_dbi.Error(f"Error 1: SQL0803N SQLCODE=-803\nError 2: {DEADLOCK}"),
        Exception(f"Fetch Failure: {DEADLOCK}"),
    ],
    ids=["execute", "not-rolled-back", "executemany", "fetchmany"],
)
def test_whole_transaction_again(error):
    """-911 and -913 run all of it again, whatever the class of the error."""
    conn = Connection(error, error, None)
    assert run_transaction(conn, conn.work, pause=0) == "done"
    assert conn.calls == [SET, "rollback", SET, "rollback", SET, "commit"]


@pytest.mark.parametrize(
    "error",
    [
        ibm_db_dbi.OperationalError("SQL30081N  SQLSTATE=08001 SQLCODE=-30081"),
        ibm_db_dbi.IntegrityError("SQL0803N  SQLSTATE=23505 SQLCODE=-803"),
        ibm_db_dbi.ProgrammingError("SQL9110N SQLCODE=-9110"),
        KeyboardInterrupt(),
        ValueError("an error of the program"),
    ],
)
def test_nothing_else_again(error):
    """A lost line, a duplicate, an error of the program, Ctrl-C: it is rolled back and
    raised."""
    conn = Connection(error)
    with pytest.raises(type(error)):
        run_transaction(conn, conn.work)
    assert conn.calls == [SET, "rollback"]


def test_commit_may_be_refused():
    """A deadlock that the commit reports runs all of it again as well."""
    conn = Connection(None, None)
    refusals = [ibm_db_dbi.ProgrammingError(DEADLOCK)]

    def commit():
        if refusals:
            raise refusals.pop()
        conn.calls.append("commit")

    conn.commit = commit
    run_transaction(conn, conn.work, pause=0)
    assert conn.calls == [SET, "rollback", SET, "commit"]


def test_first_error_counts():
    """A rollback that fails does not hide the error before it."""
    conn = Connection(ValueError("the first"))

    def rollback():
        raise ibm_db_dbi.ProgrammingError("Connection is not active")

    conn.rollback = rollback
    with pytest.raises(ValueError, match="the first"):
        run_transaction(conn, conn.work)


def test_attempts_are_counted():
    """It runs as often as it is told to, no more."""
    conn = Connection(*[ibm_db_dbi.ProgrammingError(DEADLOCK)] * 9)
    with pytest.raises(ibm_db_dbi.ProgrammingError):
        run_transaction(conn, conn.work, attempts=3, pause=0)
    assert len(conn.ends) == 6


@pytest.mark.parametrize("wrong", [{"isolation": "SERIALIZABLE"}, {"attempts": 0}])
def test_bad_arguments(wrong):
    """An isolation level that Db2 does not have, or no attempt: ValueError."""
    conn = Connection(None)
    with pytest.raises(ValueError, match="isolation"):
        run_transaction(conn, conn.work, **wrong)
    assert conn.calls == []


@pytest.mark.parametrize("amount", ["0", "-20", "0.005", "NaN", "Infinity"])
def test_amount(amount):
    """Zero, a negative amount, a fraction of a cent, NaN: ValueError before any SQL."""
    with pytest.raises(ValueError, match="cents"):
        transfer(None, 1, 2, Decimal(amount))


def test_to_oneself():
    """A payment to oneself is a ValueError."""
    with pytest.raises(ValueError, match="itself"):
        transfer(None, 1, 1, Decimal(5))


@pytest.mark.parametrize(("payer", "payee"), [(1, 2), (2, 1)])
def test_smaller_id_first(payer, payee):
    """Whoever pays, the account with the smaller id is locked first."""
    seen = []
    cursor = SimpleNamespace(rowcount=1, execute=lambda _, values: seen.append(values))
    transfer(cursor, payer, payee, Decimal(5))
    assert [account for _, account in seen] == [1, 2]
    assert sum(change for change, _ in seen) == 0


# The driver itself: how it reports -911, with the part in C replaced by the message.


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (DEADLOCK, ibm_db_dbi.ProgrammingError),
        ("SQL0913N  SQLSTATE=57033 SQLCODE=-913", ibm_db_dbi.InternalError),
    ],
)
def test_class_of_a_deadlock(monkeypatch, message, kind):
    """The driver raises ProgrammingError for SQL0911N and InternalError for SQL0913N,
    never OperationalError."""

    def fail(*_):
        raise Exception(message)

    monkeypatch.setattr(ibm_db_dbi.ibm_db, "prepare", fail)
    cursor = ibm_db_dbi.Cursor(object(), SimpleNamespace(FIX_RETURN_TYPE=1))
    with pytest.raises(ibm_db_dbi.DatabaseError) as caught:
        cursor.execute("UPDATE account SET balance = 0")
    assert type(caught.value) is kind
    assert len(sqlcodes(caught.value)) == 1


def test_error_in_fetchone():
    """Where fetchone() fails, the driver raises SystemError; its cause says why."""
    with pytest.raises(SystemError) as caught:
        ibm_db.fetchone(None)
    assert "parameter is invalid" in str(caught.value.__cause__)
    deadlock = SystemError("fetchone returned a result with an exception set")
    deadlock.__cause__ = Exception(f"Fetch Failure: {DEADLOCK}")
    assert sqlcodes(deadlock) == {-911}


# --8<-- [start:wrong]
def transfer_as_copied(conn, payer, payee, amount):
    cursor = conn.cursor()
    update = "UPDATE account SET balance = balance + ? WHERE id = ?"
    for values in ((-amount, payer), (amount, payee)):
        while True:
            try:
                cursor.execute(update, values)
                break
            except ibm_db_dbi.ProgrammingError:  # a deadlock: try again
                time.sleep(0.1)
    conn.commit()


# --8<-- [end:wrong]


def test_often_copied_makes_money(bank, other, monkeypatch):
    """Often copied: SQL0911N has undone the first update; the second is repeated and
    committed alone. The payee gains what nobody paid."""
    other.cursor().execute("UPDATE account SET balance = balance WHERE id = 2")
    monkeypatch.setattr(time, "sleep", lambda _: other.rollback())
    transfer_as_copied(bank, 1, 2, Decimal(30))
    assert balances(bank) == [100, 80]


def test_often_copied_with_closes(bank, dsn):
    """Often copied: `with conn:` does not commit. It closes, and the work is gone."""
    with ibm_db_dbi.connect(dsn, "", "") as conn:
        conn.cursor().execute("UPDATE account SET balance = 0")
    assert conn.conn_handler is None
    assert balances(bank) == [100, 50]
