import sqlite3
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from recipes.sqlite.bulk_insert import SCHEMA, build, insert_rows, readings


@pytest.fixture(params=["", None], ids=["default", "autocommit"])
def conn(sqlite: str, request) -> Iterator[sqlite3.Connection]:
    """An empty table, in both modes of sqlite3 (sqlite is the path of the file)."""
    with closing(sqlite3.connect(sqlite, isolation_level=request.param)) as conn:
        conn.execute(SCHEMA)
        yield conn


def count(conn: sqlite3.Connection) -> int:
    return int(conn.execute("SELECT count(*) FROM reading").fetchone()[0])


def commits(path: str) -> int:
    """How many transactions have changed the file: it counts them in its header."""
    return int.from_bytes(Path(path).read_bytes()[24:28], "big")


def test_one_commit(conn, sqlite):
    """All rows go in with one commit: the file's own counter says so."""
    before = commits(sqlite)
    assert insert_rows(conn, readings(1, 5000)) == 5000
    assert commits(sqlite) == before + 1
    assert count(conn) == 5000


def test_no_rows(conn):
    """No rows are no error."""
    assert insert_rows(conn, []) == 0


def test_values_arrive(conn):
    """What was sent is read back, unchanged."""
    rows = [(1, 0, 0.1), (1, 1, -2.5e300), (2, 0, 5e-324)]
    insert_rows(conn, rows)
    assert conn.execute("SELECT * FROM reading").fetchall() == rows


def test_bad_row_leaves_nothing(conn):
    """A row that is refused at the end leaves none of the others."""
    rows = [*readings(1, 1000), (1, 0, 0.0)]
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        insert_rows(conn, rows)
    assert (count(conn), conn.in_transaction) == (0, False)


def test_source_that_fails_leaves_nothing(conn):
    """An iterator that fails half-way leaves nothing; its error is raised."""

    def source():
        yield from readings(1, 1000)
        raise ConnectionResetError("source")

    with pytest.raises(ConnectionResetError, match="source"):
        insert_rows(conn, source())
    assert (count(conn), conn.in_transaction) == (0, False)


def test_open_transaction_is_left_alone(conn):
    """Inside a transaction of the caller it refuses, and does not end it."""
    conn.execute("BEGIN")
    conn.execute("INSERT INTO reading VALUES (9, 9, 9)")
    with pytest.raises(sqlite3.OperationalError, match="within a transaction"):
        insert_rows(conn, readings(1, 10))
    assert conn.in_transaction
    assert count(conn) == 1


def test_constant_memory(conn):
    """Python's memory stays below 100 kB for 20 000 rows; a list takes 2 MB."""

    def peak(make) -> int:
        tracemalloc.start()
        try:
            insert_rows(conn, make())
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(lambda: readings(1, 20_000)) < 100_000
    assert peak(lambda: list(readings(2, 20_000))) > 2_000_000


def test_builds_a_file(sqlite):
    """A built file is sound, holds every row, and is an ordinary database."""
    assert build(sqlite, readings(1, 5000)) == 5000
    assert [file.name for file in Path(sqlite).parent.iterdir()] == [Path(sqlite).name]
    with closing(sqlite3.connect(sqlite)) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert conn.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert count(conn) == 5000


def test_failed_build_leaves_no_file(sqlite):
    """A build that fails leaves no file of that name; the next one starts anew."""
    Path(sqlite + ".part").write_bytes(b"left by a crash")
    with pytest.raises(sqlite3.IntegrityError):
        build(sqlite, [*readings(1, 1000), (1, 0, 0.0)])
    assert not Path(sqlite).exists()
    assert build(sqlite, readings(1, 10)) == 10


def test_build_keeps_what_is_there(sqlite):
    """A build never replaces a file."""
    Path(sqlite).write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        build(sqlite, readings(1, 10))
    assert Path(sqlite).read_bytes() == b"precious"


# --8<-- [start:wrong]
def insert_with_a_commit_each(conn, rows):
    for row in rows:
        conn.execute("INSERT INTO reading VALUES (?, ?, ?)", row)
        conn.commit()


def insert_with_executemany_alone(path, rows):
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.executemany("INSERT INTO reading VALUES (?, ?, ?)", rows)


# --8<-- [end:wrong]


def test_often_copied_commits_each_row(conn, sqlite):
    """Often copied: with a commit in the loop, 10 rows are 10 transactions."""
    before = commits(sqlite)
    insert_with_a_commit_each(conn, readings(1, 10))
    assert commits(sqlite) == before + 10


def test_often_copied_executemany_commits_each_row(conn, sqlite):
    """Often copied: in autocommit, `executemany` also commits every single row."""
    before = commits(sqlite)
    insert_with_executemany_alone(sqlite, readings(1, 10))
    assert commits(sqlite) == before + 10


def test_often_copied_leaves_half(conn, sqlite):
    """Often copied: a refused row then leaves those before it in the table."""
    with pytest.raises(sqlite3.IntegrityError):
        insert_with_executemany_alone(sqlite, [*readings(1, 10), (1, 0, 0.0)])
    assert count(conn) == 10
