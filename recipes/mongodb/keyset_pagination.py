# /// script
# requires-python = ">=3.11"
# dependencies = ["pymongo>=4.15"]
# ///
"""Page through a result by its last row.

Each page starts after the last one that was seen. Nothing comes twice and nothing is
left out while others insert, and page 1000 costs as much as page 1.
"""

import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from bson import ObjectId, json_util
from bson.errors import BSONError
from bson.json_util import JSONMode, JSONOptions
from pymongo import DESCENDING, IndexModel, MongoClient
from pymongo.collection import Collection

Document = dict[str, Any]

NO_SERVER = (
    "Set MONGODB_URI, for example"
    " mongodb://127.0.0.1:27018/cookbook?directConnection=true"
    " after `docker compose up -d --wait mongodb`"
)

# --8<-- [start:page]
# The id makes the order complete: two orders may be placed in the same moment.
ORDER = {"placed": DESCENDING, "_id": DESCENDING}
INDEX = IndexModel({"customer": 1, **ORDER}, name="by_customer")  # serves each page
_OPTIONS = JSONOptions(json_mode=JSONMode.CANONICAL, tz_aware=True)


class Page(NamedTuple):
    orders: list[Document]
    after: str | None  # what the next call takes; None on the last page


def newest(
    orders: Collection[Document],
    customer: str,
    after: str | None = None,
    size: int = 20,
) -> Page:
    """Return the orders of a customer, the newest first, after the one that `after`
    names. Raises ValueError for an `after` that is none, and for a size below 1."""
    if size < 1:
        raise ValueError(f"a page of {size} orders")
    wanted: Document = {"customer": {"$eq": customer}}
    if after is not None:
        placed, last = _read(after)
        wanted["placed"] = {"$lte": placed}  # so the index begins there
        wanted["$or"] = [{"placed": {"$lt": placed}}, {"_id": {"$lt": last}}]
    with orders.find(wanted).sort(ORDER).limit(size + 1) as cursor:
        found = list(cursor)  # one more than asked for, to know whether there are more
    page = found[:size]
    if len(found) == len(page):
        return Page(page, None)
    return Page(page, _write(page[-1]))


def _write(order: Document) -> str:
    return json_util.dumps([order["placed"], order["_id"]], json_options=_OPTIONS)


def _read(after: str) -> tuple[datetime, ObjectId | int | str]:
    try:
        read = json_util.loads(after, json_options=_OPTIONS)
    except (ValueError, TypeError, BSONError):
        read = None
    match read:  # no other types: a dict might be an operator
        case [datetime() as placed, (ObjectId() | int() | str()) as last]:
            return placed, last
    raise ValueError(f"no such page: {after!r}")


# --8<-- [end:page]


# --8<-- [start:all]
def all_newest(
    orders: Collection[Document], customer: str, size: int = 100
) -> Iterator[Document]:
    """Yield all orders of a customer, a page at a time: for jobs of any length."""
    page = newest(orders, customer, size=size)
    yield from page.orders
    while page.after is not None:
        page = newest(orders, customer, page.after, size)
        yield from page.orders


# --8<-- [end:all]


def main() -> None:
    uri = os.environ.get("MONGODB_URI") or sys.exit(NO_SERVER)
    with MongoClient[Document](uri, timeoutMS=10_000, tz_aware=True) as client:
        orders = client.get_default_database()["order"]
        orders.create_indexes([INDEX])
        noon = datetime(2026, 11, 21, 12, tzinfo=UTC)
        orders.insert_many(
            # Two in each minute, so that a page ends between two equal times.
            {"_id": n, "customer": "anna", "placed": noon + timedelta(minutes=n // 2)}
            for n in range(7)
        )
        page = newest(orders, "anna", size=3)
        print("first page: ", *(order["_id"] for order in page.orders))
        orders.insert_one(
            {"_id": 99, "customer": "anna", "placed": noon + timedelta(1)}
        )
        page = newest(orders, "anna", page.after, size=3)
        print("second page:", *(order["_id"] for order in page.orders))
        print(
            "all:        ", *(order["_id"] for order in all_newest(orders, "anna", 3))
        )


if __name__ == "__main__":
    main()
