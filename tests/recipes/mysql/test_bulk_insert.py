from datetime import datetime
from decimal import Decimal

import mysql.connector as connector
import pymysql
import pytest

from recipes.mysql import bulk_insert, bulk_insert_connector
from recipes.mysql.bulk_insert import SCHEMA, connect, sample

BOTH = pytest.mark.parametrize("driver", [bulk_insert, bulk_insert_connector])
ERRORS = (pymysql.Error, connector.Error)
AT = datetime(2026, 1, 1, 12, 0, 0, 123456)


@pytest.fixture
def url(mysql):
    with connect(mysql) as conn, conn.cursor() as cursor:
        cursor.execute(SCHEMA)
    return mysql


def query(conn, sql):
    with conn.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def stored(url):
    with connect(url) as conn:
        return query(conn, "SELECT * FROM reading ORDER BY id")


def statements(conn):
    """How many statements the server has run for this connection."""
    ((_name, count),) = query(conn, "SHOW SESSION STATUS LIKE 'Questions'")
    return int(count)


@BOTH
def test_rows_arrive(url, driver):
    """Text, decimals and microseconds arrive unchanged, and are committed."""
    text = 'it\'s \\ "%s" \0\n\N{SLIGHTLY SMILING FACE}'
    rows = [(1, text, Decimal("9999999999.99"), AT), (2, "", Decimal("-0.01"), AT)]
    with driver.connect(url) as conn:
        assert driver.insert_rows(conn, iter(rows)) == 2
    assert stored(url) == rows


@BOTH
def test_few_statements(url, driver):
    """2,000 rows are one statement, not 2,000."""
    with driver.connect(url) as conn:
        before = statements(conn)
        assert driver.insert_rows(conn, sample(2_000)) == 2_000
        assert statements(conn) - before < 10
    assert stored(url) == list(sample(2_000))


@BOTH
def test_on_duplicate_key_update(url, driver):
    """With ON DUPLICATE KEY UPDATE many rows still go in one statement."""
    upsert = bulk_insert.INSERT + " ON DUPLICATE KEY UPDATE value = VALUES(value)"
    with driver.connect(url) as conn:
        before = statements(conn)
        for _ in range(2):
            with conn.cursor() as cursor:
                cursor.executemany(upsert, list(sample(500)))
        conn.commit()
        assert statements(conn) - before < 10
    assert stored(url) == list(sample(500))


@BOTH
def test_all_or_nothing(url, driver):
    """A duplicate in the last chunk: the error reaches the caller, no row is stored."""
    rows = [*sample(10_500), (3, "again", Decimal(1), AT)]
    with driver.connect(url) as conn:
        with pytest.raises(ERRORS, match="Duplicate entry '3'"):
            driver.insert_rows(conn, rows)
        conn.commit()
    assert stored(url) == []


@BOTH
def test_error_while_the_rows_are_made(url, driver):
    """An error in the iterator reaches the caller, no row is stored."""

    def rows():
        yield from sample(10_500)
        raise KeyError("ours")

    with driver.connect(url) as conn:
        with pytest.raises(KeyError, match="ours"):
            driver.insert_rows(conn, rows())
        conn.commit()
    assert stored(url) == []


@BOTH
def test_no_rows(url, driver):
    """No rows at all is 0 rows."""
    with driver.connect(url) as conn:
        assert driver.insert_rows(conn, iter([])) == 0


@BOTH
def test_too_long_is_an_error(url, driver):
    """A text that is too long is an error, it is not cut."""
    with driver.connect(url) as conn, pytest.raises(ERRORS, match="too long"):
        driver.insert_rows(conn, [(1, "x" * 101, Decimal(1), AT)])


