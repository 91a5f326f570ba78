"""Changes from Kafka into a copy of the table, each one once."""

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

import psycopg
from confluent_kafka import KafkaException, Message

# --8<-- [start:apply]
COPY = """
CREATE TABLE item_copy (
    id bigint PRIMARY KEY, price numeric, changed timestamptz,
    lsn bigint NOT NULL, op text NOT NULL -- of the last change; d: the row is gone
)
"""
APPLY = """
INSERT INTO item_copy AS mine (id, price, changed, lsn, op)
VALUES (%(id)s, %(price)s, %(changed)s, %(lsn)s, %(op)s)
ON CONFLICT (id) DO UPDATE SET
    (price, changed, lsn, op)
    = (excluded.price, excluded.changed, excluded.lsn, excluded.op)
WHERE (mine.lsn, mine.op <> 'r') < (excluded.lsn, excluded.op <> 'r')
"""
MISSING = "__debezium_unavailable_value"


def parse(value: bytes) -> dict[str, Any]:
    """A change: the row's values, `op` and `lsn`, its place in the server's log.

    op: c, u, d, or r (read by a snapshot). Raises ValueError: not an event of `item`.
    """
    try:
        event = json.loads(value)
        row = event["after"] or event["before"]
        price, changed = row["price"], row["changed"]
        if MISSING in row.values():
            raise ValueError("a large value is not there: REPLICA IDENTITY FULL")
        return {
            "id": row["id"],
            "price": None if price is None else Decimal(price),
            "changed": None if changed is None else datetime.fromisoformat(changed),
            "op": event["op"],
            "lsn": event["source"]["lsn"],
        }
    except (KeyError, TypeError, ArithmeticError) as error:
        raise ValueError("not an event of the table item") from error


def apply(conn: psycopg.Connection, message: Message) -> bool:
    """Apply a change to item_copy; False for one that is there, and for a tombstone.

    Raises ValueError: not an event of the table item, and KafkaException: an error in
    the place of a message.
    """
    if error := message.error():
        raise KafkaException(error)
    value = message.value()
    if value is None:  # the delete came before it; it is for Kafka's compaction
        return False
    return conn.execute(APPLY, parse(value)).rowcount == 1


# --8<-- [end:apply]
