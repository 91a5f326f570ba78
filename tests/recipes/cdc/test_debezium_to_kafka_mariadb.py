import json
import logging
import os
import shutil
import signal
import subprocess
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from threading import Event
from urllib.parse import quote, urlsplit

import pytest
from confluent_kafka import KafkaError, KafkaException

from cookbook.paths import ROOT
from recipes.cdc.debezium_to_kafka_mariadb.__main__ import connect
from recipes.cdc.debezium_to_kafka_mariadb.apply import COPY, apply, parse
from recipes.cdc.debezium_to_kafka_mariadb.engine import Batch, start, stream
from recipes.cdc.debezium_to_kafka_mariadb.kafka import make_producer, send
from recipes.cdc.debezium_to_kafka_mariadb.settings import for_mariadb
from tests.recipes.support.debezium import (
    TO_BE_ENDED,
    TO_BE_KILLED,
    Sending,
    Source,
    events,
    kinds,
)

TABLE = """
CREATE TABLE item (
    id bigint PRIMARY KEY, price decimal(20, 2), changed timestamp(6) NULL
)
"""


class Table(Source):
    """A table in a database of its own, with an offset, a history and a topic."""

    stream = staticmethod(stream)
    code = """
from recipes.cdc.debezium_to_kafka_mariadb.engine import start, stream
from recipes.cdc.debezium_to_kafka_mariadb.kafka import make_producer, send
from recipes.cdc.debezium_to_kafka_mariadb.settings import for_mariadb

jars, url, servers, name, state, server_id = sys.stdin.read().split()
start(Path(jars))
settings = for_mariadb(url, name, "item", Path(state), int(server_id))
"""

    def __init__(self, url: str, topics, folder: Path, jars: str) -> None:
        self.url, self.topics, self.state, self.jars = url, topics, folder, jars
        self.offset = folder / "offset"
        self.name = urlsplit(url).path[1:]
        self.topic = f"{topics.name}.{self.name}.item"
        self.server_id = int.from_bytes(os.urandom(4)) | 1 << 31
        self.conn = connect(url)
        self.run(TABLE)

    def recipe_settings(self, table: str) -> dict[str, str]:
        return for_mariadb(
            self.url, self.topics.name, table, self.state, self.server_id
        )

    def run(self, *statements: str) -> list[tuple]:
        with self.conn.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def process(self, code: str) -> AbstractContextManager[subprocess.Popen]:
        where = (self.jars, self.url, self.topics.servers, self.topics.name)
        return super().process(code, *where, self.state, self.server_id)


@pytest.fixture
def source(mariadb, topics, debezium_mariadb, tmp_path):
    start(Path(debezium_mariadb))
    made = Table(mariadb, topics, tmp_path, debezium_mariadb)
    yield made
    made.conn.close()


@pytest.fixture
def producer(topics):
    with make_producer({"bootstrap.servers": topics.servers}) as producer:
        yield producer


def test_snapshot_then_changes(source, producer, topics):
    """Rows that were there come first (`r`), then each change in the order of the
    commits: `c`, `u`, `d`, and after a delete a tombstone. `before` is the whole old
    row; `source` has the transaction's GTID, the log's file, the position, the row."""
    topics.create(source.topic)
    source.run("INSERT INTO item VALUES (1, 10.10, '2026-01-31 11:00')")
    seen = Sending(send, producer)
    with source.streaming(seen) as until:
        until(lambda: seen)
        source.run(
            "INSERT INTO item VALUES (2, NULL, NULL), (3, NULL, NULL)",
            "UPDATE item SET price = 9.90 WHERE id = 1",
            "DELETE FROM item WHERE id = 1",
        )
        until(lambda: len(seen) >= 6)
    messages = topics.read(source.topic)
    keys = [json.loads(message.key()) for message in messages]
    assert keys == [{"id": n} for n in (1, 2, 3, 1, 1, 1)]
    assert messages[-1].value() is None
    found = [json.loads(message.value()) for message in messages[:-1]]

    def prices(row):
        return row and (row["id"], row["price"])

    old, new = (1, "10.10"), (1, "9.90")
    assert [(it["op"], prices(it["before"]), prices(it["after"])) for it in found] == [
        ("r", None, old),
        *(("c", None, (2, None)), ("c", None, (3, None))),
        *(("u", old, new), ("d", new, None)),
    ]
    assert found[0]["source"]["gtid"] is None
    first, second, update, delete = (it["source"] for it in found[1:])
    assert first["gtid"] == second["gtid"]
    assert (first["pos"], first["row"], second["row"]) == (second["pos"], 0, 1)
    assert len({it["gtid"] for it in (first, update, delete)}) == 3
    places = [parse(message.value())["place"] for message in messages[:-1]]
    assert places == sorted(set(places))
    assert all(len(place) == 42 for place in places)


