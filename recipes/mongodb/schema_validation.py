# /// script
# requires-python = ">=3.11"
# dependencies = ["pymongo>=4.15"]
# ///
"""Refuse documents of the wrong shape, in the database.

The server checks every insert and every update against a schema, whoever sends it.
The answer names the fields, so the caller learns what was wrong.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from bson import Decimal128
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import WriteError

Document = dict[str, Any]

NO_SERVER = (
    "Set MONGODB_URI, for example"
    " mongodb://127.0.0.1:27018/cookbook?directConnection=true"
    " after `docker compose up -d --wait mongodb`"
)

# --8<-- [start:schema]
LINE = {
    "bsonType": "object",
    "required": ["sku", "count"],
    "additionalProperties": False,
    "properties": {
        "sku": {"bsonType": "string", "minLength": 1},
        # Python's int arrives as int or as long, as large as it is.
        "count": {"bsonType": ["int", "long"], "minimum": 1},
    },
}
ORDER = {
    "bsonType": "object",
    "required": ["customer", "total", "status", "placed", "lines"],
    "additionalProperties": False,  # so a misspelt field is refused
    "properties": {
        "_id": {},  # named here, since no others are allowed
        "customer": {"bsonType": "string", "minLength": 1},
        "total": {"bsonType": "decimal", "minimum": Decimal128("0.01")},
        "status": {"enum": ["new", "paid", "sent"]},
        "placed": {"bsonType": "date"},
        "lines": {"bsonType": "array", "minItems": 1, "items": LINE},
    },
}


def create_orders(db: Database[Document]) -> Collection[Document]:
    """Make the collection with its schema. Raises CollectionInvalid if it exists."""
    return db.create_collection(
        "order",
        validator={"$jsonSchema": ORDER},
        validationLevel="strict",  # updates of older documents too
        validationAction="error",  # "warn" would store and write into a log
    )


# --8<-- [end:schema]


# --8<-- [start:add]
def add_order(orders: Collection[Document], order: Document) -> None:
    """Insert the order. Raises ValueError, with the names of its bad fields."""
    try:
        orders.insert_one(order)
    except WriteError as error:
        if error.code != 121:  # DocumentValidationFailure
            raise
        fields = ", ".join(bad_fields(error.details or {}))
        raise ValueError(f"order refused: {fields}") from error


def bad_fields(details: Mapping[str, Any]) -> list[str]:
    """The fields that are missing, wrong or unknown, from the details of an error."""
    fields = []
    for rule in details["errInfo"]["details"]["schemaRulesNotSatisfied"]:
        fields += rule.get("missingProperties", [])
        fields += [
            one["propertyName"] for one in rule.get("propertiesNotSatisfied", [])
        ]
        fields += rule.get("additionalProperties", [])
    return sorted(fields)


# --8<-- [end:add]


# --8<-- [start:check]
def find_invalid(collection: Collection[Document], schema: Document) -> Iterator[Any]:
    """Yield the ids of those that break a schema, before it becomes a rule."""
    wanted = {"$nor": [{"$jsonSchema": schema}]}
    with collection.find(wanted, {"_id": True}).sort("_id") as cursor:
        yield from (document["_id"] for document in cursor)


# --8<-- [end:check]


def main() -> None:
    uri = os.environ.get("MONGODB_URI") or sys.exit(NO_SERVER)
    with MongoClient[Document](uri, timeoutMS=10_000) as client:
        db = client.get_default_database()
        order: Document = {
            "_id": 1,
            "customer": "anna",
            "total": Decimal128(Decimal("19.90")),
            "status": "new",
            "placed": datetime.now(UTC),
            "lines": [{"sku": "tea", "count": 2}],
        }
        orders = create_orders(db)
        add_order(orders, order)
        for change in ({"total": 19.9}, {"status": "lost", "lines": []}):
            try:
                add_order(orders, {**order, "_id": 2, **change})
            except ValueError as error:
                print(error)
        db["old_order"].insert_many([order, {"_id": 7, "customer": "ben"}])
        print("to mend:", *find_invalid(db["old_order"], ORDER))


if __name__ == "__main__":
    main()
