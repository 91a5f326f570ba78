# /// script
# requires-python = ">=3.11"
# dependencies = ["pymongo>=4.15"]
# ///
"""Create indexes: unique, partial, compound, and one that expires documents.

Run it at each start or deployment. What is there already is left alone, and an index
that was defined differently is an error, not a surprise in production.
"""

import os
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel, MongoClient
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

Document = dict[str, Any]

NO_SERVER = (
    "Set MONGODB_URI, for example"
    " mongodb://127.0.0.1:27018/cookbook?directConnection=true"
    " after `docker compose up -d --wait mongodb`"
)

# --8<-- [start:indexes]
INDEXES = {
    "account": [
        # Among those that are not deleted: the name is free again afterwards.
        IndexModel(
            {"email": ASCENDING},
            name="email_once",
            unique=True,
            partialFilterExpression={"deleted": False},
        ),
    ],
    "order": [
        # Equality first, then the order of sorting: one index serves both.
        IndexModel({"customer": ASCENDING, "placed": DESCENDING}, name="by_customer"),
    ],
    "session": [
        # Gone at the time that the field holds, or up to a minute later.
        IndexModel({"expires": ASCENDING}, name="expiry", expireAfterSeconds=0),
    ],
}


def create_indexes(db: Database[Document]) -> list[str]:
    """Make what is missing of INDEXES; return the names of all.

    Raises OperationFailure if an index of that name is defined in another way, and
    DuplicateKeyError if documents break a unique one: then that one is not made.
    """
    names: list[str] = []
    for collection, indexes in INDEXES.items():
        names += db[collection].create_indexes(indexes)
    return names


# --8<-- [end:indexes]


# --8<-- [start:use]
def register(accounts: Collection[Document], email: str) -> None:
    """Store an account. Raises ValueError if the address is taken."""
    if "@" not in email:
        raise ValueError(f"{email!r} is no address")
    try:  # the index decides: a look beforehand would leave a gap
        accounts.insert_one({"email": email.casefold(), "deleted": False})
    except DuplicateKeyError:
        raise ValueError(f"{email} is taken") from None


def find_session(
    sessions: Collection[Document], token: str, now: datetime
) -> Document | None:
    """Return the session, if it has not expired: the server deletes it later."""
    return sessions.find_one({"_id": {"$eq": token}, "expires": {"$gt": now}})


# --8<-- [end:use]


def main() -> None:
    uri = os.environ.get("MONGODB_URI") or sys.exit(NO_SERVER)
    with MongoClient[Document](uri, timeoutMS=10_000, tz_aware=True) as client:
        db = client.get_default_database()
        for _ in range(2):  # the second time does nothing
            print("indexes:", *create_indexes(db))
        register(db["account"], "anna@example.com")
        try:
            register(db["account"], "Anna@example.com")
        except ValueError as error:
            print("refused:", error)
        now = datetime.now(UTC)
        db["session"].insert_one({"_id": "t1", "expires": now + timedelta(minutes=20)})
        for minutes in (10, 30):
            found = find_session(db["session"], "t1", now + timedelta(minutes=minutes))
            print(f"after {minutes} minutes:", "signed in" if found else "signed out")


if __name__ == "__main__":
    main()
