# /// script
# requires-python = ">=3.11"
# dependencies = ["redis>=6"]
# ///
"""Connect through a pool that waits, times out and retries.

One pool for the whole process. It survives a cut line and a dead idle connection, and
it never hangs. A command that must not run twice gets an id, so a retry counts once.
"""

import os
import sys

from redis import BlockingConnectionPool, Redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry


# --8<-- [start:connect]
def connect(
    url: str, *, size: int = 20, wait: float = 2, timeout: float = 5, retries: int = 3
) -> Redis:
    """Return a client with a pool of its own; its `close()` closes the pool.

    At most `size` connections. A caller waits `wait` seconds for a free one and
    `timeout` seconds for each answer; then ConnectionError or TimeoutError.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=size,
        timeout=wait,
        socket_connect_timeout=min(timeout, 2),
        socket_timeout=timeout,
        health_check_interval=30,  # idle for longer: PING before the command
        # Must be said here: a pool made from a URL retries nothing by itself.
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=1), retries),
        decode_responses=True,
    )
    return Redis.from_pool(pool)


# --8<-- [end:connect]

# --8<-- [start:once]
# One script, so that the mark and the count happen together or not at all.
COUNT_ONCE = """
if redis.call('SET', KEYS[2], 1, 'NX', 'EX', ARGV[2]) then
    return redis.call('INCRBY', KEYS[1], ARGV[1])
end
return tonumber(redis.call('GET', KEYS[1]))
"""


def count_once(client: Redis, counter: str, event: str, *, by: int = 1) -> int:
    """Add `by` to the counter, once for each event id; return the counter.

    Safe to send again for a day: that is how long the event is remembered.
    """
    # The braces put both keys in one slot of a cluster.
    keys = (f"{{{counter}}}", f"{{{counter}}}:seen:{event}")
    return int(client.eval(COUNT_ONCE, 2, *keys, by, 86_400))


# --8<-- [end:once]

NO_SERVER = (
    "Set REDIS_URL, for example redis://:cook@127.0.0.1:16379/0"
    " after `docker compose up -d --wait redis`"
)


def main() -> None:
    url = os.environ.get("REDIS_URL") or sys.exit(NO_SERVER)
    with connect(url) as client:
        client.set("greeting", "hello", ex=60)
        print(client.get("greeting"))
        for attempt in ("first", "second"):
            total = count_once(client, "orders", "order-1001")
            print(f"{attempt} attempt: {total} order")


if __name__ == "__main__":
    main()
