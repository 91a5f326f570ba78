# /// script
# requires-python = ">=3.11"
# dependencies = ["pymongo>=4.15"]
# ///
"""Write many documents in few round trips.

Products from a file or a feed are inserted or updated, a batch at a time. A bad one
does not stop the rest, and comes back with the reason, so that nothing is lost.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pymongo import MongoClient, UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

Document = dict[str, Any]

NO_SERVER = (
    "Set MONGODB_URI, for example"
    " mongodb://127.0.0.1:27018/cookbook?directConnection=true"
    " after `docker compose up -d --wait mongodb`"
)


# --8<-- [start:bulk]
@dataclass
class Report:
    """What became of the products that were read."""

    inserted: int = 0
    changed: int = 0
    unchanged: int = 0
    refused: list[tuple[Document, str]] = field(default_factory=list)


def put_all(
    products: Collection[Document], rows: Iterable[Document], size: int = 1000
) -> Report:
    """Insert or update each row by its `_id`, size rows at a time.

    Running it again changes nothing, so an import that broke off is simply repeated.
    Raises what stops the whole, such as a lost server; earlier batches stay.
    """
    report = Report()
    for batch in _batches(rows, size):
        requests = [
            UpdateOne(
                {"_id": {"$eq": row["_id"]}}, {"$set": _without_id(row)}, upsert=True
            )
            for row in batch
        ]
        done: Mapping[str, Any]
        try:
            done = products.bulk_write(requests, ordered=False).bulk_api_result
        except BulkWriteError as error:
            done = error.details
            if done["writeConcernErrors"]:  # written, but perhaps not for good
                raise
            for fault in done["writeErrors"]:
                report.refused.append((batch[fault["index"]], fault["errmsg"]))
        report.inserted += done["nUpserted"]
        report.changed += done["nModified"]
        report.unchanged += done["nMatched"] - done["nModified"]
    return report


def _batches(rows: Iterable[Document], size: int) -> Iterator[list[Document]]:
    source = iter(rows)
    while batch := list(islice(source, size)):
        yield batch


def _without_id(row: Document) -> Document:
    return {name: value for name, value in row.items() if name != "_id"}


# --8<-- [end:bulk]


def main() -> None:
    uri = os.environ.get("MONGODB_URI") or sys.exit(NO_SERVER)
    with MongoClient[Document](uri, timeoutMS=30_000) as client:
        products = client.get_default_database()["product"]
        products.create_index({"barcode": 1}, name="barcode_once", unique=True)
        rows = [
            {"_id": "tea", "barcode": 1001, "stock": 5},
            {"_id": "cup", "barcode": 1001, "stock": 7},  # a barcode that is taken
            {"_id": "pot", "barcode": 1003, "stock": 2},
        ]
        for attempt in ("first", "second"):
            report = put_all(products, rows, size=2)
            print(f"{attempt}: {report.inserted} new, {report.unchanged} as they were")
            for row, reason in report.refused:
                print(f"refused {row['_id']}: {reason.partition(' ')[0]}")
        rows[0]["stock"] = 4
        print("changed:", put_all(products, rows[:1]).changed)


if __name__ == "__main__":
    main()