def wide_rows(conn):
    """Rows that are more than max_allowed_packet together, of a tenth of it each."""
    ((limit,),) = query(conn, "SELECT @@max_allowed_packet")
    text = "x" * (limit // 10)
    return [(n, text, Decimal(1), AT) for n in range(11)]


@pytest.fixture
def wide(url):
    with connect(url) as conn:
        query(conn, "ALTER TABLE reading MODIFY name LONGTEXT NOT NULL")
    return url


@BOTH
def test_more_than_a_packet(wide, driver):
    """Rows that are too many for one statement go in several."""
    with driver.connect(wide) as conn:
        assert driver.insert_rows(conn, wide_rows(conn)) == 11
    with connect(wide) as conn:
        assert query(conn, "SELECT COUNT(*), MIN(LENGTH(name)) > 1e6 FROM reading") == [
            (11, 1)
        ]


@pytest.mark.parametrize(
    "text", ["'", "\\", "\0", "é", "\N{SLIGHTLY SMILING FACE}", "x"]
)
def test_statement_stays_small(url, text):
    """No chunk of the connector's makes a statement above the size asked for."""
    rows = [(n, text * 90, Decimal(n), AT) for n in range(200)]
    chunks = list(bulk_insert_connector.chunks(rows, 10_000))
    assert [row for chunk in chunks for row in chunk] == rows
    assert len(chunks) > 2
    with bulk_insert_connector.connect(url) as conn, conn.cursor() as cursor:
        for chunk in chunks:
            cursor.executemany(bulk_insert_connector.INSERT, chunk)
            assert len(cursor._executed) < 10_000


@BOTH
def test_a_chunk_at_a_time(url, driver, monkeypatch):
    """Rows are taken from the iterator as they are sent, never all at once."""
    made, waiting = 0, []

    def rows():
        nonlocal made
        for row in sample(50_000):
            made += 1
            yield row

    def executemany(cursor, sql, chunk):
        waiting.append(made)
        return len(chunk)

    with driver.connect(url) as conn:
        monkeypatch.setattr(type(conn.cursor()), "executemany", executemany)
        driver.insert_rows(conn, rows())
    steps = [b - a for a, b in zip([0, *waiting], waiting, strict=False)]
    assert len(steps) >= 4
    assert max(steps) < 13_000


# --8<-- [start:wrong]
def insert_as_often_copied(conn, rows):  # PyMySQL
    with conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO reading (id, name, value, at) VALUES (%s, %s, %s, NOW(6))",
            rows,
        )


def insert_prepared_as_often_copied(conn, rows):  # mysql-connector-python
    with conn.cursor(prepared=True) as cursor:
        cursor.executemany(
            "INSERT INTO reading (id, name, value, at) VALUES (%s, %s, %s, %s)", rows
        )


# --8<-- [end:wrong]


def test_often_copied_is_a_statement_a_row(url):
    """Often copied: one function in VALUES, and PyMySQL sends row by row."""
    with connect(url) as conn:
        before = statements(conn)
        insert_as_often_copied(conn, [row[:3] for row in sample(500)])
        assert statements(conn) - before > 500


def test_often_copied_prepared_is_a_statement_a_row(url):
    """Often copied: the connector's prepared cursor sends row by row."""
    with bulk_insert_connector.connect(url) as conn:
        before = statements(conn)
        insert_prepared_as_often_copied(conn, list(sample(500)))
        assert statements(conn) - before > 500


def test_often_copied_is_not_committed(url):
    """Often copied: without a commit the rows are gone when the connection closes."""
    with connect(url) as conn:
        insert_as_often_copied(conn, [row[:3] for row in sample(3)])
        assert len(query(conn, "SELECT * FROM reading")) == 3
    assert stored(url) == []


def test_often_copied_is_too_large(wide):
    """Often copied: all rows in one executemany; with the connector it is too large."""
    with bulk_insert_connector.connect(wide) as conn:
        rows = wide_rows(conn)
        cursor = conn.cursor()
        with pytest.raises(ERRORS) as caught:
            cursor.executemany(bulk_insert_connector.INSERT, rows)
        conn.shutdown()
    assert caught.value.errno in {1153, 2006, 2013, 2055}
    assert stored(wide) == []