def test_restart_from_the_offset(source):
    """After a stop it goes on where it was: changes made meanwhile come, and the table
    is not read again."""
    source.run("INSERT INTO item VALUES (1, 1, NULL)")
    assert kinds(source.collect(1)) == ["r"]
    source.run("INSERT INTO item VALUES (2, 2, NULL)")
    (event,) = events(source.collect(1))
    assert (event["op"], event["after"]["id"]) == ("c", 2)


def test_killed_between_kafka_and_offset(source, producer, topics):
    """Killed after Kafka had a batch and before its offset was stored: the batch comes
    again, nothing is missing, and what came twice has the same key, file, position and
    row. A consumer that compares them applies each change once."""
    topics.create(source.topic)
    source.run("INSERT INTO item VALUES (1, 1, NULL)", COPY)
    with source.process(TO_BE_KILLED) as running:
        assert running.stdout.readline() == "snapshot\n"
        source.run(
            "INSERT INTO item SELECT seq, seq, NULL FROM seq_2_to_9",
            "UPDATE item SET price = price + 1",
        )
        assert running.stdout.readline() == "delivered\n"
    seen = Sending(send, producer)
    with source.streaming(seen) as until:
        until(lambda: kinds(seen).count("u") == 9)
    messages = topics.read(source.topic)
    changes = [(it.key(), parse(it.value())["place"]) for it in messages]
    assert len(changes) > len(set(changes)) == 1 + 8 + 9
    applied = [apply(source.conn, message) for message in messages]
    assert applied.count(True) == len(set(changes))
    copied = source.run("SELECT id, price FROM item_copy ORDER BY id")
    assert copied == source.run("SELECT id, price FROM item ORDER BY id")


def test_sigterm(source):
    """SIGTERM is Python's: a handler that sets `stopping` ends the stream in good
    order, with exit code 0."""
    source.run("INSERT INTO item VALUES (1, 1, NULL)")
    with source.process(TO_BE_ENDED) as running:
        assert running.stdout.readline() == "1\n"
        os.kill(running.pid, signal.SIGTERM)
        assert running.stdout.read() == "ended\n"
        assert running.wait(60) == 0


def test_schema_change(source):
    """A column that is added while it runs is in the events of the changes after it;
    a column that is dropped is no longer there. No restart is needed."""
    source.run("INSERT INTO item VALUES (1, 1, NULL)")
    found = source.collect(
        3,
        "ALTER TABLE item ADD COLUMN note text DEFAULT 'none yet'",
        "UPDATE item SET note = 'new' WHERE id = 1",
        "ALTER TABLE item DROP COLUMN price",
        "UPDATE item SET note = 'newer' WHERE id = 1",
    )
    before, after = (event["after"] for event in events(found)[1:])
    assert before == {"id": 1, "price": "1.00", "changed": None, "note": "new"}
    assert after == {"id": 1, "changed": None, "note": "newer"}


def test_changed_while_it_was_stopped(source):
    """Changes from before an ALTER TABLE are read with the columns of their time, also
    when both happened while it was stopped: that is what the history is for."""
    source.run("INSERT INTO item VALUES (1, 1, NULL)")
    source.collect(1)
    source.run(
        "INSERT INTO item VALUES (2, 2, NULL)",
        "ALTER TABLE item ADD COLUMN note text FIRST",
        "INSERT INTO item VALUES ('new', 3, 3, NULL)",
    )
    old, new = source.collect(2)
    assert json.loads(old[2])["after"] == {"id": 2, "price": "2.00", "changed": None}
    assert json.loads(new[2])["after"]["note"] == "new"


