import gc
import sys
import tracemalloc
from contextlib import suppress

import mysql.connector as connector
import pymysql
import pytest

from recipes.mysql import stream_large_result, stream_large_result_connector
from recipes.mysql.stream_large_result import connect, stream

BOTH = pytest.mark.parametrize(
    "driver", [stream_large_result, stream_large_result_connector]
)
ERRORS = (pymysql.Error, connector.Error)
ROWS = "SELECT a.n + 100 * b.n AS n, REPEAT('x', 100) FROM n AS a, n AS b, n AS c"


@pytest.fixture
def url(mysql):
    """A table of the numbers below 100; ROWS makes a million rows of it."""
    with connect(mysql) as conn, conn.cursor() as cursor:
        cursor.execute("CREATE TABLE n (n INT PRIMARY KEY)")
        cursor.executemany("INSERT INTO n VALUES (%s)", [(n,) for n in range(100)])
        conn.commit()
    return mysql


def peak(read):
    """The most memory that Python held meanwhile, in bytes."""
    tracemalloc.start()
    try:
        read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def packets(monkeypatch):
    """A list that grows by one for each packet that PyMySQL reads."""
    seen = []
    read = pymysql.connections.Connection._read_packet

    def count(conn, *args):
        seen.append(1)
        return read(conn, *args)

    monkeypatch.setattr(pymysql.connections.Connection, "_read_packet", count)
    return seen


def running(url):
    """The queries of the others in this database."""
    with connect(url) as conn, conn.cursor() as cursor:
        cursor.execute(
            "SELECT info FROM information_schema.processlist WHERE db = DATABASE()"
            " AND info IS NOT NULL AND id <> CONNECTION_ID()"
        )
        return cursor.fetchall()


@BOTH
def test_all_rows(url, driver):
    """Every row comes, in order, with its types."""
    sql = "SELECT a.n, CAST(a.n AS CHAR) FROM n AS a, n AS b WHERE b.n < %s ORDER BY 1"
    with driver.stream(url, sql, [30]) as rows:
        assert list(rows) == [(n // 30, str(n // 30)) for n in range(3_000)]


@BOTH
def test_percent_sign(url, driver):
    """Without arguments a `%` in the query is a `%`."""
    with driver.stream(url, "SELECT 1 FROM n WHERE n LIKE '%9'") as rows:
        assert len(list(rows)) == 10


@BOTH
def test_constant_memory(url, driver):
    """Five times the rows take at most 1.2 times the memory."""

    def read(count):
        with driver.stream(url, f"{ROWS} LIMIT {count}") as rows:
            assert sum(1 for _ in rows) == count

    read(10)
    peaks = [peak(lambda count=count: read(count)) for count in (3_000, 15_000)]
    assert peaks[1] < 1.2 * peaks[0]


@BOTH
def test_first_row_comes_at_once(url, driver):
    """The first row is there while the server still runs the query."""
    with driver.stream(url, ROWS) as rows:
        assert len(next(rows)) == 2
        assert running(url) == ((ROWS,),)


@BOTH
def test_leaving_early(url, driver):
    """Leaving the block early ends the query; the error in the block arrives."""

    def leave():
        with driver.stream(url, ROWS) as rows:
            next(rows)
            raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        leave()
    for _ in range(200):
        if not running(url):
            return
    pytest.fail("the query runs on")


def test_leaving_early_reads_no_more(url, packets):
    """Leaving the block early does not read the rest of a million rows."""
    with stream(url, ROWS) as rows:
        next(rows)
    assert len(packets) < 300_000


@BOTH
def test_patience(url, driver):
    """The server waits ten minutes for a slow reader; one minute is the default."""
    with driver.stream(url, "SELECT @@net_write_timeout") as rows:
        assert list(rows) == [(600,)]


@BOTH
def test_bad_query(url, driver):
    """An error in the query reaches the caller."""
    with pytest.raises(ERRORS, match="nowhere"), driver.stream(url, "SELECT nowhere"):
        pass


@BOTH
def test_lost_between_rows(url, driver, fault_proxy, monkeypatch):
    """A line that breaks between two rows is an error, not an early end."""
    proxy = fault_proxy(url)

    def read():
        with driver.stream(proxy.url, ROWS) as rows:
            for number, _row in enumerate(rows):
                if number == 10:
                    proxy.reset_all()

    # PyMySQL's __del__ then fails, which Python reports and nothing more.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    with pytest.raises(ERRORS):
        read()
    gc.collect()


@BOTH
def test_busy(url, driver):
    """Other statements have a connection of their own while the rows are read."""
    with driver.stream(url, ROWS) as rows, driver.connect(url) as conn:
        next(rows)
        with conn.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM n")
            assert list(cursor.fetchall()) == [(100,)]


# --8<-- [start:wrong]
def read_as_often_copied(conn, sql):
    with conn.cursor() as cursor:
        cursor.execute(sql)
        while chunk := cursor.fetchmany(1_000):
            yield from chunk


# --8<-- [end:wrong]


def test_often_copied_holds_all_rows(url):
    """Often copied: fetchmany() of PyMySQL's default cursor; all rows are in memory."""
    with connect(url) as conn:

        def read(count):
            for _row in read_as_often_copied(conn, f"{ROWS} LIMIT {count}"):
                pass

        peaks = [peak(lambda count=count: read(count)) for count in (3_000, 15_000)]
    assert peaks[1] > 3 * peaks[0]


def test_often_copied_reads_to_the_end(url, packets):
    """Often copied: closing an SSCursor early reads all the rows that are left."""
    with connect(url) as conn, conn.cursor(pymysql.cursors.SSCursor) as cursor:
        cursor.execute(f"{ROWS} LIMIT 30000")
        cursor.fetchone()
    assert len(packets) > 30_000


def test_connector_unread_result(url):
    """The connector refuses another statement before the last row is read."""
    with stream_large_result_connector.connect(url) as conn:
        cursor = conn.cursor()
        cursor.execute(ROWS)
        cursor.fetchone()
        with pytest.raises(connector.InternalError, match="Unread result found"):
            conn.cursor()
    with suppress(connector.Error):
        cursor.close()
