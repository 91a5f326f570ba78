import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from recipes.cdc.produce_transactionally import (
    make_consumer,
    make_producer,
    transform,
    with_tax,
)
from tests.recipes.support.kafka_proxy import Api

ROOT = Path(__file__).parents[3]


@pytest.fixture
def broker(topics) -> dict:
    # With a name, a consumer that starts again takes the place of the one that crashed.
    return {
        "bootstrap.servers": topics.servers,
        "group.instance.id": "one",
        "log_level": 0,
    }


@pytest.fixture
def connect(broker) -> dict:
    return {"bootstrap.servers": broker["bootstrap.servers"], "log_level": 0}


@pytest.fixture
def target(topics) -> str:
    return topics.create(f"{topics.name}-target")


@pytest.fixture
def group(topics) -> str:
    return f"{topics.name}-group"


@pytest.fixture
def consumer(broker, topics, group):
    with make_consumer(broker, group, topics.name) as consumer:
        yield consumer


@pytest.fixture
def producer(connect, topics):
    return make_producer(connect, f"{topics.name}-1")


def upper(message) -> bytes:
    return message.value().upper()


def run(consumer, producer, target, count, convert=upper, size=100) -> None:
    """Transform until that many messages are done: they come in one batch or more."""
    done = 0
    while done < count:
        done += transform(consumer, producer, target, convert, wait=10, size=size)
    assert done == count


def test_results_and_offsets(topics, consumer, producer, target, group):
    """Each message has its result, in order and with its key; the offset is theirs."""
    topics.send(b"a", b"b", b"c", key=b"k")
    run(consumer, producer, target, 3)
    found = topics.read(target)
    assert [(m.key(), m.value()) for m in found] == [
        (b"k", b"A"),
        (b"k", b"B"),
        (b"k", b"C"),
    ]
    assert topics.committed(group) == 3


def test_nothing_came(topics, consumer, producer, target):
    """No message in the given time: 0, and no transaction."""
    topics.send(b"a")
    # A consumer that is closed while it joins its group may hang for ever.
    run(consumer, producer, target, 1)
    assert transform(consumer, producer, target, upper, wait=0.01) == 0
    assert topics.values(target) == [b"A"]


def test_seen_only_after_the_commit(topics, consumer, producer, target):
    """A reader sees the results of a transaction when it is committed, not before."""
    seen = []

    def look(message):
        producer.flush()
        seen.append(topics.values(target, settled=False))
        return message.value()

    topics.send(b"a", b"b")
    run(consumer, producer, target, 2, look, size=2)
    assert seen[0] == seen[-1] == []
    assert topics.values(target) == [b"a", b"b"]


def test_failure_undoes_the_batch(topics, consumer, producer, target, group):
    """An error in mid-batch: no result counts, and the next call does the batch again,
    from its first message."""
    errors = [ConnectionError("a service is down")]

    def fail_once(message):
        if message.value() == b"b" and errors:
            producer.flush()  # the result of "a" has reached the broker
            raise errors.pop()
        return message.value().upper()

    topics.send(b"a", b"b", b"c")
    with pytest.raises(ConnectionError):
        run(consumer, producer, target, 3, fail_once, size=3)
    assert topics.values(target) == []
    assert topics.committed(group) < 0
    run(consumer, producer, target, 3)
    assert topics.values(target) == [b"A", b"B", b"C"]
    assert topics.values(target, "read_uncommitted") == [b"A", b"A", b"B", b"C"]


def test_nothing_is_committed_apart(topics, broker, group, producer, target):
    """A consumer that is closed after an error commits no offset by itself."""

    def fail(message):
        raise ConnectionError("a service is down")

    topics.send(b"a")
    with make_consumer(broker, group, topics.name) as consumer:
        with pytest.raises(ConnectionError):
            run(consumer, producer, target, 1, fail)
        consumer.poll(10)  # it comes again, and nobody does it
    assert topics.committed(group) < 0


