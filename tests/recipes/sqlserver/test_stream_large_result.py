import tracemalloc
from itertools import count, islice

import mssql_python
import pytest

from recipes.sqlserver.stream_large_result import NUMBERS, stream
from tests.recipes.support.tds_listener import error, head, row

TEXT = "x" * 100
START = head(["n", "text"], (0, TEXT))


def endless():
    """Rows without an end, some at a time."""
    yield START
    for number in count(1):
        yield row((number, TEXT), (False, True)) * 20


def rows_of(total):
    """That many rows, some at a time."""
    yield START
    for first in range(1, total, 20):
        numbers = range(first, min(first + 20, total))
        yield b"".join(row((n, TEXT), (False, True)) for n in numbers)


def peak(read):
    """The most memory that Python held meanwhile, in bytes."""
    tracemalloc.start()
    try:
        read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_all_rows(listener):
    """Every row comes, in order, also where the last batch is not full."""
    server = listener(lambda text: rows_of(2_500))
    with stream(server.dsn, "SELECT", batch=1_000) as rows:
        assert [row[0] for row in rows] == list(range(2_500))


def test_constant_memory(listener):
    """Five times the rows take at most 1.2 times the memory."""
    server = listener(lambda text: rows_of(int(text.split()[1])))

    def read(total):
        with stream(server.dsn, f"SELECT {total}", batch=500) as rows:
            assert sum(1 for _ in rows) == total

    read(3_000)
    peaks = [peak(lambda n=n: read(n)) for n in (3_000, 15_000)]
    assert peaks[1] < 1.2 * peaks[0]


def test_first_row_comes_at_once(listener):
    """The first rows are there while the server still makes others."""
    server = listener(lambda text: endless())
    with stream(server.dsn, "SELECT", batch=10) as rows:
        assert [row[1] for row in islice(rows, 10)] == [TEXT] * 10


def test_leaving_early(listener):
    """Leaving the block early tells the server to stop; the error in it arrives."""
    server = listener(lambda text: endless())

    def leave():
        with stream(server.dsn, "SELECT", batch=10) as rows:
            next(rows)
            raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        leave()
    assert server.attentions == 1


def test_error_between_rows(listener):
    """An error after the first rows arrives as an error, not as an early end."""
    rows = b"".join(row((n, TEXT), (False, True)) for n in range(1, 50))
    server = listener(lambda text: START + rows + error(605, "the page is broken"))

    def read():
        with stream(server.dsn, "SELECT", batch=10) as rows:
            return list(rows)

    with pytest.raises(mssql_python.Error, match="the page is broken"):
        read()


def cut(total):
    """So many rows, and the line breaks before the next one."""
    yield from rows_of(total)
    raise OSError


@pytest.mark.parametrize("total", [1, 10, 105, 1_000])
def test_lost_between_rows(listener, total):
    """A line that breaks between two rows is an error, not an early end."""
    server = listener(lambda text: cut(total))
    seen = []

    def read():
        with stream(server.dsn, "SELECT", batch=10) as rows:
            seen.extend(rows)

    with pytest.raises(mssql_python.OperationalError):
        read()
    assert len(seen) <= total


def test_no_transaction_is_left_open(listener):
    """It opens no transaction, which would keep the server from cleaning up."""
    server = listener(lambda text: rows_of(3))
    with stream(server.dsn, "SELECT") as rows:
        list(rows)
    assert server.requests == ["SELECT"]


def test_a_million_rows(sqlserver):
    """The first of a million rows comes without the others."""
    with stream(sqlserver, NUMBERS, 1_000_000, batch=10) as rows:
        assert [row[0] for row in islice(rows, 3)] == [1, 2, 3]


def test_bad_query(sqlserver):
    """An error in the query reaches the caller."""
    with pytest.raises(mssql_python.Error, match="nowhere"):
        stream(sqlserver, "SELECT nowhere").__enter__()


# --8<-- [start:wrong]
def read_as_often_copied(conn, sql):
    cursor = conn.cursor()
    cursor.execute(sql)
    yield from cursor.fetchall()


# --8<-- [end:wrong]


def test_often_copied_holds_all_rows(listener, connections):
    """Often copied: fetchall(); five times the rows take three times the memory."""
    server = listener(lambda text: rows_of(int(text.split()[1])))
    conn = connections(server.dsn)

    def read(total):
        for _row in read_as_often_copied(conn, f"SELECT {total}"):
            pass

    peaks = [peak(lambda n=n: read(n)) for n in (3_000, 15_000)]
    assert peaks[1] > 3 * peaks[0]


def test_often_copied_takes_a_part_for_the_whole(listener, connections):
    """Often copied: the line breaks after 105 rows; they pass for the whole result."""
    conn = connections(listener(lambda text: cut(105)).dsn, autocommit=True)
    assert len(list(read_as_often_copied(conn, "SELECT"))) == 105


def test_often_copied_second_query_on_the_connection(listener, connections):
    """Often copied: another query on the connection that still reads is an error."""
    conn = connections(listener(lambda text: endless()).dsn)
    reading = conn.execute("SELECT")
    reading.fetchmany(10)
    with pytest.raises(mssql_python.Error, match="busy with results"):
        conn.execute("SELECT")
    reading.close()