def test_changed_key_and_truncate(source):
    """A changed primary key is a delete, a tombstone and a `c`. Of TRUNCATE nothing
    comes."""
    source.run("INSERT INTO item VALUES (1, 1, NULL)")
    found = source.collect(
        5,
        "UPDATE item SET id = 2 WHERE id = 1",
        "TRUNCATE item",
        "INSERT INTO item VALUES (3, 3, NULL)",
    )
    assert [json.loads(key)["id"] for _, key, _ in found] == [1, 1, 1, 2, 3]
    assert kinds(found) == ["r", "d", "tombstone", "c", "c"]


def test_history_is_lost(source):
    """Without the file of the history, and with an offset, it does not start:
    RuntimeError. Without both, the table is read again."""
    source.run("INSERT INTO item VALUES (1, 1, NULL)")
    source.collect(1)
    (source.state / "history").unlink()
    with pytest.raises(RuntimeError, match="history"):
        stream(source.settings(), lambda batch: None, Event())
    shutil.rmtree(source.state)
    source.state.mkdir()
    assert kinds(source.collect(1)) == ["r"]


def test_rights(source):
    """A user needs SELECT on the table, and RELOAD, REPLICATION SLAVE and BINLOG
    MONITOR."""
    source.run("INSERT INTO item VALUES (1, 1, NULL)")
    user, parts = f"u{source.server_id}", urlsplit(source.url)
    source.run(
        f"CREATE USER {user}@'%' IDENTIFIED BY 'reads only'",
        f"GRANT SELECT ON {source.name}.item TO {user}@'%'",
        f"GRANT RELOAD, REPLICATION SLAVE, BINLOG MONITOR ON *.* TO {user}@'%'",
    )
    try:
        source.url = (
            f"mysql://{user}:reads%20only@{parts.hostname}:{parts.port}{parts.path}"
        )
        change = "UPDATE item SET price = 2 WHERE id = 1"
        assert kinds(source.collect(2, change)) == ["r", "u"]
    finally:
        source.run(f"DROP USER {user}@'%'")


def test_refused_by_kafka(source, producer, topics):
    """A change that Kafka refuses raises KafkaException from `stream`, and its offset
    is not stored: after a restart it comes again."""
    topics.create(source.topic, **{"max.message.bytes": "2000"})
    source.run("ALTER TABLE item ADD COLUMN note text")
    source.run("INSERT INTO item VALUES (1, 1, NULL, 'short')")
    seen = Sending(send, producer)

    def run():
        with source.streaming(seen) as until:
            until(lambda: seen)
            source.run("INSERT INTO item VALUES (2, 2, NULL, repeat('x', 3000))")
            until(lambda: len(seen) > 1)

    with pytest.raises(KafkaException) as caught:
        run()
    assert caught.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
    assert len(topics.read(source.topic)) == 1
    (event,) = events(source.collect(1))
    assert event["after"]["id"] == 2


def test_no_primary_key(source, producer):
    """A table without a primary key has no key in Kafka, hence no order: ValueError,
    before anything is sent."""
    source.run("CREATE TABLE keyless (n int)", "INSERT INTO keyless VALUES (1)")
    with (
        pytest.raises(ValueError, match="without a primary key"),
        source.streaming(lambda batch: send(producer, batch), table="keyless") as until,
    ):
        until(lambda: False)


def test_heartbeats(source):
    """While only other tables are written to, heartbeats move the offset; they are not
    sent to Kafka, and nothing of those tables is in the files."""
    source.run("INSERT INTO item VALUES (1, 1, NULL)", "CREATE TABLE other (n int)")
    found: Batch = []

    def offset():
        return (source.state / "offset").read_bytes()

    with source.streaming(found.extend, heartbeat_interval_ms="100") as until:
        until(lambda: found and (source.state / "offset").exists())
        before = offset()

        def has_advanced():
            source.run("INSERT INTO other VALUES (1)")  # others go on writing
            return offset() != before

        until(has_advanced)
        source.run("INSERT INTO item VALUES (2, 2, NULL)")
        until(lambda: len(found) > 1)
    assert kinds(found) == ["r", "c"]
    assert found[1][0] == source.topic
    assert "other" not in (source.state / "history").read_text()


