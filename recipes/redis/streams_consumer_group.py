# /// script
# requires-python = ">=3.11"
# dependencies = ["redis>=6"]
# ///
"""Share work through a stream and lose none of it.

A consumer group gives each entry to one consumer, again and again until it is
acknowledged. What a crash left behind is taken over; what always fails is put aside.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

Fields = dict[Any, Any]
log = logging.getLogger(__name__)


# --8<-- [start:group]
class Group:
    """A group of consumers of one stream; the client has `decode_responses=True`.

    An entry is taken over after `idle` seconds without acknowledgement: longer than
    the slowest batch of ten. After `tries` deliveries it goes to `dead`.
    """

    def __init__(
        self, client: Redis, stream: str, name: str, idle: float = 60, tries: int = 3
    ) -> None:
        self.client, self.stream, self.name = client, stream, name
        self.idle, self.tries, self.dead = idle, tries, f"{stream}:dead"
        try:
            # "0": also what was added before the group was made; "$" skips that.
            client.xgroup_create(stream, name, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def work(
        self, consumer: str, handle: Callable[[str, Fields], None], wait: float = 2
    ) -> int:
        """Handle what was left behind, then up to ten new entries; return how many.

        Waits `wait` seconds for new entries: less than the client's socket timeout.
        `handle` may get an entry twice. If it raises, the entry comes back later.
        """
        done = 0
        for entry, fields in self._entries(consumer, wait):
            try:
                handle(entry, fields)
            except Exception:
                log.exception("entry %s of %s comes back", entry, self.stream)
            else:
                self.client.xack(self.stream, self.name, entry)
                done += 1
        return done

    def _entries(self, consumer: str, wait: float) -> Iterator[tuple[str, Fields]]:
        who, start = (self.stream, self.name, consumer), ""
        while start != "0-0":
            start, entries, _ = self.client.xautoclaim(
                *who, int(self.idle * 1000), start or "0-0", count=10
            )
            for entry, fields in entries:
                if self._is_to_do(entry, fields):
                    yield entry, fields
        new: Any = self.client.xreadgroup(
            self.name, consumer, {self.stream: ">"}, count=10, block=int(wait * 1000)
        )
        for _, entries in new:
            yield from entries

    def _is_to_do(self, entry: str, fields: Fields) -> bool:
        """Look before the work: an entry may kill each process that handles it."""
        seen = self.client.xpending_range(self.stream, self.name, entry, entry, 1)
        if not seen:
            return False  # its slow owner has just acknowledged it
        if int(seen[0]["times_delivered"]) <= self.tries:
            return True
        with self.client.pipeline(transaction=True) as both:
            both.xadd(self.dead, {**fields, "entry": entry, "group": self.name})
            both.xack(self.stream, self.name, entry)
            both.execute()
        log.error("entry %s of %s was put aside", entry, self.stream)
        return False


# --8<-- [end:group]


# --8<-- [start:trim]
def trim(client: Redis, stream: str) -> int:
    """Remove the entries that every group has acknowledged; return how many."""
    needed = [
        client.xpending(stream, group["name"])["min"] or group["last-delivered-id"]
        for group in client.xinfo_groups(stream)
    ]
    if not needed:
        return 0
    first = min(needed, key=lambda entry: tuple(map(int, entry.split("-"))))
    return int(client.xtrim(stream, minid=first, approximate=False))


# --8<-- [end:trim]

NO_SERVER = (
    "Set REDIS_URL, for example redis://:cook@127.0.0.1:16379/0"
    " after `docker compose up -d --wait redis`"
)


def main() -> None:
    url = os.environ.get("REDIS_URL") or sys.exit(NO_SERVER)
    logging.disable(logging.ERROR)  # the failures below are made on purpose

    def handle(entry: str, fields: Fields) -> None:
        if fields["order"] == "bad":
            raise ValueError("no such order")
        print(f"handled order {fields['order']}")

    with Redis.from_url(url, socket_timeout=5, decode_responses=True) as client:
        group = Group(client, "orders", "billing", idle=0)
        for order in ("1", "bad", "2"):
            client.xadd("orders", {"order": order})
        # Anna dies with the first entry in her hands. Ben works on.
        client.xreadgroup("billing", "anna", {"orders": ">"}, count=1)
        for _ in range(4):
            group.work("ben", handle, wait=0.01)
        print("put aside:", [f["order"] for _, f in client.xrange(group.dead)])
        print("pending:", client.xpending("orders", "billing")["pending"])
        print("trimmed:", trim(client, "orders"))


if __name__ == "__main__":
    main()
