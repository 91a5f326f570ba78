# /// script
# requires-python = ">=3.11"
# dependencies = ["confluent-kafka>=2.13.2"]
# [tool.cookbook]
# needs = ["kafka"]
# ///
"""Consume a Kafka topic and lose no message.

An offset is stored after the work, never before. A message that cannot be handled is
put aside, so that it does not block those behind it. SIGTERM ends the work in good
order. Use it for any service that reads a topic and whose work may be repeated.
"""

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

NO_SERVER = (
    "Set KAFKA_BOOTSTRAP_SERVERS, for example 127.0.0.1:19092"
    " after `docker compose up -d --wait kafka`"
)
log = logging.getLogger(__name__)


# --8<-- [start:consume]
def consume(
    broker: dict[str, Any],
    topic: str,
    group: str,
    handle: Callable[[Message], None],
    stopping: threading.Event,
    wait: float = 10,
    **more: Any,
) -> int:
    """Handle the messages of a topic until `stopping` is set; return how many.

    broker: how to connect, `{"bootstrap.servers": ...}`. At least once: what was
    handled just before a crash is handled again. If `handle` raises ValueError, the
    message goes to the topic `{topic}.dead`. Any other error ends the work, and the
    message comes again after a restart. Raises KafkaException: no broker in `wait`
    seconds, no such topic, too slow for its place in the group.
    """
    settings = broker | {
        "group.id": group,
        "auto.offset.reset": "earliest",  # a new group begins with what is there
        "enable.auto.offset.store": False,  # what is committed, every second and at
        "auto.commit.interval.ms": 1000,  # the end, is what store_offsets() was told
        "max.poll.interval.ms": 300_000,  # longer than the slowest message takes
        "partition.assignment.strategy": "cooperative-sticky",
        "error_cb": lambda error: log.warning("%s", error.str()),  # it reconnects
    }
    sure = {"enable.idempotence": True, "delivery.timeout.ms": 30_000}
    handled = 0
    with (
        Producer(broker | sure, logger=log) as dead,
        Consumer(settings | more, logger=log) as consumer,  # its end leaves the group
    ):
        for name in (topic, f"{topic}.dead"):
            found = consumer.list_topics(name, timeout=wait).topics[name]
            if found.error:
                raise KafkaException(found.error)
        consumer.subscribe([topic])
        while not stopping.is_set():
            message = consumer.poll(0.5)
            if message is None:  # not `if not message`: an empty value is false too
                continue
            if error := message.error():
                raise KafkaException(error)
            try:
                handle(message)
            except ValueError as reason:
                log.exception("%s put aside", where(message))
                put_aside(dead, f"{topic}.dead", message, reason)
            consumer.store_offsets(message)
            handled += 1
    return handled


def put_aside(
    producer: Producer, topic: str, message: Message, reason: Exception
) -> None:
    """Copy the message with its origin and the reason; return when it is there."""
    errors: list[KafkaError] = []
    about = [("origin", where(message).encode()), ("reason", repr(reason).encode())]
    producer.produce(
        topic,
        message.value(),
        message.key(),
        headers=[*(message.headers() or []), *about],
        on_delivery=lambda error, _: errors.append(error) if error else None,
    )
    producer.flush()
    if errors:
        raise KafkaException(errors[0])


def where(message: Message) -> str:
    return f"{message.topic()}/{message.partition()}/{message.offset()}"


# --8<-- [end:consume]


def main() -> None:
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS") or sys.exit(NO_SERVER)
    topic = os.environ.get("KAFKA_TOPIC", "cookbook-orders")
    broker: dict[str, Any] = {"bootstrap.servers": servers}
    topics = [NewTopic(topic, 1), NewTopic(f"{topic}.dead", 1)]
    admin = AdminClient(broker)
    for made in admin.create_topics(topics).values():
        made.result(timeout=10)
    with Producer(broker) as producer:
        for value in (b'{"total": "12.50"}', b"not JSON", None):
            producer.produce(topic, value, key="order-1")
    logging.disable(logging.ERROR)  # the failure below is made on purpose
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())

    def handle(message: Message) -> None:
        value = message.value()
        if value is not None:
            print("order-1:", json.loads(value))
        else:  # a tombstone: the key was deleted
            print("order-1: deleted")
            os.kill(os.getpid(), signal.SIGTERM)  # as an orchestrator would

    print("messages:", consume(broker, topic, f"{topic}-billing", handle, stopping))


if __name__ == "__main__":
    main()
