import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from urllib.parse import urlsplit

import pymysql
import pytest
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import (
    DeleteRowsEvent,
    UpdateRowsEvent,
    WriteRowsEvent,
)

from cookbook.paths import ROOT
from cookbook.servers import Servers
from recipes.cdc.read_binlog import log
from recipes.cdc.read_binlog.__main__ import follow
from recipes.cdc.read_binlog.log import connect, end_of_log, read, settings
from recipes.cdc.read_binlog.rows import Change, NotInRowsError
from tests.recipes.services.serving import wait_for

# mysql-replication calls datetime.utcfromtimestamp().
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcfromtimestamp")
STOCK = "CREATE TABLE stock (item VARCHAR(20) PRIMARY KEY, n INT, note TEXT)"


def run(url: str, *statements: str) -> list[tuple]:
    """Run them, in one session that commits by itself; return the last one's rows."""
    with connect(url, autocommit=True) as conn, conn.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())


@pytest.fixture
def server_id() -> int:
    return int.from_bytes(os.urandom(4)) | 1 << 31


@pytest.fixture
def stock(mysql) -> str:
    """The address of an empty table."""
    run(mysql, STOCK)
    return mysql


@pytest.fixture
def changes(mysql, server_id):
    """Run statements; return the changes of a table that they made."""

    def changes(*statements: str, table: str = "stock") -> list[Change]:
        after = end_of_log(mysql)
        run(mysql, *statements)
        found = read(mysql, table, after, server_id, wait=0.05)
        return [change for _, some in found for change in some]

    return changes


@pytest.fixture(scope="module")
def own_server() -> Iterator[str]:
    """A server of this module's own, for what would disturb the other tests."""
    servers = Servers()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MYSQL_URL", raising=False)
        servers.start(["mysql"])
    try:
        if reason := servers.missing.get("mysql"):
            pytest.fail(reason)
        yield servers.running["mysql"].url
    finally:
        servers.stop()


@pytest.fixture
def own(mysql, own_server) -> Iterator[str]:
    """The address of an empty table on it."""
    url = own_server.removesuffix("/mysql") + "/shop"
    run(own_server, "CREATE DATABASE shop CHARACTER SET utf8mb4")
    run(url, STOCK)
    yield url
    run(own_server, "DROP DATABASE shop")


def test_every_kind_of_change(stock, changes):
    """Insert, update and delete come in their order, with the old row and the new."""
    done = changes(
        "INSERT INTO stock VALUES ('apple', 3, 'red'), ('pear', NULL, '')",
        "UPDATE stock SET n = 4, item = 'plum' WHERE item = 'apple'",
        "DELETE FROM stock WHERE item = 'pear'",
    )
    apple = {"item": "apple", "n": 3, "note": "red"}
    pear = {"item": "pear", "n": None, "note": ""}
    assert done == [
        Change({}, apple),
        Change({}, pear),
        Change(apple, apple | {"item": "plum", "n": 4}),
        Change(pear, {}),
    ]


