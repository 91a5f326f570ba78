import sqlite3
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import chain, islice

import pytest

from recipes.sqlite import stream_large_result as recipe
from recipes.sqlite.stream_large_result import SCHEMA, stream_batches, stream_rows


@pytest.fixture(params=["wal", "delete"])
def conn(sqlite: str, request) -> Iterator[sqlite3.Connection]:
    """2500 rows, ids from below 0, in both journal modes (sqlite is the file)."""
    with closing(sqlite3.connect(sqlite, timeout=0)) as conn:
        conn.execute(f"PRAGMA journal_mode = {request.param}")
        conn.execute("PRAGMA synchronous = OFF")
        conn.execute(SCHEMA)
        fill(conn, -1000, 1500)
        yield conn


def fill(conn: sqlite3.Connection, start: int, stop: int) -> None:
    with conn:
        conn.executemany(
            "INSERT INTO reading VALUES (?, 'sensor', ?)",
            ((n, n / 2) for n in range(start, stop)),
        )


def is_wal(conn: sqlite3.Connection) -> bool:
    return conn.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def peak(work: Callable[[], object]) -> int:
    """The most memory that Python held meanwhile, in bytes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_all_rows_in_order(conn, sqlite):
    """Both give every row once, in the order of id, whatever the size of a batch."""
    fill(conn, -(2**63), -(2**63) + 1)  # the lowest id there can be
    expected = conn.execute("SELECT * FROM reading ORDER BY id").fetchall()
    assert list(stream_rows(sqlite)) == expected
    for size in (1, 7, 2501, 2502):
        assert list(chain(*stream_batches(sqlite, size))) == expected


def test_empty(conn, sqlite):
    """An empty table gives no row, and no batch."""
    with conn:
        conn.execute("DELETE FROM reading")
    assert (list(stream_rows(sqlite)), list(stream_batches(sqlite))) == ([], [])


def test_constant_memory(conn, sqlite):
    """20 000 rows pass through less than 100 kB; in batches of 100 as well."""
    fill(conn, 10_000, 30_000)
    assert peak(lambda: sum(1 for _ in stream_rows(sqlite))) < 100_000
    assert peak(lambda: sum(1 for _ in stream_batches(sqlite, 100))) < 100_000


def test_first_row_comes_at_once(conn, sqlite, monkeypatch):
    """The order comes from the primary key: nothing is sorted before the first row."""
    statements = []

    def traced(path: str) -> sqlite3.Connection:
        opened = sqlite3.connect(path)
        opened.set_trace_callback(statements.append)
        return opened

    monkeypatch.setattr(recipe, "_open", traced)
    for stream in (stream_rows, stream_batches):
        with closing(stream(sqlite)) as rows:
            next(rows)
    assert len(statements) == 2
    plans = []
    for sql in statements:
        explained = "EXPLAIN QUERY PLAN " + sql.replace("-Inf", "0")
        plans.append([step[3] for step in conn.execute(explained)])
    search = "SEARCH reading USING INTEGER PRIMARY KEY (rowid>?)"
    assert plans == [["SCAN reading"], [search]]


def test_stream_is_of_one_moment(conn, sqlite):
    """What others commit during the stream is not in it; without WAL they must wait."""
    with closing(stream_rows(sqlite)) as rows:
        next(rows)
        if is_wal(conn):
            fill(conn, 2000, 2010)
        else:
            with pytest.raises(sqlite3.OperationalError, match="is locked"):
                fill(conn, 2000, 2010)
        assert sum(1 for _ in rows) == 2499


def test_closing_lets_go(conn, sqlite):
    """A stream that is closed early lets go of the file."""
    with closing(stream_rows(sqlite)) as rows:
        assert len(list(islice(rows, 10))) == 10
    fill(conn, 2000, 2010)
    assert conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


def test_batches_let_writers_in(conn, sqlite):
    """Between two batches others write, and the log can be emptied, in either mode."""
    with closing(stream_batches(sqlite, 1000)) as batches:
        next(batches)
        fill(conn, 2000, 2010)
        assert conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        assert [len(batch) for batch in batches] == [1000, 510]


def test_batches_survive_deletes(conn, sqlite):
    """Rows deleted meanwhile make no batch skip others, as an OFFSET would."""
    with closing(stream_batches(sqlite, 1000)) as batches:
        first = next(batches)
        with conn:
            conn.execute("DELETE FROM reading WHERE id < 0")
        rest = list(chain(*batches))
    assert [row[0] for row in first + rest] == list(range(-1000, 1500))


def test_errors_reach_the_caller(sqlite, conn):
    """A missing file, a missing table and a size of 0 are errors, not empty results."""
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        next(stream_rows(sqlite + "typo"))
    with pytest.raises(ValueError, match="size is 0"):
        next(stream_batches(sqlite, 0))
    conn.execute("DROP TABLE reading")
    conn.commit()
    for stream in (stream_rows, stream_batches):
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            next(stream(sqlite))


# --8<-- [start:wrong]
def total_as_often_copied(conn):
    rows = conn.execute("SELECT id, sensor, value FROM reading").fetchall()
    return sum(row[2] for row in rows)


def pages_as_often_copied(conn, size):
    offset = 0
    while rows := conn.execute(
        "SELECT id FROM reading ORDER BY id LIMIT ? OFFSET ?", (size, offset)
    ).fetchall():
        yield rows
        offset += size


# --8<-- [end:wrong]


def test_often_copied_holds_everything(conn):
    """Often copied: `fetchall` holds the whole result: over 2 MB for 20 000 rows."""
    fill(conn, 10_000, 30_000)
    assert peak(lambda: total_as_often_copied(conn)) > 2_000_000


def test_often_copied_skips_rows(conn):
    """Often copied: with OFFSET, rows deleted meanwhile make it skip as many others."""
    pages = pages_as_often_copied(conn, 1000)
    seen = [row[0] for row in next(pages)]
    with conn:
        conn.execute("DELETE FROM reading WHERE id < 0")
    seen += [row[0] for page in pages for row in page]
    assert set(range(-1000, 1500)) - set(seen) == set(range(1000))
