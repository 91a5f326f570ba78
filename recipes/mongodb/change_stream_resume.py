# /// script
# requires-python = ">=3.11"
# dependencies = ["pymongo>=4.15"]
# [tool.cookbook]
# needs = ["mongodb_replica_set"]
# ///
"""Follow the changes of a collection, and go on after a restart.

The place in the stream is stored after the work on a change is done. So a change is
worked on at least once, and none is lost while nobody listens.
"""

import os
import sys
from collections.abc import Generator
from typing import Any

from bson import Timestamp
from pymongo import MongoClient
from pymongo.collection import Collection

Document = dict[str, Any]

NO_SERVER = (
    "Set MONGODB_REPLICA_SET_URI, for example"
    " mongodb://127.0.0.1:27019/cookbook?directConnection=true"
    " after `docker compose up -d --wait mongodb_replica_set`"
)


# --8<-- [start:follow]
def changes(
    watched: Collection[Document],
    places: Collection[Document],
    reader: str,
    *,
    wait: float = 1,
) -> Generator[Document, None, None]:
    """Yield each change since the last call for that reader, then those to come.

    Ends when nothing has come for `wait` seconds: call it again, for ever. Asking for
    the next change says that the work on the last one is done; until then it is
    delivered again, so the work must bear that. Raises OperationFailure with code 286
    (ChangeStreamHistoryLost) if the reader was away for too long: copy everything anew.
    """
    place = places.find_one({"_id": {"$eq": reader}})
    if not place:  # the first call, ever: remember this moment before anything else
        now: Timestamp = watched.database.command("ping")["operationTime"]
        place = {"start_at_operation_time": Timestamp(now.time, now.inc + 1)}
        places.insert_one({"_id": reader, **place})
    place.pop("_id", None)
    with watched.watch(
        **place,
        full_document="updateLookup",  # as it is now, not as it was then
        max_await_time_ms=round(wait * 1000),
    ) as stream:
        while stream.alive:
            change = stream.try_next()
            if change:
                yield change
            if stream.resume_token:  # it moves on without changes too
                token = {"_id": reader, "start_after": stream.resume_token}
                places.replace_one({"_id": reader}, token, upsert=True)
            if not change:
                return


# --8<-- [end:follow]


# --8<-- [start:apply]
def apply(change: Document, copy: Collection[Document]) -> None:
    """Make the copy follow. Applied twice, a change makes the same."""
    match change:
        case {"operationType": "delete", "documentKey": key}:
            copy.delete_one(key)
        case {"operationType": "insert" | "update" | "replace", "documentKey": key}:
            if document := change.get("fullDocument"):  # None: deleted since
                copy.replace_one(key, document, upsert=True)
        case {"operationType": kind}:  # drop, rename, invalidate
            raise RuntimeError(f"cannot follow: {kind}")


# --8<-- [end:apply]


def main() -> None:
    uri = os.environ.get("MONGODB_REPLICA_SET_URI") or sys.exit(NO_SERVER)
    with MongoClient[Document](uri, timeoutMS=10_000) as client:
        db = client.get_default_database()
        orders, places, copy = db["order"], db["place"], db["copy"]
        orders.insert_one({"_id": 0, "status": "before anybody listened"})
        print("at first:", len(list(changes(orders, places, "copier", wait=0.1))))
        orders.insert_many(
            {"_id": n, "status": "new"} for n in (1, 2)
        )  # nobody listens
        orders.update_one({"_id": 1}, {"$set": {"status": "paid"}})
        orders.delete_one({"_id": 2})
        for change in changes(orders, places, "copier", wait=0.1):
            apply(change, copy)
            print(change["operationType"], change["documentKey"]["_id"])
        print("the copy:", *copy.find())


if __name__ == "__main__":
    main()