def test_values_are_exact(mysql, changes):
    """Amounts, dates, bytes, every alphabet: as they were written, and a TIMESTAMP is
    aware."""
    rows = {
        "amount DECIMAL(20, 5)": Decimal("-123456789012345.67890"),
        "big BIGINT UNSIGNED": 2**64 - 1,
        "day DATE": date(2024, 2, 29),
        "moment DATETIME(6)": datetime(2026, 1, 2, 3, 4, 5, 678901),
        "stamp TIMESTAMP(6) NULL": datetime(2026, 6, 2, 3, 4, 5, 1, tzinfo=UTC),
        "lasted TIME(3)": timedelta(hours=838, milliseconds=7),
        "before_it TIME": timedelta(hours=-1, minutes=-2, seconds=-3),
        "text VARCHAR(300)": "é中\N{RED APPLE}" * 100,
        "latin VARCHAR(9) CHARACTER SET latin1": "é€",
        "choice ENUM('a', 'é')": "é",
        "choices SET('x', 'y')": {"x", "y"},
        "none_of SET('x', 'y')": set(),
        "fixed BINARY(4)": b"\xff\0\0\0",
        "no_bytes VARBINARY(4)": b"",
        "bytes BLOB": b"\0\xff\xfe",
        "empty TEXT": "",
        "missing DECIMAL(5, 2)": None,
        "fifth BIT(10)": "0000000101",
    }
    columns = ", ".join(
        f"{column} {'' if 'NULL' in column else 'NULL'}" for column in rows
    )
    create = f"CREATE TABLE exact ({columns}) CHARACTER SET utf8mb4"
    places = ", ".join(["%s"] * len(rows))
    with connect(mysql, autocommit=True) as conn, conn.cursor() as cursor:
        cursor.execute(create)
        after = changes and end_of_log(mysql)
        cursor.execute("SET time_zone = '+00:00'")
        given = [",".join(v) if isinstance(v, set) else v for v in rows.values()]
        given[-1] = 5
        cursor.execute(f"INSERT INTO exact VALUES ({places})", given)
    ((_, (change,)),) = (
        one for one in read(mysql, "exact", after, 4_000_000_000, 0.05) if one[1]
    )
    assert list(change.new.values()) == list(rows.values())
    assert change.new["stamp"].tzinfo is UTC


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("DATE", "0000-00-00"),
        ("TIMESTAMP NULL", "0000-00-00 00:00:00"),
        ("TIME(2)", "-00:00:01.25"),
        ("TEXT CHARACTER SET utf16", "a"),
    ],
)
def test_value_that_cannot_be_had(stock, changes, column, value):
    """What Python or the library has no exact value for is an error with the column's
    name: a zero date, a fraction of a negative TIME, UTF-16."""
    run(stock, f"CREATE TABLE odd (plain INT, strange {column})")
    with pytest.raises(NotInRowsError, match="strange"):
        changes(
            "SET sql_mode = ''", f"INSERT INTO odd VALUES (1, '{value}')", table="odd"
        )


@pytest.mark.parametrize(
    "setting", ["binlog_format=STATEMENT", "binlog_row_image=MINIMAL"]
)
def test_session_that_logs_otherwise(stock, changes, setting):
    """A session that logs statements, or parts of rows, is an error and not a gap."""
    run(stock, "INSERT INTO stock VALUES ('apple', 3, 'red')")
    with pytest.raises(NotInRowsError):
        changes(f"SET SESSION {setting}", "UPDATE stock SET n = 4")


@pytest.mark.parametrize(
    ("name", "value", "good"),
    [
        ("binlog_format", "MIXED", "ROW"),
        ("binlog_row_image", "MINIMAL", "FULL"),
        ("binlog_row_metadata", "MINIMAL", "FULL"),
    ],
)
def test_settings_are_checked_first(own, server_id, name, value, good):
    """Before it starts it checks how the server logs, and names what is wrong."""
    after = end_of_log(own)
    run(own, f"SET GLOBAL {name} = {value}")
    try:
        with pytest.raises(NotInRowsError, match=f"{name} is not {good}"):
            next(read(own, "stock", after, server_id))
    finally:
        run(own, f"SET GLOBAL {name} = {good}")


def test_log_without_names(own, server_id):
    """Rows that were logged without the names of the columns are an error."""
    after = end_of_log(own)
    run(own, "SET GLOBAL binlog_row_metadata = MINIMAL")
    run(own, "INSERT INTO stock (item) VALUES ('apple')")
    run(own, "SET GLOBAL binlog_row_metadata = FULL")
    with pytest.raises(NotInRowsError, match="stock, None"):
        list(read(own, "stock", after, server_id, wait=0.05))


def test_compressed_log(own, server_id):
    """Events that the library would pass over are an error: compressed ones, say."""
    ((version,),) = run(own, "SELECT VERSION()")
    is_mariadb = "MariaDB" in version
    name = "log_bin_compress" if is_mariadb else "binlog_transaction_compression"
    after = end_of_log(own)
    run(own, f"SET GLOBAL {name} = ON")
    run(own, "INSERT INTO stock VALUES ('apple', 3, REPEAT('red', 1000))")
    run(own, f"SET GLOBAL {name} = OFF")
    with pytest.raises(NotInRowsError):
        list(read(own, "stock", after, server_id, wait=0.05))


@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE stock",
        "TRUNCATE TABLE `STOCK`",
        "DROP TABLE stock",
        "ALTER TABLE stock MODIFY n TINYINT",
    ],
)
def test_statement_about_the_table(stock, changes, statement):
    """A statement about the table, which changes rows and logs none, is an error."""
    with pytest.raises(NotInRowsError, match=statement.split()[0]):
        changes("SET lock_wait_timeout = 30", statement.replace("STOCK", "stock"))


