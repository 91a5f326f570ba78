# /// script
# requires-python = ">=3.11"
# dependencies = ["pymongo>=4.15"]
# ///
"""Use MongoDB from asyncio.

pymongo's own asynchronous client, which took the place of Motor: many requests at once,
but not all of them, deadlines that cancel, and cursors that are closed.
"""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection

Document = dict[str, Any]

NO_SERVER = (
    "Set MONGODB_URI, for example"
    " mongodb://127.0.0.1:27018/cookbook?directConnection=true"
    " after `docker compose up -d --wait mongodb`"
)


# --8<-- [start:client]
async def connect(uri: str, *, timeout: float = 10) -> AsyncMongoClient[Document]:
    """Return a client of the running event loop; `await client.close()` at the end.

    Raises ConnectionFailure or OperationFailure if the server cannot be used.
    """
    client: AsyncMongoClient[Document] = AsyncMongoClient(
        uri, timeoutMS=round(timeout * 1000), tz_aware=True
    )
    try:
        await client.admin.command("ping")
    except BaseException:
        await client.close()
        raise
    return client


# --8<-- [end:client]


# --8<-- [start:many]
async def pay_all(
    orders: AsyncCollection[Document], ids: Iterable[int], *, at_once: int = 10
) -> int:
    """Mark the orders as paid, at_once of them at the same time; return how many were
    not. The first error cancels the others and is raised in an ExceptionGroup."""
    waiting = iter(ids)

    async def work() -> int:
        count = 0
        for number in waiting:  # the workers take turns: one event loop, no lock
            done = await orders.update_one(
                {"_id": number, "status": "new"}, {"$set": {"status": "paid"}}
            )
            count += done.modified_count
        return count

    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(work()) for _ in range(at_once)]
    return sum(worker.result() for worker in workers)


# --8<-- [end:many]


# --8<-- [start:stream]
async def paid(orders: AsyncCollection[Document]) -> AsyncGenerator[int, None]:
    """Yield the ids of the paid orders. Use it in `aclosing` if you may stop early."""
    found = orders.find({"status": "paid"}, {"_id": True}, batch_size=100)  # no await:
    async with found.sort("_id") as cursor:  # it asks nobody before the first step
        async for order in cursor:
            yield order["_id"]


# --8<-- [end:stream]


async def run(uri: str) -> None:
    client = await connect(uri)
    async with client:  # closed at the end
        orders = client.get_default_database()["order"]
        await orders.insert_many({"_id": n, "status": "new"} for n in range(20))
        print("paid:", await pay_all(orders, range(15)))
        print("again:", await pay_all(orders, range(15)))
        async with aclosing(paid(orders)) as numbers:
            async for number in numbers:
                if number == 3:
                    break
        print("stopped at", number)


def main() -> None:
    uri = os.environ.get("MONGODB_URI") or sys.exit(NO_SERVER)
    asyncio.run(run(uri))


if __name__ == "__main__":
    main()
