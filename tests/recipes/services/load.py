"""Puts orders and reads each back, on four threads, until stdin is closed.

A line of JSON for each order. It stops by itself after 4 x 20,000. Each request has a
connection of its own, so that every worker gets some.
"""

import json
import sys
import threading
import time
from typing import Any
from uuid import uuid4

import httpx

THREADS, MOST = 4, 20_000


def ask(client: httpx.Client, method: str, path: str, **more: Any) -> tuple[Any, str]:
    """The status and the text; without an answer the error's name, and nothing."""
    try:
        answer = client.request(method, path, **more)
    except httpx.HTTPError as error:
        return type(error).__name__, ""
    return answer.status_code, answer.text


def put_orders(url: str, stop: threading.Event, thread: int) -> None:
    limits = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(
        base_url=url, timeout=60, trust_env=False, limits=limits
    ) as client:
        for n in range(MOST):
            if stop.wait(0.005):
                return
            order = {"key": str(uuid4()), "total": f"{n + 1}.{thread}0"}
            path = f"/orders/{order['key']}"
            put, _ = ask(client, "PUT", path, json={"total": order["total"]})
            said: dict[str, Any] = {**order, "put": put, "at": time.monotonic()}
            if put == 204:
                said["get"], said["got"] = ask(client, "GET", path)
            sys.stdout.write(json.dumps(said) + "\n")  # in one piece
            sys.stdout.flush()


if __name__ == "__main__":
    stop = threading.Event()
    threads = [
        threading.Thread(target=put_orders, args=(sys.argv[1], stop, number))
        for number in range(THREADS)
    ]
    for one in threads:
        one.start()
    sys.stdin.read()
    stop.set()