def test_database_that_is_dropped(own, server_id):
    """DROP DATABASE is one of them."""
    after = end_of_log(own)
    run(own, f"DROP DATABASE {urlsplit(own).path[1:]}")
    run(own.removesuffix("/shop") + "/mysql", "CREATE DATABASE shop")
    with pytest.raises(NotInRowsError, match="DROP DATABASE"):
        list(read(own, "stock", after, server_id, wait=0.05))


def test_statements_about_others(stock, changes):
    """Statements about other tables are passed over, as are other tables' rows."""
    done = changes(
        "CREATE TABLE stock2 (id INT)",
        "INSERT INTO stock2 VALUES (1)",
        "TRUNCATE stock2",
        "INSERT INTO stock (item) VALUES ('apple')",
    )
    assert [change.new["item"] for change in done] == ["apple"]


def test_same_name_in_another_database(own, server_id):
    """A table of that name in another database is another table."""
    after = end_of_log(own)
    other = own.removesuffix("/shop") + "/other"
    run(own, "CREATE DATABASE other")
    run(other, STOCK, "INSERT INTO stock (item) VALUES ('pear')", "TRUNCATE stock")
    run(own, "INSERT INTO stock (item) VALUES ('apple')", "DROP DATABASE other")
    found = [c for _, some in read(own, "stock", after, server_id, 0.05) for c in some]
    assert [change.new["item"] for change in found] == ["apple"]


def test_prepared_transaction(stock, changes):
    """What XA PREPARE has written may yet be rolled back: an error."""
    xid = f"'{urlsplit(stock).path[1:]}'"
    with pytest.raises(NotInRowsError, match="XA PREPARE"):
        changes(
            f"XA START {xid}",
            "INSERT INTO stock (item) VALUES ('apple')",
            f"XA END {xid}",
            f"XA PREPARE {xid}",
            f"XA ROLLBACK {xid}",
        )


def test_order_of_the_commits(stock, server_id):
    """Whole transactions in the order of their commits; what is rolled back never."""
    after = end_of_log(stock)
    with connect(stock) as slow, connect(stock) as fast, connect(stock) as undone:
        for conn, item in ((slow, "slow"), (undone, "undone"), (fast, "fast")):
            for number in range(2):
                conn.query(f"INSERT INTO stock (item) VALUES ('{item} {number}')")
        undone.rollback()
        fast.commit()
        slow.query("SAVEPOINT here")
        slow.query("INSERT INTO stock (item) VALUES ('back again')")
        slow.query("ROLLBACK TO here")
        slow.commit()
    found = [some for _, some in read(stock, "stock", after, server_id, 0.05) if some]
    assert [[change.new["item"] for change in some] for some in found] == [
        ["fast 0", "fast 1"],
        ["slow 0", "slow 1"],
    ]


def test_engine_without_transactions(stock, changes):
    """Rows of a table without transactions are read as well."""
    run(stock, "CREATE TABLE hits (n INT) ENGINE = MyISAM")
    done = changes("INSERT INTO hits VALUES (1)", table="hits")
    assert done == [Change({}, {"n": 1})]


def test_next_file(own, server_id):
    """The log goes on in the next file, and so does the reader."""
    after = end_of_log(own)
    run(own, "INSERT INTO stock (item) VALUES ('apple')", "FLUSH LOGS")
    run(own, "INSERT INTO stock (item) VALUES ('pear')")
    *_, (end, (change,)) = read(own, "stock", after, server_id, wait=0.05)
    assert change.new["item"] == "pear"
    assert end[0] == end_of_log(own)[0] > after[0]
    again = read(own, "stock", end, server_id, wait=0.05)
    assert [change for _, some in again for change in some] == []


def test_purged_log(own, server_id):
    """A log that the server has purged is an error, and not a silent gap."""
    after = end_of_log(own)
    run(own, "INSERT INTO stock (item) VALUES ('apple')", "FLUSH LOGS")
    purge = f"PURGE BINARY LOGS TO '{end_of_log(own)[0]}'"
    wait_for(lambda: after[0] != first_file(own, purge))
    with pytest.raises(pymysql.OperationalError, match="Could not find first log") as e:
        list(read(own, "stock", after, server_id, wait=0.05))
    assert e.value.args[0] == 1236


