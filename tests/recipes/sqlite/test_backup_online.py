import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from recipes.sqlite.backup_online import backup, check, restore


@pytest.fixture(params=["wal", "delete"])
def conn(sqlite: str, request) -> Iterator[sqlite3.Connection]:
    """400 items of 1 kB, in both journal modes (sqlite is the path of the file)."""
    with closing(sqlite3.connect(sqlite, timeout=0, isolation_level=None)) as conn:
        conn.execute(f"PRAGMA journal_mode = {request.param}")
        conn.execute("PRAGMA synchronous = OFF")
        conn.execute(
            "CREATE TABLE item (id INTEGER PRIMARY KEY AUTOINCREMENT, data BLOB)"
        )
        conn.execute("BEGIN")
        conn.executemany("INSERT INTO item (data) VALUES (zeroblob(?))", [[1000]] * 400)
        conn.execute("COMMIT")
        yield conn


@pytest.fixture
def copy(sqlite: str) -> Path:
    """Where the backup goes."""
    return Path(sqlite + ".backup")


def is_wal(conn: sqlite3.Connection) -> bool:
    return conn.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def count(conn: sqlite3.Connection) -> int:
    return int(conn.execute("SELECT count(*) FROM item").fetchone()[0])


def test_copy_is_whole(conn, sqlite, copy):
    """The copy holds every row, passes the integrity check, and is a single file."""
    assert backup(sqlite, copy) == {"item": 400}
    with closing(sqlite3.connect(copy)) as saved:
        assert saved.execute("SELECT * FROM item").fetchall() == (
            conn.execute("SELECT * FROM item").fetchall()
        )
        assert not is_wal(saved)
    assert not list(copy.parent.glob("*.backup-*"))
    assert not list(copy.parent.glob("*.part*"))


def test_progress(conn, sqlite, copy):
    """Progress rises to 1, in as many steps as asked for."""
    heard: list[float] = []
    backup(sqlite, copy, heard.append, steps=10)
    assert heard == sorted(heard)
    assert (len(heard), heard[-1]) == (10, 1.0)
    assert 0.05 < heard[0] < 0.15


def test_writes_during_a_backup(conn, sqlite, copy):
    """In WAL mode others write during a backup; the copy is of the moment it began."""
    errors, heard = [], []

    def write(done: float) -> None:
        heard.append(done)
        try:
            conn.execute("INSERT INTO item (data) VALUES (zeroblob(1000))")
        except sqlite3.OperationalError as error:
            errors.append(error.sqlite_errorname)

    assert backup(sqlite, copy, write, steps=10) == {"item": 400}
    assert heard == sorted(heard)  # it never began again
    if is_wal(conn):
        assert count(conn) == 400 + len(heard)
    else:  # writers wait until the backup has ended
        assert set(errors) == {"SQLITE_BUSY"}


def test_without_a_view_it_starts_again(conn, sqlite, copy):
    """Without a transaction around it, each write makes the backup start again."""
    heard = []

    def write(status: int, remaining: int, total: int) -> None:
        heard.append(remaining)
        if len(heard) in (3, 6):
            conn.execute("INSERT INTO item DEFAULT VALUES")

    with closing(sqlite3.connect(sqlite)) as src, closing(sqlite3.connect(copy)) as dst:
        src.backup(dst, pages=20, progress=write)
        assert count(dst) == 402
    assert heard[3] > heard[2]
    assert heard[6] > heard[5]


def test_uncommitted_work_is_left_out(conn, sqlite, copy):
    """What is not committed is not in the copy."""
    conn.execute("BEGIN IMMEDIATE")
    conn.execute("DELETE FROM item")
    assert backup(sqlite, copy) == {"item": 400}


