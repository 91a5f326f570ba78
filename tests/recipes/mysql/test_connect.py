import time
from contextlib import closing
from urllib.parse import quote, urlsplit

import mysql.connector as connector
import pymysql
import pytest
from mysql.connector import MySQLConnection, pooling

from recipes.mysql import connect, connect_connector

BOTH = pytest.mark.parametrize("driver", [connect, connect_connector])
ERRORS = (pymysql.Error, connector.Error)


def query(conn, sql, args=None):
    with conn.cursor() as cursor:
        cursor.execute(sql, args)
        return list(cursor.fetchall())


@BOTH
def test_emoji(mysql, driver):
    """An emoji is stored as one character and comes back unchanged."""
    text = "\N{SLIGHTLY SMILING FACE}\N{CJK UNIFIED IDEOGRAPH-20000}é"
    with driver.connect(mysql) as conn, conn.cursor() as cursor:
        cursor.execute("CREATE TABLE note (text VARCHAR(3)) CHARACTER SET utf8mb4")
        cursor.execute("INSERT INTO note VALUES (%s)", (text,))
        cursor.execute("SELECT text, CHAR_LENGTH(text) FROM note")
        assert list(cursor.fetchall()) == [(text, 3)]


@BOTH
def test_speaks_utf8mb4(mysql, driver):
    """Statements, values and answers travel as utf8mb4."""
    with driver.connect(mysql) as conn:
        names = "@@character_set_client, @@character_set_connection"
        (row,) = query(conn, f"SELECT {names}, @@character_set_results")
    assert row == ("utf8mb4",) * 3


PASSWORD = "p@ss:w/ord#?%41 &=+'\"\\ é€\N{SLIGHTLY SMILING FACE}"


@pytest.fixture
def hostile_url(mysql):
    """The address of a user of its own whose password has every odd character."""
    parts = urlsplit(mysql)
    user = f"u_{parts.path[1:]}"[:32]
    with closing(connect.connect(mysql)) as conn:
        query(conn, f"CREATE USER `{user}`@'%%' IDENTIFIED BY %s", (PASSWORD,))
        query(conn, f"GRANT ALL ON `{parts.path[1:]}`.* TO `{user}`@'%'")
        netloc = f"{user}:{quote(PASSWORD, safe='')}@{parts.hostname}:{parts.port}"
        yield parts._replace(netloc=netloc).geturl()
        query(conn, f"DROP USER `{user}`@'%'")


@BOTH
def test_any_password(hostile_url, driver):
    """A password of `@ : / # ? %`, quotes, accents and an emoji opens the door."""
    with driver.connect(hostile_url) as conn:
        assert query(conn, "SELECT 1") == [(1,)]


@BOTH
def test_wrong_password(mysql, driver):
    """A wrong password is an error, number 1045."""
    wrong = urlsplit(mysql)
    netloc = f"{wrong.username}:wrong@{wrong.hostname}:{wrong.port}"
    with pytest.raises(ERRORS) as caught:
        driver.connect(wrong._replace(netloc=netloc).geturl())
    assert caught.value.args[0] == 1045


@BOTH
def test_no_server(driver):
    """Where no server listens, the error is 2003, at once."""
    with pytest.raises(ERRORS) as caught:
        driver.connect("mysql://cook:cook@127.0.0.1:1/cookbook")
    assert caught.value.args[0] == 2003


@BOTH
def test_silent_server(mysql, driver, fault_proxy):
    """A server that accepts and then says nothing is given up on."""
    proxy = fault_proxy(mysql)
    proxy.black_hole()
    started = time.monotonic()
    with pytest.raises(ERRORS, match="timed out"):
        driver.connect(proxy.url, connect_timeout=1, read_timeout=1)
    assert time.monotonic() - started < 5


@BOTH
def test_read_timeout(mysql, driver):
    """A query that takes longer than the read timeout is an error."""
    with (
        driver.connect(mysql, read_timeout=1) as conn,
        pytest.raises(ERRORS, match="timed out"),
    ):
        query(conn, "SELECT SLEEP(5)")


