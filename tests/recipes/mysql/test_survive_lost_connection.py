import select
import time
from functools import partial
from urllib.parse import unquote, urlsplit

import mysql.connector as connector
import pymysql
import pytest
from mysql.connector import MySQLConnection

from recipes.mysql import survive_lost_connection, survive_lost_connection_connector
from recipes.mysql.survive_lost_connection import SCHEMA, connect

ERRORS = (pymysql.Error, connector.Error)
BOTH = pytest.mark.parametrize(
    "driver", [survive_lost_connection, survive_lost_connection_connector]
)
COMMIT = {  # as it goes over the line; PyMySQL says SET AUTOCOMMIT too
    survive_lost_connection: b"\x03COMMIT",
    survive_lost_connection_connector: b"COMMIT",
}
CHANGE = "UPDATE account SET balance = balance + %s WHERE id = %s"


@pytest.fixture
def url(mysql):
    """Two accounts, 100 and 50."""
    with connect(mysql) as conn, conn.cursor() as cursor:
        cursor.execute(SCHEMA)
        cursor.execute(
            "CREATE TABLE account (id INT PRIMARY KEY, balance INT NOT NULL)"
        )
        cursor.execute("INSERT INTO account VALUES (1, 100), (2, 50)")
        conn.commit()
    return mysql


def balances(url):
    with connect(url) as conn, conn.cursor() as cursor:
        cursor.execute("SELECT balance FROM account ORDER BY id")
        return [balance for (balance,) in cursor.fetchall()]


def move(cursor):
    cursor.execute(CHANGE, (-10, 1))
    cursor.execute(CHANGE, (10, 2))


def in_the_clear(driver, url):
    """Connect without TLS, so that the proxy can see the statements."""
    parts = urlsplit(url)
    options = {
        "host": parts.hostname,
        "port": parts.port,
        "user": unquote(parts.username),
        "password": unquote(parts.password),
        "database": parts.path[1:],
        "ssl_disabled": True,
    }
    if driver is survive_lost_connection:
        return pymysql.connect(**options)
    return MySQLConnection(**options)


def kill(url, number):
    """Kill a connection, and return when it is gone."""
    with connect(url) as conn, conn.cursor() as cursor:
        cursor.execute(f"KILL {number}")
        for _ in range(1000):
            sql = "SELECT 1 FROM information_schema.processlist WHERE id = %s"
            if not cursor.execute(sql, (number,)):
                return
            time.sleep(0.001)
    raise AssertionError(f"{number} lives")


def number_of(cursor):
    cursor.execute("SELECT CONNECTION_ID()")
    return cursor.fetchone()[0]


def test_2013(url):
    """KILL, or `wait_timeout`, gives 2013; after it every call gives `(0, '')`."""
    with connect(url) as conn, conn.cursor() as cursor:
        kill(url, number_of(cursor))
        with pytest.raises(pymysql.OperationalError) as caught:
            cursor.execute("SELECT 1")
        assert caught.value.args[0] in {2013, 2006}  # 2006 where the reset came first
        with pytest.raises(pymysql.InterfaceError) as caught:
            cursor.execute("SELECT 1")
        assert caught.value.args == (0, "")


def test_2006(url, fault_proxy):
    """A connection that a firewall has reset gives 2006, server has gone away."""
    proxy = fault_proxy(url)
    with connect(proxy.url) as conn, conn.cursor() as cursor:
        proxy.reset_all()
        line = select.poll()
        line.register(conn._sock, select.POLLHUP)
        assert line.poll(5000), "the reset never came"
        with pytest.raises(pymysql.OperationalError, match="gone away") as caught:
            cursor.execute("SELECT 1")
        assert caught.value.args[0] == 2006


def test_connector_after_a_kill(url):
    """With the connector the same KILL reads `MySQL Connection not available`, -1."""
    with survive_lost_connection_connector.connect(url) as conn:
        kill(url, conn.connection_id)
        with pytest.raises(connector.OperationalError, match="not available") as caught:
            conn.cursor()
    assert caught.value.errno == -1


@BOTH
@pytest.mark.parametrize("when", ["before", "between", "after"])
def test_killed(url, driver, when):
    """Killed before, between or after the statements: done, once."""
    attempts = []

    def work(cursor):
        attempts.append(1)
        number = number_of(cursor) if len(attempts) == 1 else None
        if number and when == "before":
            kill(url, number)
        cursor.execute(CHANGE, (-10, 1))
        if number and when == "between":
            kill(url, number)
        cursor.execute(CHANGE, (10, 2))
        if number and when == "after":
            kill(url, number)

    assert driver.run_once(partial(driver.connect, url), "a", work)
    assert (len(attempts), balances(url)) == (2, [90, 60])


