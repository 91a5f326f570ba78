import os

import pytest
from confluent_kafka import KafkaError, Producer

from recipes.cdc.produce_kafka import NotDelivered, make_producer, send
from tests.recipes.support.kafka_proxy import Api


@pytest.fixture
def producer(topics):
    with make_producer(topics.servers) as producer:
        yield producer


def numbered(count):
    return [("a", b"%d" % n) for n in range(count)]


def test_all_are_there(producer, topics):
    """When `send` returns, the brokers have every message, in order, with its key."""
    assert send(producer, topics.name, numbered(100)) == 100
    found = topics.read()
    assert [(m.key(), m.value()) for m in found] == [
        (b"a", b"%d" % n) for n in range(100)
    ]


def test_one_key_one_partition(producer, topics):
    """Messages with the same key go to the same partition, so they keep their order."""
    topic = topics.create(f"{topics.name}-wide", partitions=8)
    partitions = []
    with make_producer(topics.servers) as other:
        for one in (producer, other):
            one.produce(topic, b"1", "a", on_delivery=lambda _, m: partitions.append(m))
            one.flush()
    first, second = (message.partition() for message in partitions)
    assert first == second


def test_tombstone(producer, topics):
    """None as a value arrives as None: in a compacted topic it deletes the key."""
    assert send(producer, topics.name, [("a", None)]) == 1
    assert topics.values() == [None]


def test_more_than_the_buffer_holds(topics):
    """More messages than fit into the buffer: it waits for room, and none is lost."""
    with make_producer(topics.servers, **{"queue.buffering.max.messages": 10}) as small:
        assert send(small, topics.name, numbered(200)) == 200
    assert len(topics.read()) == 200


def test_refused_message(producer, topics):
    """A message that the broker refuses is an error with its reason."""
    topic = topics.create(f"{topics.name}-small", **{"max.message.bytes": "500"})
    with pytest.raises(NotDelivered, match="1 not delivered") as caught:
        send(producer, topic, [("a", os.urandom(1000))])
    assert caught.value.errors[0].code() == KafkaError.MSG_SIZE_TOO_LARGE


def test_first_error_stops(producer, topics):
    """After an error, no more messages are taken from the caller."""
    topic = topics.create(f"{topics.name}-small", **{"max.message.bytes": "500"})
    taken = []

    def messages():
        for number in range(1000):
            taken.append(number)
            yield "a", os.urandom(1000)
            producer.flush()

    with pytest.raises(NotDelivered):
        send(producer, topic, messages())
    assert len(taken) < 1000


def test_unknown_topic(topics):
    """A topic that does not exist is an error, not a new topic."""
    fast = {"topic.metadata.propagation.max.ms": 100}
    with (
        make_producer(topics.servers, **fast) as producer,
        pytest.raises(NotDelivered) as caught,
    ):
        send(producer, f"{topics.name}-misspelt", [("a", b"1")])
    unknown = {KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART}
    assert caught.value.errors[0].code() in unknown


def test_no_broker(topics, proxy):
    """No broker can be reached: an error for each message after the time is over."""
    proxy.refuse()
    with (
        make_producer(
            proxy.servers, **{"delivery.timeout.ms": 200, "log_level": 0}
        ) as producer,
        pytest.raises(NotDelivered) as caught,
    ):
        send(producer, topics.name, numbered(3))
    assert [error.code() for error in caught.value.errors] == [
        KafkaError._MSG_TIMED_OUT
    ] * 3


def test_lost_request(topics, proxy):
    """The line is cut before the message arrives: it is sent again."""
    with make_producer(proxy.servers, log_level=0) as producer:
        proxy.cut_before(Api.PRODUCE)
        assert send(producer, topics.name, [("a", b"1")]) == 1
    assert proxy.was_cut.is_set()
    assert topics.values() == [b"1"]


def test_lost_answer(topics, proxy):
    """The acknowledgement is lost: the message is sent again, and written once."""
    with make_producer(proxy.servers, log_level=0) as producer:
        proxy.cut_answer_to(Api.PRODUCE)
        assert send(producer, topics.name, [("a", b"1")]) == 1
    assert proxy.was_cut.is_set()
    assert proxy.requests[Api.PRODUCE] == 2
    assert topics.values() == [b"1"]


# --8<-- [start:wrong]
def send_as_often_copied(producer, topic, values):
    for value in values:
        producer.produce(topic, value)
    producer.flush(10)


# --8<-- [end:wrong]


def test_often_copied_hides_errors(topics):
    """Often copied: the broker refuses the message, and no error appears anywhere."""
    topic = topics.create(f"{topics.name}-small", **{"max.message.bytes": "500"})
    with Producer({"bootstrap.servers": topics.servers}) as producer:
        send_as_often_copied(producer, topic, [os.urandom(1000)])
    assert topics.values(topic) == []


def test_often_copied_writes_twice(topics, proxy):
    """Often copied: after a lost acknowledgement the message is there twice."""
    settings = {"bootstrap.servers": proxy.servers, "log_level": 0}
    with Producer(settings) as producer:
        proxy.cut_answer_to(Api.PRODUCE)
        send_as_often_copied(producer, topics.name, [b"1"])
    assert topics.values() == [b"1", b"1"]


def test_often_copied_fills_the_buffer(topics):
    """Often copied: more messages than the buffer holds end in BufferError."""
    settings = {"bootstrap.servers": topics.servers, "linger.ms": 1000}
    with (
        Producer(settings | {"queue.buffering.max.messages": 10}) as producer,
        pytest.raises(BufferError),
    ):
        send_as_often_copied(producer, topics.name, [b"1"] * 100)
