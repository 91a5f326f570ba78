# /// script
# requires-python = ">=3.11"
# dependencies = ["confluent-kafka>=2.13.2", "psycopg[binary]>=3.2"]
# [tool.cookbook]
# needs = ["kafka", "postgresql"]
# ///
"""Commit a change and its event together, then send the event to Kafka.

No transaction reaches from PostgreSQL to Kafka, so a service that writes to both loses
an event in a crash, or tells of a change that never was. Here the event is a row, and a
relay sends it until Kafka has it. Use it wherever others act on your changes.
"""

import os
import sys
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from psycopg.types.json import Jsonb

# --8<-- [start:schema]
SCHEMA = """
CREATE TABLE payment (
    id uuid PRIMARY KEY,
    account bigint NOT NULL,
    amount numeric(18, 2) NOT NULL
);
CREATE TABLE outbox (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    key text NOT NULL,
    body jsonb NOT NULL
);
"""
# --8<-- [end:schema]

NO_SERVER = (
    "Set KAFKA_BOOTSTRAP_SERVERS, for example 127.0.0.1:19092"
    " after `docker compose up -d --wait kafka`"
)


# --8<-- [start:pay]
def pay(conn: psycopg.Connection, payment: UUID, account: int, amount: Decimal) -> bool:
    """Record a payment with its event, both or neither; False if it was there before.

    payment: made by the caller, who repeats it when no answer came.
    """
    body = {"account": account, "amount": str(amount)}
    with conn.transaction():
        new = conn.execute(
            "INSERT INTO payment VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            (payment, account, amount),
        )
        if new.rowcount:
            conn.execute(
                "INSERT INTO outbox (id, key, body) VALUES (%s, %s, %s)",
                (payment, str(account), Jsonb(body)),
            )
    return bool(new.rowcount)


# --8<-- [end:pay]


# --8<-- [start:relay]
def make_producer(broker: dict[str, Any]) -> Producer:
    """broker: how to connect, `{"bootstrap.servers": ...}` and what it needs more."""
    settings = {"enable.idempotence": True, "delivery.timeout.ms": 30_000}
    return Producer(settings | broker)


def relay(
    conn: psycopg.Connection, producer: Producer, topic: str, limit: int = 500
) -> int | None:
    """Send the oldest events and delete them; return how many, None if another relay
    is at work.

    If it raises, some may have been sent, and all of them are sent again: the header
    `id` stays the same. Raises KafkaException, psycopg.Error.
    """
    errors: list[KafkaError] = []

    def on_delivery(error: KafkaError | None, message: Message) -> None:
        if error:
            errors.append(error)

    with conn.transaction():
        # One relay at a time, or two of them would mix up the order.
        lock = "SELECT pg_try_advisory_xact_lock('outbox'::regclass::bigint)"
        if conn.execute(lock).fetchone() != (True,):
            return None
        events = conn.execute(
            "SELECT number, id, key, body::text FROM outbox ORDER BY number LIMIT %s",
            (limit,),
        ).fetchall()
        for _, event, key, body in events:
            producer.produce(
                topic, body, key, headers={"id": str(event)}, on_delivery=on_delivery
            )
        producer.flush()  # ends: delivery.timeout.ms limits how long an event may take
        if errors:
            raise KafkaException(errors[0])
        sent = [number for number, *_ in events]
        conn.execute("DELETE FROM outbox WHERE number = ANY(%s)", (sent,))
    return len(events)


# --8<-- [end:relay]


def main() -> None:
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS") or sys.exit(NO_SERVER)
    url = os.environ["POSTGRESQL_URL"]
    topic = os.environ.get("KAFKA_TOPIC", "cookbook-payments")
    broker: dict[str, Any] = {"bootstrap.servers": servers}
    admin = AdminClient(broker)
    admin.create_topics([NewTopic(topic, 1)])[topic].result(timeout=10)
    with (
        psycopg.connect(url, autocommit=True, connect_timeout=5) as conn,
        make_producer(broker) as producer,
    ):
        conn.execute(SCHEMA)
        payment = uuid4()
        for _ in range(2):  # the caller got no answer, and asks again
            print("paid:", pay(conn, payment, 1, Decimal("30.10")))
        print("sent:", relay(conn, producer, topic))
        print("sent:", relay(conn, producer, topic))


if __name__ == "__main__":
    main()
