import json
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException

from recipes.cdc.consume_kafka import consume

ROOT = Path(__file__).parents[3]
# A crashed member blocks its partitions until its session ends; one with a name takes
# its old place at once.
NAMED = {"group.instance.id": "one"}


@pytest.fixture
def broker(topics) -> dict:
    topics.create(f"{topics.name}.dead")
    return {"bootstrap.servers": topics.servers}


@pytest.fixture
def group(topics) -> str:
    return f"{topics.name}-billing"


class Handler:
    """Keeps the values of messages, and stops after some of them."""

    def __init__(self, until: int, then=None) -> None:
        self.stopping = threading.Event()
        self.values: list[bytes | None] = []
        self._until, self._then = until, then

    def __call__(self, message) -> None:
        self.values.append(message.value())
        if len(self.values) == self._until:
            self.stopping.set()
        if self._then:
            self._then(message)


def run(broker, topics, group, until: int, then=None, **more) -> list:
    """Consume that many messages; return their values."""
    handler = Handler(until, then)
    consume(broker, topics.name, group, handler, handler.stopping, **more)
    return handler.values


def reject(message):
    if message.value() == b"bad":
        raise ValueError("no such order")


def test_in_order_and_committed(broker, topics, group):
    """Messages are handled in order; at the end their offsets are committed."""
    topics.send(b"1", b"2", b"3")
    assert run(broker, topics, group, until=3) == [b"1", b"2", b"3"]
    assert topics.committed(group) == 3


def test_stop_finishes_the_message(broker, topics, group):
    """A stop in mid-work: this message is finished and committed, the next is left."""
    topics.send(b"1", b"2")
    assert run(broker, topics, group, until=1) == [b"1"]
    assert topics.committed(group) == 1
    assert run(broker, topics, group, until=1) == [b"2"]


def test_leaves_the_group(broker, topics, group):
    """After a stop the next consumer gets its partitions at once, without a wait."""
    topics.send(b"1", b"2")
    session = {"session.timeout.ms": 60_000}
    run(broker, topics, group, until=1, **session)
    with ThreadPoolExecutor() as pool:
        second = pool.submit(run, broker, topics, group, until=1, **session)
        assert second.result(timeout=10) == [b"2"]


def test_bad_message_is_put_aside(broker, topics, group, caplog):
    """ValueError: the message goes to the dead-letter topic, the next is handled."""
    topics.send(b"1", b"bad", b"2", key=b"order", headers={"trace": b"t"})
    assert run(broker, topics, group, until=3, then=reject) == [b"1", b"bad", b"2"]
    assert topics.committed(group) == 3
    (dead,) = topics.read(f"{topics.name}.dead")
    assert (dead.key(), dead.value()) == (b"order", b"bad")
    assert dict(dead.headers()) == {
        "trace": b"t",
        "origin": f"{topics.name}/0/1".encode(),
        "reason": b"ValueError('no such order')",
    }
    assert "no such order" in caplog.text


def test_nothing_is_lost_when_it_cannot_be_put_aside(broker, topics, group):
    """The dead-letter topic refuses the message: an error, and it comes again."""
    topics.create(f"{topics.name}-2")
    topics.create(f"{topics.name}-2.dead", **{"max.message.bytes": "100"})
    topics.name += "-2"
    topics.send(b"bad")
    with pytest.raises(KafkaException) as caught:
        run(broker, topics, group, until=1, then=reject)
    assert caught.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
    assert run(broker, topics, group, until=1) == [b"bad"]


def test_other_error_ends_the_work(broker, topics, group):
    """Another error, such as a lost database, reaches the caller; nothing is put aside,
    and after a restart the message comes again."""

    def fail(message):
        if message.value() == b"2":
            raise ConnectionError("the database is gone")

    topics.send(b"1", b"2", b"3")
    with pytest.raises(ConnectionError):
        run(broker, topics, group, until=3, then=fail)
    assert topics.committed(group) == 1
    assert topics.values(f"{topics.name}.dead") == []
    assert run(broker, topics, group, until=2) == [b"2", b"3"]


KILLED_AT_WORK = """
import os, signal, sys, threading
from recipes.cdc.consume_kafka import consume

def handle(message):
    if message.value() == b"2":
        os.kill(os.getpid(), signal.SIGKILL)

broker = {"bootstrap.servers": sys.argv[1]}
named = {"group.instance.id": "one"}
consume(broker, sys.argv[2], sys.argv[3], handle, threading.Event(), **named)
"""


def test_killed_at_work(broker, topics, group):
    """The process is killed in mid-work: the message comes again."""
    topics.send(b"1", b"2")
    args = (topics.servers, topics.name, group)
    killed = subprocess.run([sys.executable, "-c", KILLED_AT_WORK, *args], cwd=ROOT)
    assert killed.returncode == -9
    again = run(broker, topics, group, until=2, **NAMED)
    assert again == [b"1", b"2"]