def test_result_that_is_refused(topics, consumer, producer, group):
    """The broker refuses one result: an error, and none of the batch counts."""
    small = topics.create(f"{topics.name}-small", **{"max.message.bytes": "200"})
    topics.send(b"a" * 10, b"b" * 1000)
    with pytest.raises(KafkaException):
        run(consumer, producer, small, 2)
    assert b"b" * 1000 not in topics.values(small)
    assert topics.committed(group) < 2


KILLED = """
import os, signal, sys
from recipes.cdc import produce_transactionally as recipe

servers, group, source, target, name, step = sys.argv[1:]

def at(reached):
    if reached == step:
        os.kill(os.getpid(), signal.SIGKILL)

class Producer(recipe.Producer):
    def begin_transaction(self):
        at("before begin")
        super().begin_transaction()

    def send_offsets_to_transaction(self, *args):
        self.flush()
        at("after produce")
        super().send_offsets_to_transaction(*args)
        at("after send_offsets")

    def commit_transaction(self, *args):
        super().commit_transaction(*args)
        at("after commit")

recipe.Producer = Producer
broker = {"bootstrap.servers": servers}
named = broker | {"group.instance.id": "one"}
producer = recipe.make_producer(broker, name)
with recipe.make_consumer(named, group, source) as consumer:
    recipe.transform(consumer, producer, target, lambda m: m.value(), 10, 1)
"""

STEPS = {"before begin": 0, "after produce": 0, "after send_offsets": 0}


@pytest.mark.parametrize("step", [*STEPS, "after commit"])
def test_killed_at_any_step(topics, broker, connect, group, target, step):
    """The process is killed at any step: after a restart each result is there once."""
    topics.send(b"a", b"b")
    name = f"{topics.name}-1"
    args = (topics.servers, group, topics.name, target, name, step)
    killed = subprocess.run([sys.executable, "-c", KILLED, *args], cwd=ROOT)
    assert killed.returncode == -9
    done = 1 if step == "after commit" else 0
    producer = make_producer(connect, name)
    with make_consumer(broker, group, topics.name) as consumer:
        assert len(topics.values(target)) == done
        run(consumer, producer, target, 2 - done, lambda message: message.value())
    assert topics.values(target) == [b"a", b"b"]
    assert topics.committed(group) == 2


def test_zombie_is_fenced(topics, connect, consumer, producer, target):
    """A second producer with the same name: the first one gets a fatal error, and
    nothing of it counts."""
    topics.send(b"a")

    def start_another(message):
        make_producer(connect, f"{topics.name}-1")
        return b"from the zombie"

    with pytest.raises(KafkaException) as caught:
        run(consumer, producer, target, 1, start_another)
    assert caught.value.args[0].fatal()
    assert caught.value.args[0].code() == KafkaError._FENCED
    assert topics.values(target) == []


def test_consumer_that_lost_its_place(topics, broker, group, producer, target):
    """The partition went to another consumer in mid-batch: an error, nothing counts."""
    topics.send(b"a")

    def lose_the_place(message):
        with make_consumer(broker, group, topics.name) as other:
            assert other.poll(10).value() == b"a"
        return b"from the zombie"

    with (
        make_consumer(broker, group, topics.name) as consumer,
        pytest.raises(KafkaException) as caught,
    ):
        run(consumer, producer, target, 1, lose_the_place)
    assert caught.value.args[0].code() == KafkaError.FENCED_INSTANCE_ID
    assert topics.values(target) == []


@pytest.mark.parametrize("api", [Api.PRODUCE, Api.TXN_OFFSET_COMMIT, Api.END_TXN])
def test_lost_answer(topics, consumer, target, group, proxy, api):
    """The answer to any request of the transaction is lost: it is asked again, and each
    result is there once."""
    topics.send(b"a", b"b")
    behind = {"bootstrap.servers": proxy.servers, "log_level": 0}
    producer = make_producer(behind, f"{topics.name}-1")
    proxy.cut_answer_to(api)
    run(consumer, producer, target, 2)
    assert proxy.was_cut.is_set()
    assert topics.values(target) == [b"A", b"B"]
    assert topics.committed(group) == 2


