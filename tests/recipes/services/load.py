"""Puts orders and reads each back, on four threads, until stdin is closed.

A line of JSON for each order. It stops by itself after 4 x 5,000.
"""

import json
import sys
import threading
import time
from uuid import uuid4

import httpx

THREADS, MOST = 4, 5_000


def put_orders(url: str, stop: threading.Event, thread: int) -> None:
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        for n in range(MOST):
            if stop.wait(0.005):
                return
            order = {"key": str(uuid4()), "total": f"{n + 1}.{thread}0"}
            path = f"/orders/{order['key']}"
            put = client.put(path, json={"total": order["total"]})
            at = time.monotonic()
            said = {**order, "put": put.status_code, "at": at}
            if put.status_code == 204:
                got = client.get(path)
                said |= {"get": got.status_code, "got": got.text}
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
