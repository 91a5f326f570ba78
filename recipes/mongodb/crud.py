# /// script
# requires-python = ">=3.11"
# dependencies = ["pymongo>=4.15"]
# ///
"""Create, read, update and delete documents.

Each change is one statement with its condition in the filter, so nobody can come
between a look and a write. A change that found nothing is an error, not a silence.
"""

import os
import sys
from collections.abc import Iterator
from typing import Any

from pymongo import MongoClient, ReturnDocument
from pymongo.collection import Collection

Document = dict[str, Any]

NO_SERVER = (
    "Set MONGODB_URI, for example"
    " mongodb://127.0.0.1:27018/cookbook?directConnection=true"
    " after `docker compose up -d --wait mongodb`"
)


# --8<-- [start:create]
def add(products: Collection[Document], product: Document) -> None:
    """Insert a product under its SKU. Raises DuplicateKeyError if it is there."""
    sku, _ = product["sku"], product["stock"]  # KeyError before anything is stored
    products.insert_one({**product, "_id": sku})  # a copy: pymongo writes into its own


def put(products: Collection[Document], sku: str, name: str) -> bool:
    """Name the product, and make it without stock if need be; return True if made."""
    done = products.update_one(
        {"_id": {"$eq": sku}},
        {"$set": {"name": name}, "$setOnInsert": {"sku": sku, "stock": 0}},
        upsert=True,
    )
    return done.upserted_id is not None


# --8<-- [end:create]


# --8<-- [start:read]
def in_stock(products: Collection[Document], at_least: int = 1) -> Iterator[Document]:
    """Yield SKU, name and stock of each product, the largest stock first."""
    wanted = {"stock": {"$gte": at_least}}
    fields = {"_id": False, "sku": True, "name": True, "stock": True}
    with products.find(wanted, fields).sort({"stock": -1, "_id": 1}) as cursor:
        yield from cursor  # in batches: memory does not grow with the result


# --8<-- [end:read]


# --8<-- [start:update]
def take(products: Collection[Document], sku: str, count: int) -> int:
    """Take count pieces; return what is left. Raises LookupError, and takes nothing,
    if there is no such product or not enough of it."""
    if count < 1:
        raise ValueError(f"cannot take {count} pieces")
    left = products.find_one_and_update(
        {"_id": {"$eq": sku}, "stock": {"$gte": count}},  # looked at and changed in one
        {"$inc": {"stock": -count}},
        return_document=ReturnDocument.AFTER,
    )
    if left is None:
        raise LookupError(f"there are not {count} pieces of {sku!r}")
    return int(left["stock"])


def rename(products: Collection[Document], sku: str, name: str) -> None:
    """Raises LookupError if there is no such product."""
    done = products.update_one({"_id": {"$eq": sku}}, {"$set": {"name": name}})
    if not done.matched_count:  # modified_count is 0 too if the name was the same
        raise LookupError(f"there is no product {sku!r}")


# --8<-- [end:update]


# --8<-- [start:delete]
def remove(products: Collection[Document], sku: str) -> bool:
    """Delete the product; return False if there was none."""
    return products.delete_one({"_id": {"$eq": sku}}).deleted_count == 1


# --8<-- [end:delete]


def main() -> None:
    uri = os.environ.get("MONGODB_URI") or sys.exit(NO_SERVER)
    with MongoClient[Document](uri, timeoutMS=10_000) as client:
        products = client.get_default_database()["product"]
        add(products, {"sku": "tea", "name": "Tea", "stock": 5})
        print("made cups:", put(products, "cup", "Cup"))
        rename(products, "tea", "Green tea")
        print("tea left:", take(products, "tea", 2))
        try:
            take(products, "tea", 4)
        except LookupError as error:
            print("refused:", error)
        print("in stock:", *in_stock(products))
        print("removed cups:", remove(products, "cup"))


if __name__ == "__main__":
    main()
