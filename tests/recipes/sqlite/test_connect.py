import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest

from recipes.sqlite.connect import SCHEMA, add_author, connect, titles


@pytest.fixture
def path(sqlite: str) -> str:
    """A file with the tables of the recipe (sqlite is the path of a missing file)."""
    with connect(sqlite, "rwc") as conn:
        conn.executescript(SCHEMA)
    return sqlite


def is_closed(conn: sqlite3.Connection) -> bool:
    try:
        conn.execute("SELECT 1")
    except sqlite3.ProgrammingError as error:
        return "closed" in str(error)
    return False


def test_closes(path):
    """The connection is closed at the end of the block."""
    with connect(path) as conn:
        assert not is_closed(conn)
    assert is_closed(conn)


def test_closes_after_an_error(path):
    """An error in the block reaches the caller, and the connection is closed."""
    with pytest.raises(sqlite3.OperationalError, match="no such table"):  # noqa: SIM117
        with connect(path) as conn:
            conn.execute("SELECT * FROM missing")
    assert is_closed(conn)


def test_rows_by_name(path):
    """A row gives its columns by name and by position, and becomes a dict."""
    with connect(path) as conn:
        row = conn.execute("SELECT 7 AS id, 'Ann' AS name").fetchone()
    assert (row["name"], row[1], dict(row)) == ("Ann", "Ann", {"id": 7, "name": "Ann"})


def test_reads_and_writes(path):
    """What one call added, the next call reads."""
    with connect(path) as conn, conn:
        conn.execute("INSERT INTO book VALUES ('Emma', ?)", (add_author(path, "Jane"),))
    assert titles(path) == ["Emma by Jane"]


def test_uncommitted_work_is_dropped(path):
    """Without the second `conn` in the `with`, nothing is committed."""
    with connect(path) as conn:
        conn.execute("INSERT INTO author (name) VALUES ('Ann')")
    with connect(path) as conn:
        assert conn.execute("SELECT * FROM author").fetchall() == []


def test_error_rolls_back(path):
    """An error between two statements leaves neither of them."""
    with suppress(ZeroDivisionError), connect(path) as conn, conn:
        conn.execute("INSERT INTO author (name) VALUES ('Ann')")
        raise ZeroDivisionError
    with connect(path) as conn:
        assert conn.execute("SELECT * FROM author").fetchall() == []


def test_foreign_keys(path):
    """A row that points nowhere is refused."""
    with (
        connect(path) as conn,
        pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY constraint failed"),
    ):
        conn.execute("INSERT INTO book VALUES ('No author', 99)")


def test_pragma_in_a_transaction(path):
    """Inside a transaction `PRAGMA foreign_keys` does nothing."""
    with connect(path) as conn:
        conn.execute("BEGIN")
        conn.execute("PRAGMA foreign_keys = OFF")
        assert conn.execute("PRAGMA foreign_keys").fetchone()[0] == 1


def test_one_thread(path):
    """A connection used in another thread raises ProgrammingError."""
    with connect(path) as conn, ThreadPoolExecutor() as pool:
        used = pool.submit(conn.execute, "SELECT 1")
        with pytest.raises(sqlite3.ProgrammingError, match="same thread"):
            used.result()


def test_missing_file(sqlite):
    """A mistyped path is an error, and no file is created."""
    with (
        pytest.raises(sqlite3.OperationalError, match="unable to open database file"),
        connect(sqlite),
    ):
        pass
    assert not Path(sqlite).exists()


def test_missing_directory(sqlite):
    """A missing directory is an error even when the file may be created."""
    inside = Path(sqlite, "missing", "app.db")
    with (
        pytest.raises(sqlite3.OperationalError, match="unable to open database file"),
        connect(inside, "rwc"),
    ):
        pass


def test_read_only(path):
    """A connection opened with `ro` cannot write."""
    with (
        connect(path, "ro") as conn,
        pytest.raises(sqlite3.OperationalError, match="readonly database"),
    ):
        conn.execute("INSERT INTO author (name) VALUES ('Ann')")


@pytest.mark.parametrize("name", ["a b.db", "50%25.db", "what?.db", "no#1.db", "ü.db"])
def test_odd_paths(tmp_path, name):
    """Spaces, `?`, `#` and `%` in a path are part of the path."""
    with connect(tmp_path / name, "rwc") as conn:
        conn.executescript(SCHEMA)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_waits_for_a_lock(path):
    """A write waits until another connection has finished its own."""
    waiting, written = threading.Event(), []

    def write() -> None:
        with connect(path) as conn, conn:
            conn.set_trace_callback(lambda sql: waiting.set())
            conn.execute("BEGIN IMMEDIATE")
            written.append("second")

    with connect(path) as conn:
        conn.execute("BEGIN IMMEDIATE")
        thread = threading.Thread(target=write)
        thread.start()
        assert waiting.wait(10)  # it has started the statement that has to wait
        written.append("first")
        conn.rollback()
    thread.join()
    assert written == ["first", "second"]


def test_wait_ends(path):
    """After the timeout the error is `database is locked`, code SQLITE_BUSY."""
    with connect(path) as one, connect(path, timeout=0.05) as other:
        assert other.execute("PRAGMA busy_timeout").fetchone()[0] == 50  # ms
        one.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="is locked") as caught:
            other.execute("BEGIN IMMEDIATE")
    assert caught.value.sqlite_errorname == "SQLITE_BUSY"


# --8<-- [start:wrong]
def add_as_often_copied(path, author, title):
    with sqlite3.connect(path) as conn:  # closes when the block ends
        conn.execute("CREATE TABLE IF NOT EXISTS author (id INTEGER PRIMARY KEY)")
        conn.execute(
            "CREATE TABLE IF NOT EXISTS book (title, author_id REFERENCES author)"
        )
        conn.execute("INSERT INTO book VALUES (?, ?)", (title, author))
    return conn


# --8<-- [end:wrong]


def test_often_copied_stays_open(sqlite):
    """Often copied: `with sqlite3.connect()` commits, and does not close."""
    with closing(add_as_often_copied(sqlite, 1, "Emma")) as conn:
        assert not is_closed(conn)


def test_often_copied_keeps_orphans(sqlite):
    """Often copied: the foreign key is declared, and a book without author is kept."""
    with closing(add_as_often_copied(sqlite, 99, "Emma")) as conn:
        assert conn.execute("SELECT * FROM author").fetchall() == []
        assert conn.execute("SELECT * FROM book").fetchall() == [("Emma", 99)]


def test_often_copied_hides_a_wrong_path(sqlite):
    """Often copied: a mistyped path quietly becomes a new database."""
    with closing(add_as_often_copied(sqlite + "typo", 1, "Emma")):
        assert Path(sqlite + "typo").exists()