def test_missing_topic(broker, topics, group, producer, target):
    """What Kafka reports in place of a message is raised: here a missing topic."""
    with (
        make_consumer(broker, group, f"{topics.name}-misspelt") as consumer,
        pytest.raises(KafkaException),
    ):
        run(consumer, producer, target, 1)


def test_money(topics, consumer, producer, target):
    """The example multiplies money as Decimal, never as a float."""
    topics.send(b'{"net": "0.30"}')
    run(consumer, producer, target, 1, with_tax)
    assert topics.values(target) == [b'{"total": "0.360"}']


# --8<-- [start:wrong]
def transform_as_often_copied(consumer, producer, target, convert):
    message = consumer.poll(10)
    producer.begin_transaction()
    try:
        producer.produce(target, convert(message), message.key())
        position = consumer.position(consumer.assignment())
        group = consumer.consumer_group_metadata()
        producer.send_offsets_to_transaction(position, group)
        producer.commit_transaction()
    except Exception:
        producer.abort_transaction()


# --8<-- [end:wrong]


def test_often_copied_loses_what_was_aborted(topics, consumer, producer, target, group):
    """Often copied: after an abort the next message comes, and its commit skips the one
    that failed, for ever."""
    errors = [ConnectionError("a service is down")]

    def fail_once(message):
        if errors:
            raise errors.pop()
        return message.value()

    topics.send(b"a", b"b")
    for _ in range(2):
        transform_as_often_copied(consumer, producer, target, fail_once)
    assert topics.values(target) == [b"b"]
    assert topics.committed(group) == 2


def test_often_copied_random_name(topics, connect, target):
    """Often copied: with a random name after each start, what a crash left open hides
    all later results from readers; a start with the old name sets them free."""
    crashed = make_producer(connect, f"{topics.name}-1")
    crashed.begin_transaction()
    crashed.produce(target, b"left open")
    crashed.flush()
    after = make_producer(connect, f"{topics.name}-random")
    after.begin_transaction()
    after.produce(target, b"committed")
    after.commit_transaction()
    assert topics.values(target, settled=False) == []
    make_producer(connect, f"{topics.name}-1")
    assert topics.values(target) == [b"committed"]


# --8<-- [start:wrong_apart]
def transform_in_two_steps(consumer, producer, target, convert):
    message = consumer.poll(10)
    producer.produce(target, convert(message), message.key())
    producer.flush()
    consumer.commit(message=message, asynchronous=False)


# --8<-- [end:wrong_apart]


def test_often_copied_two_steps_double_the_result(topics, broker, group, target):
    """Often copied: a crash between `flush` and `commit`, and the result is twice."""

    class Crashes(Consumer):
        def commit(self, **_):
            raise SystemExit

    topics.send(b"a")
    settings = broker | {"group.id": group, "enable.auto.commit": False}
    settings["auto.offset.reset"] = "earliest"
    with Producer({"bootstrap.servers": topics.servers}) as producer:
        with Crashes(settings) as consumer:
            consumer.subscribe([topics.name])
            with pytest.raises(SystemExit):
                transform_in_two_steps(consumer, producer, target, upper)
        with Consumer(settings) as consumer:
            consumer.subscribe([topics.name])
            transform_in_two_steps(consumer, producer, target, upper)
    assert topics.values(target) == [b"A", b"A"]


def test_often_copied_reads_what_was_aborted(topics, producer, target):
    """Often copied: a reader with `read_uncommitted`, the default of Kafka's own Java
    client, sees the results of aborted transactions."""
    producer.begin_transaction()
    producer.produce(target, b"never happened")
    producer.flush()
    producer.abort_transaction()
    assert topics.values(target, "read_uncommitted") == [b"never happened"]
    assert topics.values(target) == []
