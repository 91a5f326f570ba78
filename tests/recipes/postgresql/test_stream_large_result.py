import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from recipes.postgresql.stream_large_result import stream_rows

ROOT = Path(__file__).parents[3]
NUMBERS = "SELECT generate_series(1, %s) AS n"


@pytest.fixture
def conn(postgresql):
    with psycopg.connect(postgresql) as conn:
        yield conn


def open_cursors(conn):
    return conn.execute("SELECT count(*) FROM pg_cursors").fetchone()[0]


MEASURE = """
import importlib, sys
import psutil, psycopg
module, function, url, rows = sys.argv[1:]
read = getattr(importlib.import_module(module), function)
query = "SELECT generate_series(1, %s), repeat('x', 100)"
peak = count = 0
with psycopg.connect(url) as conn:
    for count, _ in enumerate(read(conn, query, (int(rows),)), 1):
        if count % 1000 == 0:
            peak = max(peak, psutil.Process().memory_info().rss)
assert count == int(rows)
print(peak)
"""


def peak_memory(read, url, rows):
    """Peak memory in bytes of a process that reads that many rows."""
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, read.__module__, read.__name__, url, str(rows)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


def test_memory_is_constant(postgresql):
    """300,000 rows take at most 1.2 times the memory of 3,000."""
    few, many = (peak_memory(stream_rows, postgresql, n) for n in (3_000, 300_000))
    assert many <= 1.2 * few


def test_rows_come_in_order_and_complete(conn):
    """Every row arrives once, in the order of the query, over many batches."""
    rows = stream_rows(conn, NUMBERS + " ORDER BY n DESC", (1_001,), batch=10)
    assert [n for (n,) in rows] == list(range(1_001, 0, -1))


@pytest.mark.parametrize("count", [0, 1, 10, 11])
def test_ends_of_batches(conn, count):
    """No row, one row, exactly one batch, one row more."""
    rows = stream_rows(conn, NUMBERS, (count,), batch=10)
    assert [n for (n,) in rows] == list(range(1, count + 1))


def test_result_does_not_change(conn, postgresql):
    """Rows that others commit meanwhile are not seen: the result is of one moment."""
    conn.execute("CREATE TABLE item AS SELECT n FROM generate_series(1, 5) n")
    conn.commit()
    seen = []
    with psycopg.connect(postgresql, autocommit=True) as other:
        for (n,) in stream_rows(conn, "SELECT n FROM item", batch=1):
            seen.append(n)
            other.execute("INSERT INTO item VALUES (99)")
    assert seen == [1, 2, 3, 4, 5]


def test_connection_can_work_meanwhile(conn):
    """Inside the loop the connection takes other statements, and a second stream."""
    pairs = [
        (a, b, conn.execute("SELECT %s + %s", (a, b)).fetchone()[0])
        for (a,) in stream_rows(conn, NUMBERS, (3,), batch=1)
        for (b,) in stream_rows(conn, NUMBERS, (2,), batch=1)
    ]
    assert pairs == [(a, b, a + b) for a in (1, 2, 3) for b in (1, 2)]


def test_leaving_early_closes_the_cursor(conn):
    """The cursor on the server is closed at the end, and when you leave early."""
    list(stream_rows(conn, NUMBERS, (10,)))
    with closing(stream_rows(conn, NUMBERS, (10**9,))) as rows:
        next(rows)
        assert open_cursors(conn) == 1
    assert open_cursors(conn) == 0


def test_lost_connection_is_an_error(conn, postgresql):
    """The connection is lost on the way: an error, never a short result."""
    rows = stream_rows(conn, NUMBERS, (100,), batch=10)
    assert next(rows) == (1,)
    kill(postgresql, conn)
    with pytest.raises(psycopg.OperationalError):
        list(rows)


def kill(url, conn):
    with psycopg.connect(url, autocommit=True) as other:
        # Waits (up to 5 s) until it is gone.
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (conn.info.backend_pid,))


def test_commit_ends_the_stream(conn):
    """A commit before the last row ends the cursor: the next batch is an error."""
    rows = stream_rows(conn, NUMBERS, (100,), batch=10)
    next(rows)
    conn.commit()
    with pytest.raises(errors.InvalidCursorName):
        list(rows)


def test_autocommit_is_refused(postgresql):
    """In autocommit mode it is an error; inside `conn.transaction()` it works."""
    with psycopg.connect(postgresql, autocommit=True) as conn:
        with pytest.raises(errors.NoActiveSqlTransaction):
            next(stream_rows(conn, NUMBERS, (1,)))
        with conn.transaction():
            assert list(stream_rows(conn, NUMBERS, (2,), batch=1)) == [(1,), (2,)]


# --8<-- [start:wrong]
def rows_as_often_copied(conn, query, params=None):
    with conn.cursor() as cur:
        cur.execute(query, params)
        while batch := cur.fetchmany(1000):
            yield from batch


# --8<-- [end:wrong]


def test_often_copied_holds_everything(postgresql):
    """Often copied: with fetchmany 300,000 rows take over 1.5 times as much memory."""
    few, many = (
        peak_memory(rows_as_often_copied, postgresql, n) for n in (3_000, 300_000)
    )
    assert many > 1.5 * few


def test_often_copied_has_it_all_before_the_first_row(conn, postgresql):
    """Often copied: all rows are here before the first: a dead server is not missed."""
    rows = rows_as_often_copied(conn, NUMBERS, (50_000,))
    next(rows)
    kill(postgresql, conn)
    assert len(list(rows)) == 49_999
    conn.close()
