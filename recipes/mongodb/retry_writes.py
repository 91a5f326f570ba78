# /// script
# requires-python = ">=3.11"
# dependencies = ["pymongo>=4.15"]
# [tool.cookbook]
# needs = ["mongodb_replica_set"]
# ///
"""Know which writes are retried, and make the others repeatable.

pymongo repeats a write to one document, and the server does it once. A write to many
documents it does not repeat: mark what is done, and repeat it yourself.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect

Document = dict[str, Any]
T = TypeVar("T")

NO_SERVER = (
    "Set MONGODB_REPLICA_SET_URI, for example"
    " mongodb://127.0.0.1:27019/cookbook?directConnection=true"
    " after `docker compose up -d --wait mongodb_replica_set`"
)


# --8<-- [start:one]
def count_visit(pages: Collection[Document], page: str) -> None:
    """Add one, once: the driver numbers the write, and the server knows the number."""
    pages.update_one({"_id": {"$eq": page}}, {"$inc": {"visits": 1}}, upsert=True)


# --8<-- [end:one]


# --8<-- [start:many]
def reward(customers: Collection[Document], campaign: str, points: int) -> int:
    """Give points to every customer, once for a campaign; return how many got them now.

    May be repeated at any time: who is marked with the campaign gets nothing more.
    Raises AutoReconnect if the line is lost; then some have got them, or all.
    """
    done = customers.update_many(
        {"campaigns": {"$ne": campaign}},
        {"$inc": {"points": points}, "$push": {"campaigns": campaign}},
    )
    return done.modified_count


def repeat(operation: Callable[[], T], pauses: Iterable[float] = (0.1, 0.5, 2)) -> T:
    """Call the operation, and again after each of pauses (seconds), while the line is
    lost. Only for what may be repeated. After the last pause its error is raised."""
    for pause in pauses:
        try:
            return operation()
        except AutoReconnect:
            time.sleep(pause)
    return operation()


# --8<-- [end:many]


def main() -> None:
    uri = os.environ.get("MONGODB_REPLICA_SET_URI") or sys.exit(NO_SERVER)
    with MongoClient[Document](uri, timeoutMS=10_000) as client:
        db = client.get_default_database()
        print("writes are retried:", client.options.retry_writes)
        count_visit(db["page"], "/start")
        print("visits:", db["page"].find_one({"_id": "/start"}, {"_id": False}))
        customers = db["customer"]
        customers.insert_many({"_id": n, "points": 10} for n in range(3))
        for attempt in ("first", "second"):
            count = repeat(lambda: reward(customers, "winter", 100))
            print(f"{attempt} attempt rewarded {count}")
        print("points:", *(found["points"] for found in customers.find()))


if __name__ == "__main__":
    main()
