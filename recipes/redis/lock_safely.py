# /// script
# requires-python = ">=3.11"
# dependencies = ["redis>=6"]
# ///
"""Lock a resource across processes.

A lock that ends by itself can end too early. So the holder also gets a number that
grows, and the resource refuses a smaller number than it has seen.
"""

import os
import sqlite3
import sys

from redis import Redis
from redis.exceptions import LockError
from redis.lock import Lock

# --8<-- [start:lock]
# The number must come with the lock, in one step: later is too late. GET: for a retry.
ACQUIRE = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
    return redis.call('INCR', KEYS[2])
end
if redis.call('GET', KEYS[1]) == ARGV[1] then
    return tonumber(redis.call('GET', KEYS[2]))
end
"""


class FencedLock(Lock):
    """redis-py's lock, with a number that is greater for each new holder.

    `with` raises LockError when the lock does not come in time, and when it was lost.
    """

    timeout: float

    def __init__(self, client: Redis, name: str, ttl: float, wait: float) -> None:
        """The lock ends `ttl` seconds after the last `reacquire()`."""
        # The braces put both keys in one slot of a cluster.
        super().__init__(
            client, f"lock:{{{name}}}", timeout=ttl, blocking_timeout=wait, sleep=0.05
        )

    def do_acquire(self, token: str) -> bool:
        keys = (self.name, f"{self.name}:fence")
        fence = self.redis.eval(ACQUIRE, 2, *keys, token, int(self.timeout * 1000))
        self.local.fence = fence
        return fence is not None

    @property
    def fence(self) -> int:
        """The number to send with every write."""
        return int(self.local.fence)


# --8<-- [end:lock]

# --8<-- [start:save]
SCHEMA = "CREATE TABLE report (name TEXT PRIMARY KEY, body TEXT, fence INTEGER)"


def save(db: sqlite3.Connection, name: str, body: str, fence: int) -> None:
    """Write the report. Raises LockError if a later holder has written already."""
    with db:
        done = db.execute(
            "INSERT INTO report VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE"
            " SET body = excluded.body, fence = excluded.fence"
            " WHERE report.fence <= excluded.fence",
            (name, body, fence),
        )
    if not done.rowcount:
        raise LockError(f"{name}: number {fence} is too old", lock_name=name)


# --8<-- [end:save]

NO_SERVER = (
    "Set REDIS_URL, for example redis://:cook@127.0.0.1:16379/0"
    " after `docker compose up -d --wait redis`"
)


def main() -> None:
    url = os.environ.get("REDIS_URL") or sys.exit(NO_SERVER)
    db = sqlite3.connect(":memory:")  # stands for any store with a conditional write
    db.execute(SCHEMA)
    with Redis.from_url(url, socket_timeout=5) as client:
        for worker in ("anna", "ben"):
            lock = FencedLock(client, "report", ttl=10, wait=5)
            with lock:
                save(db, "november", f"half, by {worker}", lock.fence)
                lock.reacquire()  # 10 s more, or LockError if the lock is gone
                save(db, "november", f"done, by {worker}", lock.fence)
                print(f"{worker} wrote with number {lock.fence}")
        try:
            save(db, "november", "late, by anna", fence=1)
        except LockError as error:
            print(f"refused: {error}")
        print("the report says:", *db.execute("SELECT body FROM report").fetchone())
    db.close()


if __name__ == "__main__":
    main()