def test_restore_brings_back(conn, sqlite, copy):
    """After a restore the rows are back, for connections that stayed open too."""
    before = conn.execute("SELECT * FROM item").fetchall()
    backup(sqlite, copy)
    mode = is_wal(conn)
    conn.execute("DROP TABLE item")
    assert restore(copy, sqlite) == {"item": 400}
    assert is_wal(conn) == mode
    assert conn.execute("SELECT * FROM item").fetchall() == before
    assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_restore_gives_up(conn, sqlite, copy):
    """A restore does not wait for ever for a writer; then nothing has changed."""
    backup(sqlite, copy)
    conn.execute("BEGIN IMMEDIATE")
    conn.execute("DELETE FROM item")
    with pytest.raises(sqlite3.OperationalError, match="database is locked"):
        restore(copy, sqlite, timeout=0)
    assert count(conn) == 0
    conn.execute("COMMIT")
    assert restore(copy, sqlite) == {"item": 400}


def test_restore_elsewhere(conn, sqlite, copy, tmp_path):
    """A backup can be restored to a new place, to try it out."""
    backup(sqlite, copy)
    assert restore(copy, tmp_path / "drill.db") == check(sqlite)


def test_failed_backup_keeps_the_last(conn, sqlite, copy):
    """A backup that fails leaves the last good one in its place."""
    backup(sqlite, copy)
    conn.execute("DELETE FROM item")

    def full(done: float) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        backup(sqlite, copy, full)
    assert check(copy) == {"item": 400}


def test_missing_source(sqlite, copy):
    """A mistyped source is an error, not an empty backup."""
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        backup(sqlite, copy)
    assert not copy.exists()


def damage(path: str | Path) -> None:
    data = bytearray(Path(path).read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 4096] = b"\xff" * 4096
    Path(path).write_bytes(data)


def test_damage_is_found(conn, sqlite, copy):
    """A damaged source gives no backup, and a damaged backup is not restored."""
    Path(str(copy) + ".part").write_bytes(b"left by a crash")
    backup(sqlite, copy)
    shutil.copy(copy, sqlite + ".damaged")
    damage(sqlite + ".damaged")
    with pytest.raises(sqlite3.DatabaseError):
        backup(sqlite + ".damaged", copy)
    assert check(copy) == {"item": 400}
    with pytest.raises(sqlite3.DatabaseError):
        restore(sqlite + ".damaged", sqlite)
    assert count(conn) == 400


def test_subtle_damage_is_found(conn, sqlite, copy):
    """A table that reads well, but has a wrong index, is damaged too."""
    conn.execute("CREATE INDEX by_size ON item (length(data))")
    conn.execute("PRAGMA writable_schema = ON")
    conn.execute("UPDATE sqlite_schema SET sql = replace(sql, 'length', 'typeof')")
    with pytest.raises(sqlite3.DatabaseError, match="by_size"):
        check(sqlite)


def test_odd_table_names(conn, sqlite, copy):
    """Any table name will do."""
    conn.execute('CREATE TABLE "a ""b"" ; --" (x)')
    assert backup(sqlite, copy) == {'a "b" ; --': 0, "item": 400}


# --8<-- [start:wrong]
def backup_as_often_copied(path, copy):
    shutil.copy2(path, copy)


# --8<-- [end:wrong]


def test_often_copied_loses_rows(conn, sqlite, copy):
    """Often copied: in WAL mode the copy of the file lacks what the log holds."""
    if not is_wal(conn):
        conn.execute("PRAGMA journal_mode = WAL")
        conn.execute("INSERT INTO item DEFAULT VALUES")
    conn.execute("INSERT INTO item DEFAULT VALUES")
    backup_as_often_copied(sqlite, copy)
    with closing(sqlite3.connect(copy)) as saved:
        tables = saved.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        assert not tables or count(saved) < count(conn)


def test_often_copied_mixes_two_moments(conn, sqlite, copy):
    """Often copied: a copy taken during a write holds parts of two moments."""
    conn.execute("PRAGMA journal_mode = DELETE")
    conn.execute("PRAGMA cache_size = 1")  # so that pages are written before the commit
    conn.execute("BEGIN")
    conn.execute("UPDATE item SET data = randomblob(1500)")
    backup_as_often_copied(sqlite, copy)
    conn.execute("ROLLBACK")
    with closing(sqlite3.connect(copy)) as saved:
        try:
            same = saved.execute("SELECT * FROM item").fetchall() == (
                conn.execute("SELECT * FROM item").fetchall()
            )
        except sqlite3.DatabaseError:
            same = False
    assert not same
