# /// script
# requires-python = ">=3.11"
# dependencies = ["fastapi>=0.121", "psycopg[binary,pool]>=3.2", "uvicorn>=0.38"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Shut down without losing a request.

On SIGTERM the service says that it is not ready, and serves on until the balancer has
seen that. Then it finishes what it has begun, and closes its pool.
"""

import asyncio
import math
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from http.client import HTTPConnection
from itertools import count
from threading import Thread
from types import FrameType
from uuid import UUID, uuid4

import psycopg
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Response
from psycopg_pool import AsyncConnectionPool

SCHEMA = "CREATE TABLE orders (id uuid PRIMARY KEY)"
NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


# --8<-- [start:server]
class DrainingServer(uvicorn.Server):
    """On SIGTERM it sets `draining`, and serves on for that many seconds."""

    def __init__(
        self, config: uvicorn.Config, draining: asyncio.Event, drain: float
    ) -> None:
        super().__init__(config)
        self.draining, self.drain = draining, drain
        self.leave_at = math.inf

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Asked twice, it drains no longer. It always finishes what it has begun.
        drain = 0 if self.draining.is_set() else self.drain
        self.leave_at = time.monotonic() + drain
        self.draining.set()

    async def on_tick(self, counter: int) -> bool:  # ten times a second
        return await super().on_tick(counter) or time.monotonic() >= self.leave_at


def serve(
    url: str, listener: socket.socket, *, drain: float = 10, grace: int = 20
) -> None:
    """Serve until SIGTERM; then for `drain` seconds more, and at most `grace` for the
    requests that still run. Together less than the supervisor's patience: 30, often.
    """
    draining = asyncio.Event()  # threading's would lock; a second signal may interrupt
    app = make_app(url, draining)
    config = uvicorn.Config(app, timeout_graceful_shutdown=grace, log_config=None)
    DrainingServer(config, draining, drain).run([listener])


# --8<-- [end:server]


# --8<-- [start:app]
def make_app(url: str, draining: asyncio.Event) -> FastAPI:
    """The service. While it drains it is not ready, and keeps no connection open."""
    pool = AsyncConnectionPool(
        url, timeout=5, kwargs={"connect_timeout": 5}, open=False
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with pool:  # closed after the last answer
            yield

    def leave(response: Response) -> None:
        if draining.is_set():  # the client makes its next connection elsewhere
            response.headers["Connection"] = "close"

    app = FastAPI(lifespan=lifespan, dependencies=[Depends(leave)])

    @app.get("/readyz", status_code=204)
    async def ready() -> None:
        if draining.is_set():
            raise HTTPException(503, headers={"Connection": "close"})

    @app.put("/orders/{key}", status_code=204)
    async def put(key: UUID) -> None:
        async with pool.connection() as conn:
            query = "INSERT INTO orders VALUES (%s) ON CONFLICT DO NOTHING"
            await conn.execute(query, (key,))

    return app


# --8<-- [end:app]


def status(port: int, method: str, path: str) -> int:
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request(method, path)
        return connection.getresponse().status


def ask_and_terminate(port: int) -> None:
    print("ready:", status(port, "GET", "/readyz"))
    os.kill(os.getpid(), signal.SIGTERM)
    answers = (status(port, "GET", "/readyz") for _ in count())
    print("ready after SIGTERM:", next(code for code in answers if code != 204))
    print("an order all the same:", status(port, "PUT", f"/orders/{uuid4()}"))
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    with psycopg.connect(url, connect_timeout=5, autocommit=True) as conn:
        conn.execute(SCHEMA)
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        Thread(target=ask_and_terminate, args=(port,), daemon=True).start()
        serve(url, listener)
        for (count,) in conn.execute("SELECT count(*) FROM orders"):
            print("stopped; orders stored:", count)


if __name__ == "__main__":
    main()