def first_file(url: str, *statements: str) -> str:
    """After the statements. The server keeps a file while it sends it to a reader,
    and notices that one has left when it sends something."""
    note_it = "INSERT INTO stock (item) VALUES (UUID_SHORT())"
    return run(url, note_it, *statements, "SHOW BINARY LOGS")[0][0]


def test_server_id_is_taken(own, server_id):
    """Of two readers with the same server_id the first gets an error."""
    after = end_of_log(own)
    run(own, "INSERT INTO stock (item) VALUES ('apple')")
    with closing(read(own, "stock", after, server_id, wait=60)) as first:
        assert next(first)[1]
        with closing(read(own, "stock", after, server_id, wait=60)) as second:
            assert next(second)[1]
            with pytest.raises(pymysql.OperationalError, match="same server"):
                next(first)


def test_lost_line(stock, fault_proxy, server_id):
    """A line that is lost is an error: it does not reconnect behind your back."""
    proxy = fault_proxy(stock)
    after = end_of_log(stock)
    run(stock, "INSERT INTO stock (item) VALUES ('apple')")
    with closing(read(proxy.url, "stock", after, server_id, wait=60)) as found:
        next(found)
        proxy.reset_all()
        with pytest.raises(pymysql.OperationalError, match="Lost connection"):
            list(found)


def test_silent_server(stock, fault_proxy, server_id, monkeypatch):
    """Without even a heartbeat it gives up, after twice the wait and ten seconds."""
    streams = []

    class Stream(BinLogStreamReader):
        def __init__(self, *args, **options) -> None:
            super().__init__(*args, **options)
            streams.append(self)

    monkeypatch.setattr(log, "BinLogStreamReader", Stream)
    proxy = fault_proxy(stock)
    after = end_of_log(stock)
    run(stock, "INSERT INTO stock (item) VALUES ('apple')")
    with closing(read(proxy.url, "stock", after, server_id, wait=60)) as found:
        next(found)
        connection = streams[0]._stream_connection
        assert connection._read_timeout == 130
        proxy.black_hole()
        connection._read_timeout = 0.1
        with pytest.raises(pymysql.OperationalError, match="timed out"):
            list(found)


def test_ends_while_others_write(stock, server_id):
    """It ends after its time, though others go on writing."""
    run(stock, "CREATE TABLE busy (id INT AUTO_INCREMENT PRIMARY KEY)")
    after = end_of_log(stock)
    stop, begun = threading.Event(), threading.Event()

    def write() -> None:
        with connect(stock, autocommit=True) as conn:
            while not stop.is_set():
                conn.query("INSERT INTO busy VALUES ()")
                begun.set()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        begun.wait()
        run(stock, "INSERT INTO stock (item) VALUES ('apple')")
        found = [some for _, some in read(stock, "stock", after, server_id, 0.5)]
    finally:
        stop.set()
        thread.join()
    assert sum(map(len, found)) == 1


def test_rights(own, server_id):
    """REPLICATION SLAVE and REPLICATION CLIENT are enough: it may not even select."""
    host = urlsplit(own)
    reader = host._replace(
        netloc=f"reader:s%3Acret@{host.hostname}:{host.port}"
    ).geturl()
    run(own, "CREATE USER reader@'%' IDENTIFIED BY 's:cret'")
    try:
        with pytest.raises(pymysql.OperationalError, match="denied"):
            end_of_log(reader)
        run(own, "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO reader@'%'")
        after = end_of_log(reader)
        run(own, "INSERT INTO stock (item) VALUES ('apple')")
        found = read(reader, "stock", after, server_id, wait=0.05)
        assert [c.new["item"] for _, some in found for c in some] == ["apple"]
        with pytest.raises(pymysql.OperationalError, match="denied"):
            connect(reader)
    finally:
        run(own, "DROP USER reader@'%'")


def test_password_is_kept(stock, server_id, caplog):
    """The password is neither in an error nor in the log of the program."""
    caplog.set_level("DEBUG")
    parts = urlsplit(stock)
    wrong = parts._replace(netloc=f"cook:hush-hush@{parts.hostname}:{parts.port}")
    with pytest.raises(pymysql.OperationalError) as error:
        list(read(wrong.geturl(), "stock", ("binlog.000001", 4), server_id))
    assert "hush-hush" not in repr(error.value) + caplog.text
    list(read(stock, "stock", end_of_log(stock), server_id, wait=0.05))
    assert parts.password not in caplog.text


