"""Batches of changes into Kafka."""

from typing import Any

from confluent_kafka import KafkaException, Producer

from .engine import Batch


# --8<-- [start:send]
def make_producer(broker: dict[str, Any]) -> Producer:
    """broker: how to connect, `{"bootstrap.servers": ...}` and what it needs more."""
    return Producer(
        {
            "enable.idempotence": True,  # with acks=all; keeps the order of a key
            "delivery.timeout.ms": 30_000,
            "partitioner": "murmur2_random",  # the partition that Java would choose
        }
        | broker
    )


def send(producer: Producer, batch: Batch) -> None:
    """Return when Kafka has it all. Raises KafkaException, ValueError (no key)."""
    errors: list[Any] = []
    for topic, key, value in batch:
        if key is None:
            raise ValueError(f"{topic}: without a primary key there is no order")
        producer.produce(
            topic, value, key, on_delivery=lambda error, _: errors.append(error)
        )
    producer.flush()
    for error in filter(None, errors):
        raise KafkaException(error)


# --8<-- [end:send]
