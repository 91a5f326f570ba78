import asyncio
import contextlib
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
import psycopg
import pytest
import uvicorn
from fastapi import FastAPI

from recipes.services.graceful_shutdown import (
    SCHEMA,
    DrainingServer,
    make_app,
    serve,
)
from tests.recipes.services.serving import Service, wait_for


def serve_here(url: str, drain: str, grace: str) -> None:
    """In a process of its own: serve, and say where."""
    serve(url, listen(), drain=float(drain), grace=int(grace))


def listen() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    print("running on http://127.0.0.1:{1}".format(*listener.getsockname()), flush=True)
    return listener


@pytest.fixture
def orders(postgresql):
    """A connection to a database with the table."""
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute(SCHEMA)
        yield conn


@pytest.fixture
def start(postgresql, orders):
    """Start a service, which is ready."""
    services = []

    def start(function: str = "serve_here", *args: object) -> Service:
        here = "tests.recipes.services.test_graceful_shutdown"
        code = f"import sys; from {here} import {function} as f; f(*sys.argv[1:])"
        url = f"{postgresql}?application_name=service"
        command = ["-c", code, url, *map(str, args)]
        services.append(Service(command, {}))
        wait_for(
            lambda: (
                httpx.get(f"{services[-1].url}/readyz", timeout=60).status_code == 204
            )
        )
        return services[-1]

    yield start
    for service in services:
        service.close()


def terminate(service: Service) -> None:
    service.process.send_signal(signal.SIGTERM)


def drains(service: Service) -> bool:
    return httpx.get(f"{service.url}/readyz", timeout=60).status_code == 503


def stored(conn: psycopg.Connection) -> int:
    (count,) = conn.execute("SELECT count(*) FROM orders").fetchone()
    return count


@contextlib.contextmanager
def order_in_flight(orders, postgresql, service: Service):
    """An order that waits for a lock: its future, and the connection that holds it."""
    waiting = """SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'service'
        AND pg_blocking_pids(pid) <> '{}'"""
    # Should the test fail, the lock goes first: the order would wait for it.
    with ThreadPoolExecutor() as threads, psycopg.connect(postgresql) as holder:
        holder.execute("LOCK orders IN SHARE MODE")
        path = f"{service.url}/orders/{uuid4()}"
        future = threads.submit(httpx.put, path, timeout=60)
        wait_for(lambda: orders.execute(waiting).fetchone() == (1,))
        yield future, holder


def test_no_request_is_lost(start, orders):
    """SIGTERM under load, while the balancer changes over to the next version: every
    order is accepted, and every one is stored."""
    old, new = start("serve_here", 60, 20), start("serve_here", 60, 20)
    balancer = {"to": old.url}
    stop = threading.Event()
    answers: list[tuple[str, int]] = []

    def put_orders() -> None:
        with httpx.Client(timeout=60, trust_env=False) as client:
            for _ in range(5_000):
                if stop.wait(0.005):
                    return
                to = balancer["to"]
                answer = client.put(f"{to}/orders/{uuid4()}")
                answers.append((to, answer.status_code))

    def served_by(url: str) -> int:
        return sum(to == url for to, _ in answers)

    with ThreadPoolExecutor() as threads:
        try:
            running = [threads.submit(put_orders) for _ in range(4)]
            wait_for(lambda: served_by(old.url) >= 50)
            terminate(old)
            wait_for(lambda: drains(old))
            draining_since = served_by(old.url)
            wait_for(lambda: served_by(old.url) >= draining_since + 50)
            balancer["to"] = new.url
            wait_for(lambda: served_by(new.url) >= 50)
            terminate(old)  # it need not drain for the whole minute
            assert old.process.wait(30) == 0
            before = served_by(new.url)
            wait_for(lambda: served_by(new.url) >= before + 50)
        finally:
            stop.set()
    for future in running:
        future.result()
    assert {status for _, status in answers} == {204}
    assert stored(orders) == len(answers)


