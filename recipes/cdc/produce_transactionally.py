# /// script
# requires-python = ">=3.11"
# dependencies = ["confluent-kafka>=2.13.2"]
# [tool.cookbook]
# needs = ["kafka"]
# ///
"""Make one Kafka topic from another, each result exactly once.

The results and the offsets of the messages that they were made from are committed in
one transaction: after a crash there is neither a gap nor a double. Use it for filters,
enrichment and totals from topic to topic; for a database see the idempotent consumer.
"""

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

NO_SERVER = (
    "Set KAFKA_BOOTSTRAP_SERVERS, for example 127.0.0.1:19092"
    " after `docker compose up -d --wait kafka`"
)


# --8<-- [start:make]
def make_consumer(broker: dict[str, Any], group: str, topic: str) -> Consumer:
    """broker: how to connect, `{"bootstrap.servers": ...}` and what it needs more."""
    settings = {
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,  # the transaction commits the offsets
        "isolation.level": "read_committed",  # nothing of an aborted transaction
    }
    consumer = Consumer(settings | broker | {"group.id": group})
    consumer.subscribe([topic])
    return consumer


def make_producer(broker: dict[str, Any], name: str) -> Producer:
    """name: the same after a restart, and of no other process at the same time.

    The one that was made before with that name is fenced off: what it has not committed
    is aborted, and all it does from now on raises.
    """
    producer = Producer(broker | {"transactional.id": name})  # acks=all, idempotent
    producer.init_transactions(30)
    return producer


# --8<-- [end:make]


# --8<-- [start:transform]
def transform(
    consumer: Consumer,
    producer: Producer,
    target: str,
    convert: Callable[[Message], bytes | None],
    wait: float = 0.5,
    size: int = 100,
) -> int:
    """Consume up to `size` messages, produce what `convert` makes of each; return how
    many. All of it counts, or none.

    If it raises, none of it counts, and the next call begins with the same messages,
    unless the error is fatal (`error.args[0].fatal()`): then end this process. Raises
    KafkaException, and what `convert` raises.
    """
    first = consumer.poll(wait)
    if first is None:
        return 0
    batch = [first, *consumer.consume(size - 1, timeout=0)]  # what is here already
    for message in batch:
        if error := message.error():
            raise KafkaException(error)
    try:
        producer.begin_transaction()
        for message in batch:
            producer.produce(target, convert(message), message.key())
        producer.send_offsets_to_transaction(
            consumer.position(consumer.assignment()),
            consumer.consumer_group_metadata(),  # fences a consumer that lost its place
            30,
        )
        producer.commit_transaction(30)  # raises if one message was not delivered
    except BaseException:
        with suppress(KafkaException):  # a fenced producer cannot abort, and need not
            producer.abort_transaction(30)
        rewind(consumer, batch)
        raise
    return len(batch)


def rewind(consumer: Consumer, batch: list[Any]) -> None:
    """Go back to the first message of the batch, in each partition."""
    for message in reversed(batch):
        where = (message.topic(), message.partition(), message.offset())
        with suppress(KafkaException):  # the partition has gone to another consumer
            consumer.seek(TopicPartition(*where))


# --8<-- [end:transform]


def with_tax(message: Message) -> bytes:
    order = json.loads(message.value() or b"")
    return json.dumps({"total": str(Decimal(order["net"]) * Decimal("1.2"))}).encode()


def main() -> None:
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS") or sys.exit(NO_SERVER)
    source = os.environ.get("KAFKA_TOPIC", "cookbook-orders")
    target = f"{source}-with-tax"
    broker: dict[str, Any] = {"bootstrap.servers": servers}
    topics = [NewTopic(source, 1), NewTopic(target, 1)]
    admin = AdminClient(broker)
    for made in admin.create_topics(topics).values():
        made.result(timeout=10)
    with Producer(broker) as sender:
        for net in ("100.00", "20.50"):
            sender.produce(source, json.dumps({"net": net}))
    producer = make_producer(broker, f"{source}-tax-1")
    with (
        make_consumer(broker, f"{source}-tax", source) as consumer,
        make_consumer(broker, f"{source}-reader", target) as reader,
    ):
        done = 0
        while done < 2:
            done += transform(consumer, producer, target, with_tax, wait=10)
        for message in reader.consume(done, timeout=10):
            print((message.value() or b"").decode())


if __name__ == "__main__":
    main()
