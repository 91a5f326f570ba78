# /// script
# requires-python = ">=3.11"
# dependencies = ["fastapi>=0.121", "psycopg[binary,pool]>=3.2", "uvicorn>=0.38"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Serve a database with FastAPI.

One pool in each process, a deadline for every request, 503 while the database is away.
"""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from threading import Thread
from typing import Annotated, Any, LiteralString
from urllib.request import urlopen
from uuid import UUID

import psycopg
import uvicorn
from fastapi import Body, FastAPI, HTTPException, Request, Response
from psycopg_pool import AsyncConnectionPool

LOG = logging.getLogger("orders")
SCHEMA = "CREATE TABLE orders (id uuid PRIMARY KEY, total numeric(12, 2) NOT NULL)"
UPSERT = """INSERT INTO orders VALUES (%s, %s)
    ON CONFLICT (id) DO UPDATE SET total = EXCLUDED.total RETURNING id"""
Total = Annotated[Decimal, Body(gt=0, max_digits=12, decimal_places=2, embed=True)]
NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


# --8<-- [start:ask]
async def ask(
    pool: AsyncConnectionPool, query: LiteralString, *values: object, within: float
) -> list[tuple[Any, ...]]:
    """Run one statement, commit, return its rows; raise at once when time is over."""

    async def run() -> list[tuple[Any, ...]]:
        async with pool.connection() as conn:
            return await (await conn.execute(query, values)).fetchall()

    task = asyncio.create_task(run())
    if (await asyncio.wait([task], timeout=within))[0]:  # timeout() would wait longer
        return task.result()
    task.cancel()
    raise psycopg.OperationalError(f"no answer within {within} s")


# --8<-- [end:ask]


# --8<-- [start:app]
def make_app(deadline: float = 5, probe_deadline: float = 1) -> FastAPI:
    """For `uvicorn --factory fastapi_service:make_app --workers 2`; in seconds."""

    async def check(conn: psycopg.AsyncConnection) -> None:
        try:
            await AsyncConnectionPool.check_connection(conn)  # a round trip
        except psycopg.Error:
            await pool.drain()  # what killed this one killed the others too
            raise

    pool = AsyncConnectionPool(
        os.environ["POSTGRESQL_URL"],
        max_size=10,  # in each process
        timeout=2,  # seconds that a caller waits for a connection
        max_waiting=50,  # callers in line; the next one is refused at once
        reconnect_timeout=1,  # seconds; by default 300, with pauses that double
        check=check,  # before it is lent
        kwargs={"connect_timeout": 2, "options": "-c statement_timeout=5s"},
        open=False,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with pool:  # opens it, and does not wait for the database
            yield

    app = FastAPI(lifespan=lifespan)

    @app.exception_handler(psycopg.OperationalError)  # PoolTimeout is one too
    async def unavailable(request: Request, error: Exception) -> Response:
        LOG.error("%s %s: %r", request.method, request.url.path, error)
        return Response("try again", 503, {"Retry-After": "1"})  # and no details

    @app.get("/livez")
    async def live() -> str:
        return "alive"  # whatever the database does: a restart would not mend it

    @app.get("/readyz")
    async def ready() -> str:
        await ask(pool, "SELECT 1", within=probe_deadline)
        return "ready"

    @app.put("/orders/{key}", status_code=204)  # the client may send it again
    async def put(key: UUID, total: Total) -> None:
        await ask(pool, UPSERT, key, total, within=deadline)

    @app.get("/orders/{key}")
    async def get(key: UUID) -> dict[str, Decimal]:
        query = "SELECT total FROM orders WHERE id = %s"
        if not (rows := await ask(pool, query, key, within=deadline)):
            raise HTTPException(404)
        return {"total": rows[0][0]}

    return app


# --8<-- [end:app]


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    with psycopg.connect(url, connect_timeout=5) as conn:
        conn.execute(SCHEMA)
        conn.execute("INSERT INTO orders VALUES (%s, 19.90)", (UUID(int=1),))
    server = uvicorn.Server(uvicorn.Config(make_app(), log_config=None))
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    thread = Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    for path in ("/livez", "/readyz", f"/orders/{UUID(int=1)}"):
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            print(answer.status, path, answer.read().decode())
    server.should_exit = True
    thread.join()


if __name__ == "__main__":
    main()