def test_money_and_time(source, topics, producer):
    """Money becomes a Decimal with every digit. A TIMESTAMP is UTC, to the microsecond,
    and becomes an aware datetime, from the snapshot and from the log. A DATETIME has
    no time zone, and ends with `Z` all the same."""
    topics.create(source.topic)
    source.run("ALTER TABLE item ADD COLUMN plain datetime(6)", COPY)
    row = "123456789012345678.91, '2026-07-01 10:00:00.000001', '2026-07-01 10:00:00.5'"
    source.run("SET time_zone = '+02:00'", f"INSERT INTO item VALUES (1, {row})")
    send(producer, source.collect(2, f"INSERT INTO item VALUES (2, {row})"))
    messages = topics.read(source.topic)
    source.run("SET time_zone = '+00:00'")
    for message in messages:
        change = parse(message.value())
        assert change["price"] == Decimal("123456789012345678.91")
        assert change["changed"] == datetime(2026, 7, 1, 8, 0, 0, 1, UTC)
        plain = json.loads(message.value())["after"]["plain"]
        assert datetime.fromisoformat(plain) == datetime(
            2026, 7, 1, 10, 0, 0, 500000, UTC
        )
        assert apply(source.conn, message)
    copied = source.run("SELECT id, price, changed FROM item_copy ORDER BY id")
    assert copied == source.run("SELECT id, price, changed FROM item ORDER BY id")


def test_applied_once(source, topics, producer):
    """What comes again, or after something newer, changes nothing; a deleted row does
    not come back. A message of something else is a ValueError."""
    topics.create(source.topic)
    source.run(COPY, "INSERT INTO item VALUES (1, 1, NULL)")
    changes = (
        "UPDATE item SET price = 2, changed = '2026-01-31 11:00' WHERE id = 1",
        "DELETE FROM item WHERE id = 1",
    )
    send(producer, source.collect(4, *changes))
    read, update, delete, tombstone = topics.read(source.topic)
    conn = source.conn
    assert [apply(conn, it) for it in (read, update, read, update)] == [
        *(True, True, False, False)
    ]
    (copied,) = source.run("SELECT price, changed, op FROM item_copy")
    assert copied == (2, datetime(2026, 1, 31, 11), "u")
    assert [apply(conn, it) for it in (delete, tombstone, update, delete)] == [
        *(True, False, False, False)
    ]
    assert source.run("SELECT id, op FROM item_copy") == [(1, "d")]
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
    Debezium logs, nor in the files of the offset and the history."""
    caplog.set_level(logging.DEBUG)
    secret = "s3cr/t p@ss"
    parts = urlsplit(source.url)
    address = f"{parts.hostname}:{parts.port}{parts.path}"
    right, source.url = source.url, f"mysql://cook:{quote(secret, '')}@{address}"
    assert source.settings()["database.password"] == secret
    with pytest.raises(RuntimeError) as caught:
        stream(source.settings(), lambda batch: None, Event())
    assert secret not in repr(caught.value)
    source.url = right
    source.run("INSERT INTO item VALUES (1, 1, NULL)")
    source.collect(1)
    shown = "".join(capfd.readouterr()) + caplog.text
    for path in source.state.iterdir():
        shown += repr(path.read_bytes())
    for word in (secret, quote(secret, ""), str(parts.password)):
        assert word not in shown


def test_no_jars(tmp_path):
    """A folder without the connector is a FileNotFoundError."""
    with pytest.raises(FileNotFoundError, match="no connector for MariaDB"):
        start(tmp_path)


def test_the_same_as_for_postgresql():
    """`stream` and `send` are those of the recipe for PostgreSQL; only Java starts in
    another way."""
    folder = ROOT / "recipes" / "cdc"
    one, other = folder / "debezium_to_kafka", folder / "debezium_to_kafka_mariadb"
    assert (one / "kafka.py").read_text() == (other / "kafka.py").read_text()
    theirs, ours = (
        (it / "engine.py").read_text().partition("ENGINE =")[2] for it in (one, other)
    )
    assert theirs.replace("    ensure_jvm_started(jvm_opts=JVM)\n", "") == ours
