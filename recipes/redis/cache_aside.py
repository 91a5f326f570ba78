# /// script
# requires-python = ">=3.11"
# dependencies = ["redis>=6"]
# ///
"""Cache slow reads beside the database.

One caller loads a missing value, the others wait for it. A value that was changed
while it was loaded is not kept, and a cache that is down does not stop the service.
"""

import json
import logging
import os
import random
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import uuid4

from redis import Redis
from redis.exceptions import RedisError

# --8<-- [start:scripts]
# Give the value; where there is none, give one caller the lease to load it.
LOOK = """
local value = redis.call('GET', KEYS[1])
local mine = not value and redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2])
return {value, mine and 1 or 0}
"""
# Give the lease back, and keep the value. Not after `forget`, and not too late.
KEEP = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return end
redis.call('DEL', KEYS[2])
if ARGV[2] then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
"""
# --8<-- [end:scripts]


# --8<-- [start:cache]
class Cache:
    """Keep values that JSON can hold for `ttl` seconds, None for `ttl_missing`.

    A load may take `lease` seconds before another caller tries. Jitter: 10 %.
    """

    def __init__(
        self, client: Redis, ttl: float = 300, ttl_missing: float = 10, lease: float = 5
    ) -> None:
        self.client, self.lease = client, lease
        self.ttl, self.ttl_missing = ttl, ttl_missing
        self.look, self.keep = map(client.register_script, (LOOK, KEEP))

    def get(self, key: str, load: Callable[[], Any]) -> Any:
        """Return the cached value, or what `load` gives. Raises only what it raises."""
        keys, token = self._keys(key), uuid4().hex
        try:
            value = self._wait(keys, token)
        except RedisError as error:
            logging.warning("cache is down, load %s: %s", key, error)
            return load()
        if value is not None:
            return json.loads(value)
        kept: list[str | int] = []
        try:
            result = load()
            ttl = self.ttl_missing if result is None else self.ttl
            # Keys that were loaded together must not end together.
            kept = [json.dumps(result), int(ttl * random.uniform(900, 1100))]
            return result
        finally:  # where the load failed, too: let the next caller try at once
            with suppress(RedisError):
                self.keep(keys, [token, *kept])

    def forget(self, key: str) -> None:
        """Call this after the commit of a change. Raises RedisError."""
        self.client.delete(*self._keys(key))

    def _wait(self, keys: list[str], token: str) -> Any:
        deadline = time.monotonic() + self.lease
        while True:
            value, mine = self.look(keys, [token, int(self.lease * 1000)])
            if value is not None or mine or time.monotonic() > deadline:
                return value
            time.sleep(0.02)

    def _keys(self, key: str) -> list[str]:
        return [f"cache:{{{key}}}", f"cache:{{{key}}}:lease"]  # one slot of a cluster


# --8<-- [end:cache]

NO_SERVER = (
    "Set REDIS_URL, for example redis://:cook@127.0.0.1:16379/0"
    " after `docker compose up -d --wait redis`"
)


def main() -> None:
    url = os.environ.get("REDIS_URL") or sys.exit(NO_SERVER)
    prices = {"tea": "3.20"}

    def load(product: str) -> str | None:
        print(f"  the database is asked for {product}")
        return prices.get(product)

    # Short timeouts and no retries: to wait for a cache makes no sense.
    with Redis.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5) as client:
        cache = Cache(client)
        for product in ("tea", "tea", "coal", "coal", "tea"):
            print(f"{product} costs {cache.get(product, partial(load, product))}")
            if product == "coal":
                prices["tea"] = "3.40"
                cache.forget("tea")


if __name__ == "__main__":
    main()