def seen(store: sqlite3.Connection) -> list[str]:
    return [item for (item,) in store.execute("SELECT item FROM seen")]


def note(store: sqlite3.Connection, change: Change) -> None:
    store.execute("CREATE TABLE IF NOT EXISTS seen (item TEXT)")
    store.execute("INSERT INTO seen VALUES (?)", (change.new["item"],))


def test_apply_that_fails(stock, server_id):
    """When apply fails, its error reaches the caller; the whole transaction is undone,
    and comes again."""
    with closing(sqlite3.connect(":memory:")) as store:
        follow(stock, "stock", server_id, store, note)
        run(stock, "INSERT INTO stock (item) VALUES ('apple'), ('pear')")

        def refuse_pears(store: sqlite3.Connection, change: Change) -> None:
            note(store, change)
            if change.new["item"] == "pear":
                raise KeyError("pear")

        with pytest.raises(KeyError):
            follow(stock, "stock", server_id, store, refuse_pears, wait=0.05)
        for _ in range(2):
            follow(stock, "stock", server_id, store, note, wait=0.05)
        assert seen(store) == ["apple", "pear"]


DIES = """
import os, signal, sqlite3, sys
from recipes.cdc.read_binlog.__main__ import follow

url, server_id, file = sys.argv[1:]
left = 3

def apply(store, change):
    global left
    store.execute("INSERT INTO seen VALUES (?)", (change.new["item"],))
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

follow(url, "stock", int(server_id), sqlite3.connect(file), apply, wait=0.05)
"""


def test_killed_again_and_again(stock, server_id, tmp_path):
    """Killed in the middle of a transaction, again and again: every change is applied
    once."""
    file = tmp_path / "store"
    with closing(sqlite3.connect(file)) as store:
        follow(stock, "stock", server_id, store, note)
        store.execute("CREATE TABLE seen (item TEXT)")
        for n in range(3):
            run(stock, f"INSERT INTO stock (item) VALUES ('{n} a'), ('{n} b')")
        command = [sys.executable, "-c", DIES, stock, str(server_id), file]
        codes = [subprocess.run(command, cwd=ROOT).returncode for _ in range(3)]
        assert codes == [-signal.SIGKILL, -signal.SIGKILL, 0]
        assert seen(store) == ["0 a", "0 b", "1 a", "1 b", "2 a", "2 b"]


# --8<-- [start:wrong]
def changes_as_copied(mysql_settings):
    stream = BinLogStreamReader(
        connection_settings=mysql_settings,
        server_id=100,
        only_events=[DeleteRowsEvent, WriteRowsEvent, UpdateRowsEvent],
    )
    for event in stream:
        for row in event.rows:
            yield row["values"]
    stream.close()


# --8<-- [end:wrong]


def test_often_copied(own):
    """Often copied: each start reads the current file of the log again, and what is in
    the file before it is never seen."""
    run(own, "FLUSH LOGS", "INSERT INTO stock (item) VALUES ('apple')")
    for _ in range(2):
        items = [row["item"] for row in changes_as_copied(settings(own))]
        assert items == ["apple"]
    run(own, "INSERT INTO stock (item) VALUES ('pear')", "FLUSH LOGS")
    assert list(changes_as_copied(settings(own))) == []


def test_often_copied_repeats(own):
    """Often copied: log_pos without resume_stream reads the whole file again."""
    file, offset = end_of_log(own)
    with closing(
        BinLogStreamReader(
            settings(own), 100, log_file=file, log_pos=offset, only_tables=["stock"]
        )
    ) as stream:
        assert stream.fetchone().packet.log_pos < offset


def test_often_copied_misreads(own):
    """Often copied: as the library has it, -1.25 seconds are -1.75 seconds."""
    run(own, "CREATE TABLE race (lead TIME(2))")
    file, offset = end_of_log(own)
    run(own, "INSERT INTO race VALUES ('-00:00:01.25')")
    with closing(
        BinLogStreamReader(
            settings(own),
            100,
            resume_stream=True,
            log_file=file,
            log_pos=offset,
            only_events=[WriteRowsEvent],
        )
    ) as stream:
        (row,) = next(iter(stream)).rows
    assert row["values"] == {"lead": timedelta(seconds=-1.75)}
