# /// script
# requires-python = ">=3.11"
# dependencies = ["confluent-kafka>=2.13.2"]
# [tool.cookbook]
# needs = ["kafka"]
# ///
"""Send messages to Kafka, and hear of every one that was lost.

produce() only puts a message into a buffer: it comes back before anything was sent, and
never raises for what happens later. Here each message is acknowledged by the brokers,
or the caller gets an error. Use it wherever a lost message matters.
"""

import os
import sys
from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

NO_SERVER = (
    "Set KAFKA_BOOTSTRAP_SERVERS, for example 127.0.0.1:19092"
    " after `docker compose up -d --wait kafka`"
)


# --8<-- [start:send]
class NotDelivered(Exception):
    """Some messages did not arrive, or nobody knows: `errors` has the reasons."""

    def __init__(self, errors: list[KafkaError]) -> None:
        super().__init__(f"{len(errors)} not delivered, the first: {errors[0]}")
        self.errors = errors


def make_producer(servers: str, **more: Any) -> Producer:
    """Make one for each process, and keep it: it is thread-safe, and it batches."""
    return Producer(
        {
            "bootstrap.servers": servers,
            "enable.idempotence": True,  # and acks=all: no retry writes twice
            "delivery.timeout.ms": 30_000,  # then the message has failed, for good
            "compression.type": "zstd",
            **more,
        }
    )


def send(
    producer: Producer, topic: str, messages: Iterable[tuple[str, bytes | None]]
) -> int:
    """Send (key, value) pairs; return how many, when the brokers have them all.

    Messages with the same key keep their order. Raises NotDelivered.
    """
    errors: list[KafkaError] = []
    sent = 0

    def on_delivery(error: KafkaError | None, message: Message) -> None:
        if error:
            errors.append(error)

    for key, value in messages:
        while True:
            try:
                producer.produce(topic, value, key, on_delivery=on_delivery)
                break
            except BufferError:  # full: wait until some messages are delivered
                producer.poll(0.1)
        producer.poll(0)  # calls on_delivery for what has arrived meanwhile
        sent += 1
        if errors:
            break
    producer.flush()  # ends: delivery.timeout.ms limits how long a message may take
    if errors:
        raise NotDelivered(errors)
    return sent


# --8<-- [end:send]


def main() -> None:
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS") or sys.exit(NO_SERVER)
    topic = os.environ.get("KAFKA_TOPIC", "cookbook-orders")
    new = NewTopic(topic, 3, config={"max.message.bytes": "100000"})
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([new])[topic].result(timeout=10)
    with make_producer(servers) as producer:
        orders = [(f"order-{n}", b'{"total": "12.50"}') for n in range(1000)]
        print("delivered:", send(producer, topic, orders))
        try:
            send(producer, topic, [("too-large", os.urandom(200_000))])
        except NotDelivered as error:
            print("refused:", error.errors[0].name())


if __name__ == "__main__":
    main()
