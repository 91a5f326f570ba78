# /// script
# requires-python = ">=3.11"
# dependencies = ["pymongo>=4.15"]
# ///
"""Join, group and sum in the database.

The server reads a million orders and sends a line for each customer. Orders without
lines count too, and an order of three lines counts once.
"""

import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from bson import Decimal128
from pymongo import MongoClient
from pymongo.database import Database

Document = dict[str, Any]

NO_SERVER = (
    "Set MONGODB_URI, for example"
    " mongodb://127.0.0.1:27018/cookbook?directConnection=true"
    " after `docker compose up -d --wait mongodb`"
)


class Revenue(NamedTuple):
    customer: str  # the name, or "?" where the customer is gone
    orders: int
    pieces: int
    total: Decimal


# --8<-- [start:pipeline]
def pipeline(since: datetime, until: datetime, at_least: Decimal) -> list[Document]:
    """Orders placed in [since, until), by customer; the largest total first."""
    return [
        # First what an index can answer; everything after it is computed.
        {"$match": {"placed": {"$gte": since, "$lt": until}}},
        # Sums inside an order, without $unwind: one document stays one document.
        {
            "$set": {
                "pieces": {"$sum": "$lines.count"},
                "total": {
                    "$reduce": {
                        "input": {"$ifNull": ["$lines", []]},
                        "initialValue": Decimal128("0"),
                        "in": {
                            "$add": [
                                "$$value",
                                {"$multiply": ["$$this.price", "$$this.count"]},
                            ]
                        },
                    }
                },
            }
        },
        {
            "$group": {
                "_id": "$customer",
                "orders": {"$sum": 1},
                "pieces": {"$sum": "$pieces"},
                "total": {"$sum": "$total"},
            }
        },
        {"$match": {"total": {"$gte": Decimal128(at_least)}}},
        # After grouping: one look-up for each customer, not for each order.
        {
            "$lookup": {
                "from": "customer",
                "localField": "_id",
                "foreignField": "_id",
                "as": "found",
            }
        },
        {"$sort": {"total": -1, "_id": 1}},
    ]


# --8<-- [end:pipeline]


# --8<-- [start:revenue]
def revenue(
    db: Database[Document], since: datetime, until: datetime, at_least: Decimal
) -> Iterator[Revenue]:
    """Yield a line for each customer with orders. Raises ValueError for naive dates."""
    if since.tzinfo is None or until.tzinfo is None:
        raise ValueError("the dates need a time zone")
    stages = pipeline(since, until, at_least)
    # Sorts of more than 100 MB go to disk; allowDiskUse=False would make them an error.
    with db["order"].aggregate(stages, allowDiskUse=True, batchSize=1000) as cursor:
        for row in cursor:
            name = row["found"][0]["name"] if row["found"] else "?"
            total = row["total"].to_decimal()
            yield Revenue(name, row["orders"], row["pieces"], total)


# --8<-- [end:revenue]


def main() -> None:
    uri = os.environ.get("MONGODB_URI") or sys.exit(NO_SERVER)
    with MongoClient[Document](uri, timeoutMS=10_000, tz_aware=True) as client:
        db = client.get_default_database()
        db["customer"].insert_many(
            [{"_id": 1, "name": "anna"}, {"_id": 2, "name": "ben"}]
        )
        tea = {"sku": "tea", "price": Decimal128("4.90"), "count": 2}
        cup = {"sku": "cup", "price": Decimal128("0.10"), "count": 3}
        november = datetime(2026, 11, 1, tzinfo=UTC)
        december = datetime(2026, 12, 1, tzinfo=UTC)
        db["order"].insert_many(
            [
                {"customer": 1, "placed": november, "lines": [tea, cup]},
                {"customer": 1, "placed": november, "lines": [cup]},
                {"customer": 2, "placed": november, "lines": []},
                {"customer": 2, "placed": december, "lines": [tea]},
            ]
        )
        for line in revenue(db, november, december, Decimal(0)):
            print(line.customer, line.orders, line.pieces, f"{line.total:.2f}")


if __name__ == "__main__":
    main()
