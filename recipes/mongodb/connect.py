# /// script
# requires-python = ">=3.11"
# dependencies = ["pymongo>=4.15"]
# ///
"""Connect, and never wait for ever.

One client for the whole process. It fails at once where the address is missing, it
asks the server before anybody relies on it, and every operation has a deadline.
"""

import os
import sys
from typing import Any
from urllib.parse import quote

from pymongo import MongoClient

Document = dict[str, Any]

NO_SERVER = (
    "Set MONGODB_URI, for example"
    " mongodb://127.0.0.1:27018/cookbook?directConnection=true"
    " after `docker compose up -d --wait mongodb`"
)


# --8<-- [start:connect]
def connect(
    uri: str | None, *, timeout: float = 10, size: int = 50
) -> MongoClient[Document]:
    """Return a client that has reached its server. Threads share it; close it at exit.

    Each operation ends after `timeout` seconds: the search for a server, the wait for
    one of `size` connections, the answer, and the retry together. Raises ValueError
    (no address), ConnectionFailure (no server), OperationFailure (wrong password).
    """
    if not uri:  # pymongo would go to localhost:27017, whatever runs there
        raise ValueError("the address of MongoDB is missing")
    client: MongoClient[Document] = MongoClient(
        uri,
        timeoutMS=round(timeout * 1000),
        serverSelectionTimeoutMS=min(round(timeout * 1000), 5000),  # 30 s otherwise
        maxPoolSize=size,
        tz_aware=True,  # dates come back in UTC and say so
    )
    try:
        client.admin.command("ping")  # the constructor asks nobody
    except BaseException:
        client.close()
        raise
    return client


# --8<-- [end:connect]


# --8<-- [start:uri]
def make_uri(hosts: str, user: str, password: str, database: str) -> str:
    """Return the address of parts that may hold any character, such as @ / : or %."""
    user, password = quote(user, safe=""), quote(password, safe="")
    return f"mongodb://{user}:{password}@{hosts}/{quote(database)}?authSource=admin"


# --8<-- [end:uri]


def main() -> None:
    uri = os.environ.get("MONGODB_URI") or sys.exit(NO_SERVER)
    with connect(uri) as client:
        print("ping:", client.admin.command("ping")["ok"])
        print("an operation may take", client.options.timeout, "s")
        visits = client.get_default_database()[
            "visit"
        ]  # the one that the address names
        visits.insert_one({"page": "/start"})
        print("visits:", visits.count_documents({}))
    try:
        connect(os.environ.get("MONGO_URL"))  # a slip of the pen
    except ValueError as error:
        print("without an address:", error)


if __name__ == "__main__":
    main()
