# /// script
# requires-python = ">=3.11"
# dependencies = ["redis>=6"]
# ///
"""Limit the rate of requests with one script.

Never more than so many requests in any window of time, however many processes ask at
once. Script and clock are the server's, so nobody gets in between.
"""

import os
import sys
from uuid import uuid4

from redis import Redis

# --8<-- [start:limit]
# Times are in microseconds: whole numbers that Lua keeps exact.
TAKE = """
local time = redis.call('TIME')
local now, window = time[1] * 1000000 + time[2], tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
if redis.call('ZSCORE', KEYS[1], ARGV[3]) then
    return 0  -- the same request, sent again
end
if redis.call('ZCARD', KEYS[1]) < tonumber(ARGV[1]) then
    redis.call('ZADD', KEYS[1], now, ARGV[3])
    redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000))
    return 0
end
local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return oldest[2] + window - now
"""


class RateLimit:
    """At most `limit` requests in any `window` seconds, for each key."""

    def __init__(self, client: Redis, limit: int, window: float) -> None:
        self.limit, self.window = limit, window
        # Sends EVALSHA; where the server does not know the script, loads it first.
        self._take = client.register_script(TAKE)

    def take(self, key: str) -> float:
        """Return 0 if the request may go on, else the seconds to wait.

        Raises RedisError: decide whether you serve or refuse without the limit.
        """
        window, request = int(self.window * 1_000_000), uuid4().hex
        wait = self._take([f"rate:{key}"], [self.limit, window, request])
        return int(wait) / 1_000_000


# --8<-- [end:limit]

NO_SERVER = (
    "Set REDIS_URL, for example redis://:cook@127.0.0.1:16379/0"
    " after `docker compose up -d --wait redis`"
)


def main() -> None:
    url = os.environ.get("REDIS_URL") or sys.exit(NO_SERVER)
    with Redis.from_url(url, socket_timeout=1) as client:
        logins = RateLimit(client, limit=3, window=60)
        for user in ("anna", "anna", "anna", "anna", "ben"):
            wait = logins.take(f"login:{user}")
            print(f"{user}:", "429, try again later" if wait else "welcome")


if __name__ == "__main__":
    main()