def test_finishes_what_it_has_begun(start, orders, postgresql):
    """An order that is being written when the drain ends is written, and answered."""
    service = start("serve_here", 0, 20)
    with order_in_flight(orders, postgresql, service) as (order, holder):
        terminate(service)
        wait_for(lambda: refuses(service))
        assert not order.done()
        holder.rollback()
        assert order.result().status_code == 204
    assert service.process.wait(30) == 0
    assert stored(orders) == 1


def refuses(service: Service) -> bool:
    with contextlib.suppress(httpx.ReadError, httpx.RemoteProtocolError):
        try:
            httpx.get(f"{service.url}/readyz", timeout=60)
        except httpx.ConnectError:
            return True
    return False


def test_drain_ends_by_itself(start, orders):
    """After the drain it ends by itself, with exit code 0 and no connection left."""
    service = start("serve_here", 0.5, 20)
    terminate(service)
    wait_for(lambda: drains(service))
    assert service.process.wait(30) == 0
    left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'service'"
    wait_for(lambda: orders.execute(left).fetchone() == (0,))


def test_connections_are_closed(start):
    """While it drains, each answer asks the client to connect elsewhere."""
    service = start("serve_here", 60, 20)
    with httpx.Client(base_url=service.url, timeout=60) as client:
        assert "Connection" not in client.put(f"/orders/{uuid4()}").headers
        terminate(service)
        wait_for(lambda: drains(service))
        assert client.put(f"/orders/{uuid4()}").headers["Connection"] == "close"
    terminate(service)


def test_second_signal_in_the_middle_of_the_first(postgresql, monkeypatch):
    """A second SIGTERM may come while the first one is being handled."""
    servers = []
    run = lambda self, sockets: servers.append(self)  # noqa: E731
    monkeypatch.setattr(DrainingServer, "run", run)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serve(postgresql, listener, drain=60)
    (server,) = servers
    again: list[str] = []

    def interrupt(frame, event, _) -> None:
        if event == "call" and (not again or again[-1] == "handled"):
            again.append(frame.f_code.co_name)
            server.handle_exit(signal.SIGTERM, None)
            again.append("handled")

    def interrupted() -> None:
        sys.setprofile(interrupt)
        server.handle_exit(signal.SIGTERM, None)
        sys.setprofile(None)

    thread = threading.Thread(target=interrupted, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert "set" in again
    assert server.draining.is_set()


def test_grace_is_limited(start, orders, postgresql):
    """A request that does not end holds the process no longer than the grace."""
    service = start("serve_here", 0, 1)
    with order_in_flight(orders, postgresql, service) as (order, holder):
        terminate(service)
        assert service.process.wait(30) == 0
        assert order.exception() or order.result().status_code == 500
        holder.rollback()
    assert stored(orders) == 0


# --8<-- [start:wrong]
@asynccontextmanager
async def lifespan(app):
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(0))
    yield


# --8<-- [end:wrong]


def serve_as_often_copied(url: str) -> None:
    app = make_app(url, asyncio.Event())
    outer = FastAPI(lifespan=lambda _: nested(app))
    outer.mount("/", app)
    uvicorn.Server(uvicorn.Config(outer, log_config=None)).run([listen()])


@asynccontextmanager
async def nested(app: FastAPI):
    async with app.router.lifespan_context(app), lifespan(app):
        yield


def serve_plainly(url: str) -> None:
    app = make_app(url, asyncio.Event())
    uvicorn.Server(uvicorn.Config(app, log_config=None)).run([listen()])


def test_often_copied_drops_what_it_does(start, orders, postgresql):
    """Often copied: the handler exits in the middle of an order. The client has an
    error or no answer, and the order is not stored."""
    service = start("serve_as_often_copied")
    with order_in_flight(orders, postgresql, service) as (order, holder):
        terminate(service)
        assert order.exception(30) or order.result().status_code == 500
        holder.rollback()
    service.process.wait(30)
    assert stored(orders) == 0


def test_often_copied_refuses_at_once(start, orders, postgresql):
    """Often copied: uvicorn alone finishes what it does, and refuses connections at
    once, while the balancer still sends."""
    service = start("serve_plainly")
    with order_in_flight(orders, postgresql, service) as (order, holder):
        terminate(service)
        wait_for(lambda: refuses(service))
        holder.rollback()
        assert order.result().status_code == 204
