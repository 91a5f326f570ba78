# /// script
# requires-python = ">=3.11"
# dependencies = ["confluent-kafka>=2.13.2", "jpype1>=1.7", "pymysql[rsa]>=1.2"]
#
# [tool.cookbook]
# needs = ["kafka", "mariadb", "debezium_mariadb"]
# ///
"""Send every change of a MariaDB table to Kafka with Debezium, from Python.

Debezium's engine runs in this process, so there is no Kafka Connect to look after. Use
it where others expect Debezium's events. It needs Java 17 and the connector's jars.
"""

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any
from urllib.parse import unquote, urlsplit

import pymysql
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, NewTopic
from pymysql.connections import Connection

if not __package__:  # run as a file: the folder above it is where the package lies
    here = Path(__file__).resolve().parent
    sys.path.insert(0, str(here.parent))
    __package__ = here.name

from .apply import COPY, apply
from .engine import Batch, start, stream
from .kafka import make_producer, send
from .settings import for_mariadb

NO_SERVER = (
    "Set KAFKA_BOOTSTRAP_SERVERS, for example 127.0.0.1:19092"
    " after `docker compose up -d --wait kafka`"
)
CHANGES = ("UPDATE item SET price = 9.90 WHERE id = 1", "DELETE FROM item WHERE id = 1")
STATEMENTS = (
    "CREATE TABLE item"
    " (id bigint PRIMARY KEY, price decimal(9, 2), changed timestamp(6) NULL)",
    "INSERT INTO item VALUES (1, 10.10, '2026-01-31 11:00')",
    COPY,
)


def connect(url: str) -> Connection:
    parts = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=unquote(parts.path[1:]),
        init_command="SET time_zone = '+00:00'",
        autocommit=True,
        connect_timeout=5,
        read_timeout=30,
        write_timeout=30,
    )


def main() -> None:
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS") or sys.exit(NO_SERVER)
    url, name = os.environ["MARIADB_URL"], os.environ.get("KAFKA_TOPIC", "cookbook")
    start(Path(os.environ["DEBEZIUM_JARS"]))
    topic = f"{name}.{urlsplit(url).path[1:]}.item"
    broker: dict[str, Any] = {"bootstrap.servers": servers}
    admin = AdminClient(broker)
    new = NewTopic(topic, 1, config={"cleanup.policy": "compact"})
    admin.create_topics([new])[topic].result(timeout=10)
    stopping, producer = Event(), make_producer(broker)
    with connect(url) as conn, conn.cursor() as cursor:
        for statement in STATEMENTS:
            cursor.execute(statement)

        def deliver(batch: Batch) -> None:
            send(producer, batch)
            if '"op":"r"' in str(batch):  # the snapshot is in Kafka: now change things
                for change in CHANGES:
                    cursor.execute(change)
            if batch and batch[-1][2] is None:  # the tombstone was the last
                stopping.set()

        with TemporaryDirectory() as folder:
            server_id = 1_000_000 + os.getpid()
            settings = for_mariadb(url, name, "item", Path(folder), server_id)
            stream(settings, deliver, stopping)
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
