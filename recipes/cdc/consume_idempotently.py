# /// script
# requires-python = ">=3.11"
# dependencies = ["confluent-kafka>=2.13.2", "psycopg[binary]>=3.2"]
# [tool.cookbook]
# needs = ["kafka", "postgresql"]
# ///
"""Apply each event of a Kafka topic to PostgreSQL exactly once.

Kafka gives a message again after a crash, and a producer may send an event twice. The
event's id is written in the same transaction as its effect, so a second time has none.
Use it where an effect must not be doubled: a balance, a counter, an order.
"""

import json
import os
import sys
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID, uuid4

import psycopg
from confluent_kafka import Consumer, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

# --8<-- [start:schema]
SCHEMA = """
CREATE TABLE account (id bigint PRIMARY KEY, balance numeric(18, 2) NOT NULL);
CREATE TABLE applied_event (
    id uuid PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);
"""
# --8<-- [end:schema]

NO_SERVER = (
    "Set KAFKA_BOOTSTRAP_SERVERS, for example 127.0.0.1:19092"
    " after `docker compose up -d --wait kafka`"
)


# --8<-- [start:apply]
def make_consumer(broker: dict[str, Any], group: str, topic: str) -> Consumer:
    """broker: how to connect, `{"bootstrap.servers": ...}` and what it needs more."""
    settings = {"auto.offset.reset": "earliest", "enable.auto.offset.store": False}
    consumer = Consumer(settings | broker | {"group.id": group})
    consumer.subscribe([topic])
    return consumer


def apply_next(
    consumer: Consumer, conn: psycopg.Connection, wait: float = 0.5
) -> bool | None:
    """Apply the next event: True; it was applied before: False; none came: None.

    Waits `wait` seconds for one. If it raises, nothing was applied, or nobody knows:
    close the consumer and start again, and the event comes again. Raises ValueError
    (bad message), LookupError (no such account), KafkaException, psycopg.Error.
    """
    message = consumer.poll(wait)
    if message is None:
        return None
    if error := message.error():
        raise KafkaException(error)
    applied = apply(conn, *parse(message))
    consumer.store_offsets(message)  # after COMMIT, never before
    return applied


def apply(conn: psycopg.Connection, event: UUID, account: int, amount: Decimal) -> bool:
    """Add amount to the account, once for each event; False the second time."""
    with conn.transaction():
        new = conn.execute(
            "INSERT INTO applied_event (id) VALUES (%s) ON CONFLICT DO NOTHING",
            (event,),
        )
        if not new.rowcount:
            return False
        done = conn.execute(
            "UPDATE account SET balance = balance + %s WHERE id = %s",
            (amount, account),
        )
        if not done.rowcount:
            raise LookupError(f"event {event}: there is no account {account}")
    return True


def parse(message: Message) -> tuple[UUID, int, Decimal]:
    """The event's id, from the header, then account and amount. Raises ValueError."""
    headers: dict[str, Any] = dict(message.headers() or [])
    try:
        event = UUID(headers["id"].decode())
        body = json.loads(message.value() or b"")
        account, amount = int(body["account"]), Decimal(body["amount"])
    except (KeyError, TypeError, AttributeError, InvalidOperation) as error:
        raise ValueError(f"no payment at offset {message.offset()}") from error
    if not amount.is_finite():
        raise ValueError(f"no amount at offset {message.offset()}: {amount}")
    return event, account, amount


# --8<-- [end:apply]


# --8<-- [start:forget]
def forget(conn: psycopg.Connection, age: timedelta) -> int:
    """Delete ids older than any message that may still come; return how many."""
    with conn.transaction():
        old = "DELETE FROM applied_event WHERE applied_at < now() - %s"
        return conn.execute(old, (age,)).rowcount


# --8<-- [end:forget]


def main() -> None:
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS") or sys.exit(NO_SERVER)
    url = os.environ["POSTGRESQL_URL"]
    topic = os.environ.get("KAFKA_TOPIC", "cookbook-payments")
    broker: dict[str, Any] = {"bootstrap.servers": servers}
    admin = AdminClient(broker)
    admin.create_topics([NewTopic(topic, 1)])[topic].result(timeout=10)
    with Producer(broker) as producer:
        first, second = str(uuid4()), str(uuid4())
        for event in (first, first, second):  # the first is sent twice
            body = b'{"account": 1, "amount": "30.10"}'
            producer.produce(topic, body, key="1", headers={"id": event})
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as conn:
        conn.execute(SCHEMA)
        conn.execute("INSERT INTO account VALUES (1, 0)")
        with make_consumer(broker, f"{topic}-ledger", topic) as consumer:
            for _ in range(3):
                print("applied:", apply_next(consumer, conn, wait=10))
        print("balance:", *conn.execute("SELECT balance FROM account").fetchone() or ())


if __name__ == "__main__":
    main()