def test_rebalance_repeats_nothing(broker, topics, group):
    """A second consumer joins in mid-work: each message is handled by one of them."""
    topics.name = topics.create(f"{topics.name}-wide", partitions=4)
    topics.create(f"{topics.name}.dead")
    for partition in range(4):
        topics.send(*(b"%d" % n for n in range(25)), partition=partition)
    handled: Counter = Counter()
    stopping, half, joined = (threading.Event() for _ in range(3))

    def handle_first(message):
        count(message)
        if handled.total() == 40:  # the rest waits until the other one is there
            half.set()
        if half.is_set() and not joined.is_set():
            joined.wait(0.05)

    def handle_second(message):
        joined.set()
        count(message)

    lock = threading.Lock()

    def count(message):
        with lock:
            handled[message.partition(), message.offset()] += 1
            if len(handled) == 100:
                stopping.set()

    args = (broker, topics.name, group)
    with ThreadPoolExecutor() as pool:
        often = {"heartbeat.interval.ms": 50}  # it tells the first of the second
        first = pool.submit(consume, *args, handle_first, stopping, **often)
        assert half.wait(20)
        second = pool.submit(consume, *args, handle_second, stopping, **often)
        assert first.result(20) + second.result(20) == 100
    assert joined.is_set()
    assert set(handled.values()) == {1}


def test_too_slow(broker, topics, group):
    """Work takes longer than `max.poll.interval.ms`: another consumer gets the message,
    and the slow one an error."""
    topics.send(b"1")
    started, taken_over = threading.Event(), threading.Event()

    def work_slowly(_):
        started.set()
        taken_over.wait(20)

    fast = {"session.timeout.ms": 500, "heartbeat.interval.ms": 100}
    slow = fast | {"max.poll.interval.ms": 500}
    with ThreadPoolExecutor() as pool:
        late = pool.submit(
            run,
            *(broker, topics, group),
            until=2,
            then=work_slowly,
            **slow,
        )
        assert started.wait(20)
        assert run(broker, topics, group, until=1, **fast) == [b"1"]
        taken_over.set()
        with pytest.raises(KafkaException) as caught:
            late.result(20)
    assert caught.value.args[0].code() in (
        KafkaError._MAX_POLL_EXCEEDED,
        KafkaError._STATE,
    )


def test_tombstones_and_empty_values(broker, topics, group):
    """A tombstone (None) and an empty value are messages like any other."""
    topics.send(None, b"", b"1")
    assert run(broker, topics, group, until=3) == [None, b"", b"1"]


def test_no_broker(broker, topics, group, proxy):
    """No broker can be reached at the start: an error, not an endless wait."""
    proxy.refuse()
    unreachable = {"bootstrap.servers": proxy.servers}
    with pytest.raises(KafkaException) as caught:
        run(unreachable, topics, group, until=1, wait=0.5)
    assert caught.value.args[0].code() == KafkaError._TRANSPORT


def test_no_topic(broker, topics, group):
    """A misspelt topic is an error."""
    topics.name += "-misspelt"
    with pytest.raises(KafkaException) as caught:
        run(broker, topics, group, until=1)
    assert caught.value.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_broker_comes_back(broker, topics, group, proxy, caplog):
    """The broker is lost in mid-work: that is logged, and the work goes on."""
    topics.send(b"1", b"2")

    def lose(message):
        if message.value() == b"1":
            proxy.refuse()
            topics.send(b"3")
            assert proxy.has_refused.wait(10)
            proxy.refuse(False)

    behind = {"bootstrap.servers": proxy.servers}
    assert run(behind, topics, group, until=3, then=lose) == [b"1", b"2", b"3"]
    assert topics.committed(group) == 3
    assert "brokers are down" in caplog.text


# --8<-- [start:wrong]
def consume_as_often_copied(consumer, process, running):
    while running():
        msg = consumer.poll(0.2)
        if msg is None:
            continue
        if msg.error():
            continue
        process(json.loads(msg.value()))


# --8<-- [end:wrong]


def times(count: int):
    """A condition that holds that many times: published loops have no end."""
    left = iter([True] * count)
    return lambda: next(left, False)


def often_copied(servers, topic, group, process, running) -> None:
    settings = {"group.id": group, "auto.offset.reset": "earliest", "log_level": 0}
    consumer = Consumer(settings | {"bootstrap.servers": servers})
    consumer.subscribe([topic])
    try:
        consume_as_often_copied(consumer, process, running)
    finally:
        consumer.close()


def test_often_copied_loses_messages(topics, group):
    """Often copied: the work fails, and the message was committed all the same."""
    topics.send(b"1", b"2")

    def fail(_):
        raise ConnectionError("the database is gone")

    with pytest.raises(ConnectionError):
        often_copied(topics.servers, topics.name, group, fail, times(50))
    assert topics.committed(group) == 1


def test_often_copied_hides_a_missing_topic(topics, group):
    """Often copied: the topic does not exist, and the loop goes on without a word."""
    missing = f"{topics.name}-misspelt"
    often_copied(topics.servers, missing, group, print, times(5))


def test_often_copied_hides_a_missing_broker(topics, group, proxy):
    """Often copied: no broker is there, and the loop goes on without a word."""
    proxy.refuse()
    often_copied(proxy.servers, topics.name, group, print, times(5))


def test_often_copied_fails_at_a_tombstone(topics, group):
    """Often copied: a tombstone ends the work with TypeError."""
    topics.send(None)
    with pytest.raises(TypeError):
        often_copied(topics.servers, topics.name, group, print, times(50))


def test_often_copied_truth_of_a_message(topics, group):
    """Often copied: `if not message` takes a tombstone for "nothing there"."""
    topics.send(None)
    (message,) = topics.read()
    assert not message