@BOTH
def test_write_timeout(mysql, driver, fault_proxy):
    """A statement that the network does not take away is an error too."""
    proxy = fault_proxy(mysql)
    with driver.connect(proxy.url, read_timeout=1) as conn, conn.cursor() as cursor:
        proxy.black_hole()
        with pytest.raises(ERRORS, match=r"[Tt]imed out|gone away|Write"):
            cursor.execute(f"SELECT LENGTH('{'x' * 15_000_000}')")


def test_query_outlives_the_timeout(mysql):
    """The read timeout ends the wait, not the query: the server goes on with it."""
    with connect.connect(mysql) as other:
        with connect.connect(mysql, read_timeout=0.1) as conn:
            number = conn.thread_id()
            with pytest.raises(pymysql.OperationalError):
                query(conn, "SELECT SLEEP(5)")
        running = "SELECT info FROM information_schema.processlist WHERE id = %s"
        assert query(other, running, (number,)) == [("SELECT SLEEP(5)",)]
        query(other, f"KILL {number}")


@BOTH
def test_uncommitted_is_dropped(mysql, driver):
    """What was not committed is gone when the connection closes."""
    with driver.connect(mysql) as conn:
        query(conn, "CREATE TABLE note (id INT)")
        query(conn, "INSERT INTO note VALUES (1)")
    with driver.connect(mysql) as conn:
        assert query(conn, "SELECT * FROM note") == []


@BOTH
def test_closes(mysql, driver):
    """The `with` closes the connection."""
    with driver.connect(mysql) as conn:
        pass
    with pytest.raises(ERRORS):
        query(conn, "SELECT 1")


def test_connector_falls_back_in_silence(mysql, monkeypatch):
    """Where its C extension does not load, mysql.connector.connect() says nothing."""
    monkeypatch.setattr(pooling, "CMySQLConnection", None)
    parts = urlsplit(mysql)
    options = {"host": parts.hostname, "port": parts.port, "user": parts.username}
    with connector.connect(**options, password=parts.password) as conn:
        assert type(conn) is MySQLConnection
    with pytest.raises(ImportError, match="C Extension not available"):
        connector.connect(**options, use_pure=False)


# --8<-- [start:wrong]
def connect_as_often_copied(url, **options):
    parts = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname,
        port=parts.port,
        user=parts.username,
        password=parts.password,
        database=parts.path[1:],
        charset="utf8",
        connect_timeout=1,
    )


# --8<-- [end:wrong]


def test_often_copied_is_refused(hostile_url):
    """Often copied: the escaped password is sent as it stands, and refused."""
    with pytest.raises(pymysql.OperationalError, match="Access denied"):
        connect_as_often_copied(hostile_url)


def test_often_copied_password_as_str(hostile_url):
    """Often copied: PyMySQL encodes a str password as latin-1, or fails to."""
    parts = urlsplit(hostile_url)
    with pytest.raises(UnicodeEncodeError, match="latin-1"):
        pymysql.connect(
            host=parts.hostname, port=parts.port, user="cook", password=PASSWORD
        )


def test_often_copied_reads_question_marks(mysql):
    """Often copied: charset="utf8" is the old three bytes; an emoji reads as `?`."""
    smile = "\N{SLIGHTLY SMILING FACE}"
    with connect.connect(mysql) as conn:
        query(conn, "CREATE TABLE note (text VARCHAR(9)) CHARACTER SET utf8mb4")
        query(conn, "INSERT INTO note VALUES (%s)", (smile,))
        conn.commit()
    with connect_as_often_copied(mysql) as conn:
        assert query(conn, "SELECT text FROM note") == [("?",)]
        with pytest.raises(pymysql.DataError, match="Incorrect string value"):
            query(conn, "INSERT INTO note VALUES (%s)", (smile,))


def test_often_copied_waits(mysql):
    """Often copied: a connect timeout of 1 s does not end a query of 1.2 s."""
    with connect_as_often_copied(mysql) as conn:
        started = time.monotonic()
        assert query(conn, "SELECT SLEEP(1.2)") == [(0,)]
    assert time.monotonic() - started > 1.1
