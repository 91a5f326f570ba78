# /// script
# requires-python = ">=3.11"
# dependencies = ["redis>=6"]
# ///
"""Receive messages and know what you missed.

Redis keeps nothing for a subscriber that is away. So load everything whenever the
subscription starts anew, or read a stream, which waits for you.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any
from uuid import uuid4

from redis import Redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import TimeoutError as SilenceError

log = logging.getLogger(__name__)


# --8<-- [start:listen]
def listen(
    client: Redis,
    channel: str,
    reload: Callable[[], object],
    stop: Event,
    quiet: float = 10,
) -> Iterator[Any]:
    """Yield messages until `stop` is set; reconnect for ever.

    Calls `reload` when the subscription starts, and each time it starts anew: what was
    sent before is not coming. After `quiet` seconds without a word it asks the server.
    """
    backoff, failures = ExponentialWithJitterBackoff(base=0.05, cap=5), 0
    while not stop.is_set():
        try:
            with client.pubsub() as subscription:  # type: ignore[no-untyped-call]
                subscription.subscribe(channel)
                asked = True
                while not stop.is_set():
                    message = subscription.get_message(timeout=quiet)
                    if message is None and asked:
                        log.warning("subscription to %s is silent", channel)
                        break
                    if asked := message is None:
                        subscription.ping()
                    elif message["type"] == "subscribe":
                        failures = 0
                        reload()
                    elif message["type"] == "message":
                        yield message["data"]
        except (LostError, SilenceError) as error:
            failures += 1
            log.warning("subscription to %s was lost: %s", channel, error)
            stop.wait(backoff.compute(failures))


# --8<-- [end:listen]


# --8<-- [start:follow]
def follow(client: Redis, stream: str, last: str, stop: Event) -> Iterator[Any]:
    """Yield (id, fields) of each entry after `last`; keep the id where it is safe.

    The client's retries bridge an outage: to read twice does no harm.
    """
    while not stop.is_set():
        reply: Any = client.xread({stream: last}, count=100, block=1000)
        for _, entries in reply:
            for last, fields in entries:
                yield last, fields


# --8<-- [end:follow]

NO_SERVER = (
    "Set REDIS_URL, for example redis://:cook@127.0.0.1:16379/0"
    " after `docker compose up -d --wait redis`"
)


def main() -> None:
    url = os.environ.get("REDIS_URL") or sys.exit(NO_SERVER)
    logging.disable(logging.WARNING)  # the line is cut on purpose
    channel = f"prices:{uuid4()}"  # channels are common to all databases of a server
    options: dict[str, Any] = {"socket_timeout": 5, "decode_responses": True}
    with (
        Redis.from_url(url, **options) as admin,
        Redis.from_url(url, client_name=channel, **options) as client,
    ):

        def reload() -> None:
            print("load all prices")
            admin.publish(channel, "coal")

        stop = Event()
        changes = listen(client, channel, reload, stop)
        print("changed:", next(changes))
        for connection in admin.client_list():
            if connection["name"] == channel:
                admin.client_kill_filter(_id=connection["id"])
        print("receivers while away:", admin.publish(channel, "tea"))
        print("changed:", next(changes))

        for product in ("coal", "tea"):
            admin.xadd("changes", {"product": product})
        for _, fields in follow(client, "changes", "0-0", stop):
            print("in the stream:", fields["product"])
            if fields["product"] == "tea":
                break


if __name__ == "__main__":
    main()
