import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from recipes.sqlite.write_ahead_log import add, checkpoint, connect, use_wal

QUERY = "SELECT value FROM counter"


def make(path: str) -> None:
    with closing(connect(path)) as conn:
        conn.execute("CREATE TABLE counter (value INTEGER NOT NULL)")
        conn.execute("INSERT INTO counter VALUES (1)")


@pytest.fixture
def path(sqlite: str) -> str:
    """A file with a counter of 1, in WAL mode (sqlite is its path)."""
    use_wal(sqlite)
    make(sqlite)
    return sqlite


@pytest.fixture
def opened(path: str) -> Iterator[Callable[..., sqlite3.Connection]]:
    """Open connections that are closed after the test."""
    conns = []

    def opened(timeout: float = 0) -> sqlite3.Connection:
        conns.append(connect(path, timeout))
        return conns[-1]

    yield opened
    for conn in conns:
        conn.close()


def value(conn: sqlite3.Connection) -> int:
    return int(conn.execute(QUERY).fetchone()[0])


def test_stays(path):
    """The mode is kept in the file: a plain connection later on has it too."""
    with closing(sqlite3.connect(path)) as conn:
        assert conn.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_synchronous_is_of_the_connection(path):
    """`synchronous = NORMAL` must be set in each connection; the default is FULL."""
    with closing(sqlite3.connect(path)) as plain, closing(connect(path)) as conn:
        answers = [c.execute("PRAGMA synchronous").fetchone()[0] for c in (plain, conn)]
    assert answers == [2, 1]


def test_switch_needs_the_file_alone(sqlite):
    """The switch fails while another connection is in a transaction."""
    make(sqlite)
    with closing(connect(sqlite)) as reader:
        reader.execute("BEGIN")
        assert value(reader) == 1
        with pytest.raises(sqlite3.OperationalError, match="is locked"):
            use_wal(sqlite, timeout=0)


def test_memory_has_no_log():
    """Where there can be no log, `use_wal` raises."""
    with pytest.raises(sqlite3.OperationalError, match="still memory"):
        use_wal(":memory:")


def test_read_during_a_write(opened):
    """A read during a write returns at once, and sees what was committed before."""
    writer, reader = opened(), opened()
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE counter SET value = 2")
    assert value(reader) == 1
    writer.execute("COMMIT")
    assert value(reader) == 2


def test_write_during_a_read(opened):
    """A write during a read commits at once; the reader keeps its view."""
    writer, reader = opened(), opened()
    reader.execute("BEGIN")
    assert value(reader) == 1
    assert add(writer, 1) == 2
    assert value(reader) == 1
    reader.execute("COMMIT")
    assert value(reader) == 2


def test_one_writer_at_a_time(opened):
    """There is still one writer: the second waits for its timeout, then gives up."""
    first, second = opened(), opened(timeout=0.05)
    first.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    with pytest.raises(sqlite3.OperationalError, match="database is locked") as caught:
        add(second, 1)
    assert caught.value.sqlite_errorname == "SQLITE_BUSY"
    assert time.monotonic() - started >= 0.05


def test_writers_that_wait_lose_nothing(path):
    """Writers that wait for each other all succeed."""

    def work(_: int) -> None:
        with closing(connect(path, timeout=30)) as conn:
            for _ in range(25):
                add(conn, 1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    with closing(connect(path)) as conn:
        assert value(conn) == 101


def test_checkpoint_empties_the_log(opened, path):
    """A checkpoint brings the log into the database file and empties it."""
    conn, log = opened(), Path(path + "-wal")
    add(conn, 1)
    assert log.stat().st_size > 0
    assert checkpoint(conn) == (True, 0, 0)
    assert log.stat().st_size == 0


def test_reader_holds_the_checkpoint_up(opened, path):
    """A reader that does not end keeps the log from being emptied, so it grows."""
    writer, reader, log = opened(), opened(), Path(path + "-wal")
    checkpoint(writer)
    reader.execute("BEGIN")
    assert value(reader) == 1
    sizes = []
    for _ in range(3):
        add(writer, 1)
        assert not checkpoint(writer).complete
        sizes.append(log.stat().st_size)
    assert 0 < sizes[0] < sizes[1] < sizes[2]
    reader.execute("COMMIT")
    assert checkpoint(writer).complete


def test_unread_cursor_is_a_reader(opened):
    """A cursor that was not read to its end is such a reader; closing it ends it."""
    writer, reader = opened(), opened()
    writer.execute("INSERT INTO counter VALUES (10)")
    cursor = reader.execute(QUERY)
    assert cursor.fetchone() == (1,)
    writer.execute("UPDATE counter SET value = 5")
    assert not checkpoint(writer).complete
    cursor.close()
    assert checkpoint(writer).complete


def test_last_close_removes_the_log(path):
    """The last connection to close removes `-wal` and `-shm`."""
    with closing(connect(path)) as conn:
        add(conn, 1)
        assert len(list(Path(path).parent.iterdir())) == 3
    assert [file.name for file in Path(path).parent.iterdir()] == [Path(path).name]


def test_without_wal(sqlite):
    """Without WAL a reader stops the writer's commit: `database is locked`."""
    make(sqlite)
    with closing(connect(sqlite, 0)) as reader, closing(connect(sqlite, 0)) as writer:
        reader.execute("BEGIN")
        assert value(reader) == 1
        with pytest.raises(sqlite3.OperationalError, match="database is locked"):
            add(writer, 1)


# --8<-- [start:wrong]
def add_as_often_copied(path, amount):
    conn = sqlite3.connect(path, timeout=30, isolation_level=None)
    conn.execute("PRAGMA journal_mode = WAL")  # cures "database is locked"
    with closing(conn), conn:
        conn.execute("BEGIN")
        (value,) = conn.execute("SELECT value FROM counter").fetchone()
        conn.execute("UPDATE counter SET value = ?", (value + amount,))


# --8<-- [end:wrong]


def test_often_copied_fails_at_once(opened, path, monkeypatch):
    """Often copied: read first, then write: locked at once, timeout or not."""
    other, plain = opened(), sqlite3.connect

    class Meddled(sqlite3.Connection):
        def execute(self, sql, *args):
            if sql.startswith("UPDATE"):
                add(other, 1)  # another writer between our read and our write
            return super().execute(sql, *args)

    monkeypatch.setattr(
        sqlite3, "connect", lambda *a, **k: plain(*a, **k, factory=Meddled)
    )
    started = time.monotonic()
    with pytest.raises(sqlite3.OperationalError, match="database is locked") as caught:
        add_as_often_copied(path, 1)
    assert time.monotonic() - started < 10  # the timeout was 30 s
    assert caught.value.sqlite_errorname == "SQLITE_BUSY_SNAPSHOT"


def test_often_copied_alone(path):
    """Often copied: with no other writer it works, so no test finds it."""
    add_as_often_copied(path, 1)
    with closing(connect(path)) as conn:
        assert value(conn) == 2
