"""Changes from Kafka into a copy of the table, each one once."""

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

from confluent_kafka import KafkaException, Message
from pymysql.connections import Connection

# --8<-- [start:apply]
COPY = """
CREATE TABLE item_copy (
    id bigint PRIMARY KEY, price decimal(20, 2), changed timestamp(6) NULL,
    place char(42) NOT NULL, op char(1) NOT NULL -- of the last change; d: it is gone
)
"""
APPLY = """
INSERT INTO item_copy (id, price, changed, place, op)
VALUES (%(id)s, %(price)s, %(changed)s, %(place)s, %(op)s)
ON DUPLICATE KEY UPDATE
    price = IF(VALUES(place) > place, VALUES(price), price),
    changed = IF(VALUES(place) > place, VALUES(changed), changed),
    op = IF(VALUES(place) > place, VALUES(op), op),
    place = GREATEST(place, VALUES(place)) -- the last: the others compare with it
"""


def parse(value: bytes) -> dict[str, Any]:
    """A change: the row's values, `op` and `place`, which is later for a later change.

    op: c, u, d, or r (read by a snapshot). Raises ValueError: not an event of `item`.
    """
    try:
        event = json.loads(value)
        row, source = event["after"] or event["before"], event["source"]
        price, changed = row["price"], row["changed"]
        file = int(source["file"].rpartition(".")[2])
        return {
            "id": row["id"],
            "price": None if price is None else Decimal(price),
            "changed": None if changed is None else datetime.fromisoformat(changed),
            "op": event["op"],
            "place": f"{file:010}/{source['pos']:020}/{source['row']:010}",
        }
    except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError("not an event of the table item") from error


def apply(conn: Connection, message: Message) -> bool:
    """Apply a change to item_copy; False for one that is there, and for a tombstone.

    The session's time zone must be UTC. Raises ValueError: not an event of item, and
    KafkaException: an error in the place of a message.
    """
    if error := message.error():
        raise KafkaException(error)
    value = message.value()
    if value is None:  # the delete came before it; it is for Kafka's compaction
        return False
    with conn.cursor() as cursor:
        return cursor.execute(APPLY, parse(value)) > 0


# --8<-- [end:apply]