@BOTH
def test_commit_did_not_arrive(url, driver, fault_proxy):
    """The line is cut before the COMMIT: done by the second attempt, once."""
    proxy = fault_proxy(url)
    proxy.cut_before(COMMIT[driver])
    assert driver.run_once(partial(in_the_clear, driver, proxy.url), "a", move)
    assert proxy.was_cut.is_set()
    assert balances(url) == [90, 60]


@BOTH
def test_answer_to_commit_was_lost(url, driver, fault_proxy):
    """The line is cut after the COMMIT: the second attempt finds it done."""
    proxy = fault_proxy(url)
    proxy.cut_answer_to(COMMIT[driver])
    assert not driver.run_once(partial(in_the_clear, driver, proxy.url), "a", move)
    assert proxy.was_cut.is_set()
    assert balances(url) == [90, 60]


@BOTH
def test_silence(url, driver, fault_proxy):
    """A server that falls silent counts as lost when the read timeout has passed."""
    proxy = fault_proxy(url)
    attempts = []

    def connect_briefly():
        proxy.black_hole(False)
        if driver is survive_lost_connection:
            conn = connect(proxy.url)
            conn._read_timeout = 0.2
        else:
            conn = driver.connect(proxy.url)
            conn.read_timeout = 1
        return conn

    def work(cursor):
        attempts.append(1)
        move(cursor)
        if len(attempts) == 1:
            proxy.black_hole()
        cursor.execute("DO 1")

    assert driver.run_once(connect_briefly, "a", work)
    assert (len(attempts), balances(url)) == (2, [90, 60])


@BOTH
def test_server_comes_back(url, driver, fault_proxy, monkeypatch):
    """A server that refuses at first is tried again after a pause."""
    proxy = fault_proxy(url)
    proxy.refuse()
    pauses = []

    def come_back(seconds):
        pauses.append(seconds)
        proxy.refuse(len(pauses) < 2)

    monkeypatch.setattr(time, "sleep", come_back)
    assert driver.run_once(partial(driver.connect, proxy.url), "a", move)
    assert pauses == [0.1, 0.2]
    assert balances(url) == [90, 60]


@BOTH
def test_gives_up(driver):
    """Where no server comes back, the last attempt's error reaches the caller."""
    tried = []

    def try_to_connect():
        tried.append(1)
        return driver.connect("mysql://cook:cook@127.0.0.1:1/cookbook")

    with pytest.raises(ERRORS) as caught:
        driver.run_once(try_to_connect, "a", move, attempts=2)
    assert (caught.value.args[0], len(tried)) == (2003, 2)


@BOTH
def test_once_for_each_key(url, driver):
    """A key's work is done once, another key's work is done too; case counts."""
    run = partial(driver.run_once, partial(driver.connect, url))
    assert [run(key, move) for key in ("a", "a", "A", "a ")] == [
        True,
        False,
        True,
        True,
    ]
    assert balances(url) == [70, 80]


@BOTH
def test_other_errors(url, driver):
    """Any other error ends it at once; neither the work nor its key is stored."""

    def fail(cursor):
        move(cursor)
        cursor.execute("INSERT INTO account VALUES (1, 0)")  # a duplicate

    run = partial(driver.run_once, partial(driver.connect, url))
    with pytest.raises(ERRORS, match="Duplicate entry '1'"):
        run("a", fail)
    with pytest.raises(ERRORS, match="too long"):
        run("a" * 65, move)
    assert balances(url) == [100, 50]
    assert run("a", move)


# --8<-- [start:wrong]
def execute_as_often_copied(conn, sql, args):
    conn.ping(reconnect=True)
    with conn.cursor() as cursor:
        cursor.execute(sql, args)


def transfer_as_often_copied(conn):
    for _attempt in range(3):
        try:
            execute_as_often_copied(conn, CHANGE, (-10, 1))
            execute_as_often_copied(conn, CHANGE, (10, 2))
            conn.commit()
            break
        except connector.Error:
            continue


# --8<-- [end:wrong]


def test_often_copied_pays_twice(url, fault_proxy):
    """Often copied: the answer to the COMMIT is lost, and the money moves twice."""
    proxy = fault_proxy(url)
    proxy.cut_answer_to(b"COMMIT")
    with in_the_clear(survive_lost_connection_connector, proxy.url) as conn:
        transfer_as_often_copied(conn)
    assert balances(url) == [80, 70]


def test_often_copied_does_half(url):
    """Often copied: `ping(reconnect=True)` between two statements loses the first."""
    with survive_lost_connection_connector.connect(url) as conn:
        execute_as_often_copied(conn, CHANGE, (-10, 1))
        kill(url, conn.connection_id)
        execute_as_often_copied(conn, CHANGE, (10, 2))
        conn.commit()
    assert balances(url) == [100, 60]
