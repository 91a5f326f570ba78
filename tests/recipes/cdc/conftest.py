"""What the recipes for Kafka share: a topic, and what is in it."""

import time
from dataclasses import dataclass

import pytest
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic

from cookbook.engines import engine
from tests.recipes.support.kafka_proxy import KafkaProxy

ISOLATIONS = ("read_committed", "read_uncommitted")


@dataclass
class Topics:
    """The topics of a test: one named `name`, and others whose names begin with it."""

    servers: str
    name: str

    def create(self, name: str = "", partitions: int = 1, **config: str) -> str:
        name = name or self.name
        with AdminClient(self._settings) as admin:
            new = NewTopic(name, partitions, 1, config=config)
            for done in admin.create_topics([new]).values():
                done.result(timeout=10)
        return name

    def send(self, *values: bytes | None, topic: str = "", **options) -> None:
        with Producer(self._settings | {"linger.ms": 0}) as producer:
            for value in values:
                producer.produce(topic or self.name, value, **options)

    def read(
        self,
        topic: str = "",
        isolation: str = "read_committed",
        partition: int = 0,
        settled: bool = True,
    ) -> list[Message]:
        """All messages of a partition, as a consumer of that isolation sees them.

        settled: wait first for the end of all transactions. Kafka tells a producer that
        one is committed before it tells so in the partitions.
        """
        start = TopicPartition(topic or self.name, partition, 0)
        if settled and isolation == "read_committed":
            self._settle(start)
        settings = self._reader | {
            "enable.auto.commit": False,
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
        }
        found = []
        with Consumer(settings) as consumer:
            consumer.assign([start])
            while (message := consumer.poll(10)) is not None:
                if message.error():
                    assert message.error().code() == KafkaError._PARTITION_EOF
                    break
                found.append(message)
        return found

    def _settle(self, where: TopicPartition) -> None:
        one, other = (self._reader | {"isolation.level": it} for it in ISOLATIONS)
        with Consumer(one) as committed, Consumer(other) as everything:
            until = time.monotonic() + 30
            while (
                committed.get_watermark_offsets(where, timeout=10)[1]
                < everything.get_watermark_offsets(where, timeout=10)[1]
            ):
                assert time.monotonic() < until, "a transaction is open"
                time.sleep(0.01)

    def values(
        self, topic: str = "", isolation: str = "read_committed", settled: bool = True
    ) -> list:
        found = self.read(topic, isolation, settled=settled)
        return [message.value() for message in found]

    def error(self) -> Message:
        """What a consumer gets in the place of a message, as it does at times."""
        with Consumer(self._reader | {"enable.partition.eof": True}) as consumer:
            consumer.assign([TopicPartition(self.name, 0, 0)])
            message = consumer.poll(60)
        assert message
        assert message.error()
        return message

    def committed(self, group: str, topic: str = "", partition: int = 0) -> int:
        """The offset that the group has committed; -1001 where there is none."""
        settings = self._settings | {"group.id": group}
        with Consumer(settings) as consumer:
            where = [TopicPartition(topic or self.name, partition)]
            (found,) = consumer.committed(where, timeout=10)
        if found.error:
            raise KafkaException(found.error)
        return found.offset

    @property
    def _settings(self) -> dict:
        return {"bootstrap.servers": self.servers, "log_level": 3}

    @property
    def _reader(self) -> dict:
        return self._settings | {"group.id": "reads without a group"}


@pytest.fixture
def topics(kafka) -> Topics:
    """An empty topic in an empty place."""
    given = engine("kafka").variables(kafka)
    made = Topics(given["KAFKA_BOOTSTRAP_SERVERS"], given["KAFKA_TOPIC"])
    made.create()
    return made


@pytest.fixture
def proxy(topics):
    """A proxy in front of the broker, closed after the test."""
    proxy = KafkaProxy(topics.servers)
    yield proxy
    proxy.close()
