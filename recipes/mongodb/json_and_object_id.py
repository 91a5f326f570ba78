# /// script
# requires-python = ">=3.11"
# dependencies = ["pymongo>=4.15"]
# ///
"""Turn documents into JSON and back, ids included.

Two kinds of JSON: plain for an API, where an id is a string, and extended for export,
which brings every type back. An id from a request is checked before it is looked for.
"""

import io
import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TextIO

from bson import Decimal128, ObjectId, json_util
from bson.errors import InvalidId
from bson.json_util import JSONMode, JSONOptions
from pymongo import MongoClient
from pymongo.collection import Collection

Document = dict[str, Any]

NO_SERVER = (
    "Set MONGODB_URI, for example"
    " mongodb://127.0.0.1:27018/cookbook?directConnection=true"
    " after `docker compose up -d --wait mongodb`"
)


# --8<-- [start:id]
def find_by_id(collection: Collection[Document], text: str) -> Document | None:
    """Return the document. Raises ValueError if the text is no id: 24 hex digits."""
    try:
        number = ObjectId(text)  # the text itself equals no id
    except (InvalidId, TypeError) as error:
        raise ValueError(f"{text!r} is no id") from error
    return collection.find_one({"_id": number})


# --8<-- [end:id]


# --8<-- [start:plain]
def to_plain(value: object) -> str:
    """For json.dumps: the types of MongoDB that have a plain form, and no others."""
    match value:
        case ObjectId() | Decimal128():  # money as a string: a JSON number is a float
            return str(value)
        case datetime() if value.tzinfo:
            text = value.astimezone(UTC).isoformat(timespec="milliseconds")
            return text.replace("+00:00", "Z")
    raise TypeError(f"{type(value).__name__} has no plain form in JSON: {value!r}")


def to_json(document: Document) -> str:
    """Return JSON for an API. Raises TypeError for bytes and for naive dates."""
    return json.dumps(document, default=to_plain, ensure_ascii=False)


# --8<-- [end:plain]


# --8<-- [start:export]
# Canonical: every number keeps its type. Relaxed, the default, makes 64 bits of 32.
OPTIONS = JSONOptions(json_mode=JSONMode.CANONICAL)


def export(collection: Collection[Document], file: TextIO) -> int:
    """Write one line of extended JSON for each document; return how many."""
    count = 0
    with collection.find().sort("_id") as cursor:
        for document in cursor:
            file.write(json_util.dumps(document, json_options=OPTIONS) + "\n")
            count += 1
    return count


def load(collection: Collection[Document], file: TextIO, size: int = 500) -> int:
    """Insert what export() wrote, size at a time; return how many.

    Raises ValueError for a line that is no JSON, and BulkWriteError for an id that is
    there. What came before stays.
    """
    documents = (json_util.loads(line, json_options=OPTIONS) for line in file)
    return sum(_insert(collection, documents, size))


def _insert(
    collection: Collection[Document], documents: Iterator[Document], size: int
) -> Iterator[int]:
    while batch := list(islice(documents, size)):
        yield len(collection.insert_many(batch).inserted_ids)


# --8<-- [end:export]


def main() -> None:
    uri = os.environ.get("MONGODB_URI") or sys.exit(NO_SERVER)
    with MongoClient[Document](uri, timeoutMS=10_000, tz_aware=True) as client:
        db = client.get_default_database()
        order = {
            "_id": ObjectId("6560a1f2c3d4e5f60718293a"),
            "placed": datetime(2026, 11, 21, 12, 30, tzinfo=UTC),
            "total": Decimal128("19.90"),
            "count": 2,
        }
        db["order"].insert_one(order)
        found = find_by_id(db["order"], "6560a1f2c3d4e5f60718293a")
        print(to_json(found or {}))
        try:
            find_by_id(db["order"], "42")
        except ValueError as error:
            print("refused:", error)
        file = io.StringIO()
        print("exported:", export(db["order"], file))
        file.seek(0)
        print("loaded:", load(db["copy"], file))
        print("the same:", db["copy"].find_one() == order)


if __name__ == "__main__":
    main()
