"""Kafka: a place is two variables, and a broker is asked what it is."""

import io
import struct

from confluent_kafka import Producer

from cookbook.engines import engine
from cookbook.engines.kafka import _read_answer


def test_a_place_is_two_variables():
    assert engine("kafka").variables("kafka://a:1,b:2/cook_x") == {
        "KAFKA_BOOTSTRAP_SERVERS": "a:1,b:2",
        "KAFKA_TOPIC": "cook_x",
    }
    assert engine("kafka").variables("a:1") == {"KAFKA_BOOTSTRAP_SERVERS": "a:1"}


def answer(*features: tuple[bytes, int, int], error: int = 0) -> io.BytesIO:
    """What a broker answers to ApiVersions in version 3."""
    body = struct.pack(">iih", 0, 1, error)
    body += bytes([2]) + struct.pack(">hhh", 18, 0, 4) + b"\0"  # one API
    body += struct.pack(">i", 0)
    named = [
        bytes([len(name) + 1]) + name + struct.pack(">hh", least, most) + b"\0"
        for name, least, most in features
    ]
    supported = bytes([len(named) + 1]) + b"".join(named)
    other = b"\1\3abc"  # a tagged field that is not asked for
    return io.BytesIO(body + b"\2" + other + bytes([0, len(supported)]) + supported)


def test_the_greatest_metadata_version_is_read():
    several = answer((b"group.version", 0, 1), (b"metadata.version", 7, 30))
    assert _read_answer(several) == 30


def test_a_broker_without_metadata_version_is_another_product():
    assert _read_answer(answer((b"group.version", 0, 1))) is None
    assert _read_answer(answer(error=35)) is None


def test_another_product_is_named_as_a_stand_in():
    mock = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    (broker,) = mock.list_topics(timeout=10).brokers.values()
    product, version = engine("kafka").identify(f"{broker.host}:{broker.port}")
    assert (product, version) == ("a broker that is not Apache Kafka's", "")
    assert engine("kafka").serves(product) == "Apache Kafka"
