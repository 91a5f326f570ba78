import threading
from concurrent.futures import ThreadPoolExecutor

import mysql.connector as connector
import pymysql
import pytest

from recipes.mysql import retry_deadlock, retry_deadlock_connector

BOTH = pytest.mark.parametrize("driver", [retry_deadlock, retry_deadlock_connector])
ERRORS = (pymysql.Error, connector.Error)
CHANGE = "UPDATE account SET balance = balance + %s WHERE id = %s"


@pytest.fixture
def url(mysql):
    """Two accounts, 100 and 50."""
    with retry_deadlock.connect(mysql) as conn, conn.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE account (id INT PRIMARY KEY, balance INT NOT NULL)"
        )
        cursor.execute("INSERT INTO account VALUES (1, 100), (2, 50)")
        conn.commit()
    return mysql


def balances(url):
    with retry_deadlock.connect(url) as conn, conn.cursor() as cursor:
        cursor.execute("SELECT balance FROM account ORDER BY id")
        return [balance for (balance,) in cursor.fetchall()]


def wait_a_second(conn):
    """Let the connection wait for a lock no longer than 1 s."""
    with conn.cursor() as cursor:
        cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")


@BOTH
def test_deadlock(url, driver):
    """Of two transfers that deadlock, one runs again; both are done, once."""
    assert driver.cross(url) == [1, 2]
    assert balances(url) == [100, 50]


@BOTH
def test_lock_wait_timeout(url, driver):
    """A transfer that waited too long for a lock starts again from the beginning."""
    with driver.connect(url) as other, driver.connect(url) as conn:
        wait_a_second(conn)
        with other.cursor() as cursor:
            cursor.execute(CHANGE, (0, 2))  # locks row 2
        attempts = []

        def work(cursor):
            attempts.append(1)
            if len(attempts) == 2:
                other.rollback()  # unlocks it
            cursor.execute(CHANGE, (-10, 1))
            cursor.execute(CHANGE, (10, 2))
            return "done"

        assert driver.run_transaction(conn, work) == "done"
    assert len(attempts) == 2
    assert balances(url) == [90, 60]


@BOTH
def test_gives_up(url, driver):
    """After the last attempt the error reaches the caller, and nothing is stored."""
    with driver.connect(url) as other, driver.connect(url) as conn:
        wait_a_second(conn)
        with other.cursor() as cursor:
            cursor.execute(CHANGE, (0, 2))

        def work(cursor):
            cursor.execute(CHANGE, (-10, 1))
            cursor.execute(CHANGE, (10, 2))

        with pytest.raises(ERRORS) as caught:
            driver.run_transaction(conn, work, attempts=1)
        assert caught.value.args[0] == 1205
        conn.commit()  # there is nothing left to commit
    assert balances(url) == [100, 50]


@BOTH
@pytest.mark.parametrize("error", [KeyError("ours"), None])
def test_other_errors(url, driver, error):
    """Any other error ends it at once, reaches the caller, and rolls back."""
    attempts = []

    def work(cursor):
        attempts.append(1)
        cursor.execute(CHANGE, (-10, 1))
        if error:
            raise error
        cursor.execute("INSERT INTO account VALUES (1, 0)")  # a duplicate

    with driver.connect(url) as conn:
        with pytest.raises((KeyError, *ERRORS)) as caught:
            driver.run_transaction(conn, work)
        conn.commit()
    assert caught.value is error or caught.value.args[0] == 1062
    assert (attempts, balances(url)) == ([1], [100, 50])


@BOTH
def test_lost_connection_is_not_retried(url, driver):
    """A lost connection is not retried, and its error is not hidden by the rollback."""
    attempts = []

    def work(cursor):
        attempts.append(1)
        cursor.execute("SELECT CONNECTION_ID()")
        ((number,),) = cursor.fetchall()
        cursor.execute(f"KILL {number}")
        cursor.execute("SELECT 1")

    with driver.connect(url) as conn, pytest.raises(ERRORS) as caught:
        driver.run_transaction(conn, work)
    assert attempts == [1]
    assert caught.value.args[0] in {2006, 2013, 1317, 1927, -1}


# --8<-- [start:wrong]
def execute_as_often_copied(cursor, sql, args):
    while True:
        try:
            return cursor.execute(sql, args)
        except pymysql.OperationalError as error:
            if error.args[0] not in (1205, 1213):
                raise


def transfer_as_often_copied(conn, payer, payee, amount):
    with conn.cursor() as cursor:
        execute_as_often_copied(cursor, CHANGE, (-amount, payer))
        execute_as_often_copied(cursor, CHANGE, (amount, payee))
    conn.commit()


# --8<-- [end:wrong]


def test_often_copied_makes_money(url, monkeypatch):
    """Often copied: a deadlock undoes the first statement, the second is repeated."""
    meet = threading.Barrier(2)
    execute = pymysql.cursors.Cursor.execute
    met = threading.local()

    def execute_then_meet(cursor, sql, args=None):
        done = execute(cursor, sql, args)
        if sql == CHANGE and not getattr(met, "done", False):
            met.done = True
            meet.wait(10)
        return done

    monkeypatch.setattr(pymysql.cursors.Cursor, "execute", execute_then_meet)

    def move(payer, payee):
        with retry_deadlock.connect(url) as conn:
            transfer_as_often_copied(conn, payer, payee, 10)

    with ThreadPoolExecutor() as pool:
        list(pool.map(move, (1, 2), (2, 1)))
    assert sum(balances(url)) == 160


def test_after_1205_half_a_transaction_is_left(url):
    """After 1205 the statements before it still stand, and a commit stores them."""
    with retry_deadlock.connect(url) as other, retry_deadlock.connect(url) as conn:
        wait_a_second(conn)
        with other.cursor() as cursor, conn.cursor() as waiting:
            cursor.execute(CHANGE, (0, 2))
            waiting.execute(CHANGE, (-10, 1))
            with pytest.raises(pymysql.OperationalError, match="1205"):
                waiting.execute(CHANGE, (10, 2))
        other.rollback()
        conn.commit()
    assert balances(url) == [90, 50]
