import asyncio
import json
import logging
import time
from collections.abc import Iterator
from decimal import Decimal
from uuid import UUID, uuid4

import httpx
import psutil
import psycopg
import pytest
from fastapi import Depends, FastAPI
from psycopg_pool import AsyncConnectionPool, TooManyRequests

from recipes.services import fastapi_service
from recipes.services.fastapi_service import SCHEMA, make_app
from tests.recipes.services.serving import Load, Service, serve, wait_for


class PatientPool(AsyncConnectionPool):
    """Waits longer: the machine of a test may be busy."""

    def __init__(self, url: str, **settings) -> None:
        super().__init__(url, **{**settings, "timeout": 30})


class UnlimitedPool(AsyncConnectionPool):
    """Its connections have no limit for a statement."""

    def __init__(self, url: str, **settings) -> None:
        super().__init__(url, **{**settings, "timeout": 30, "kwargs": {}})


@pytest.fixture
def orders(postgresql, monkeypatch) -> Iterator[psycopg.Connection]:
    """A connection to a database with the table, which the service uses too."""
    monkeypatch.setenv("POSTGRESQL_URL", postgresql)
    monkeypatch.setattr(fastapi_service, "AsyncConnectionPool", PatientPool)
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute(SCHEMA)
        yield conn


@pytest.fixture
def proxy(orders, postgresql, fault_proxy, monkeypatch):
    """The service reaches its database through this."""
    proxy = fault_proxy(postgresql)
    monkeypatch.setenv("POSTGRESQL_URL", proxy.url)
    return proxy


def kill(proxy) -> None:
    """As a database that is killed: no connection survives, none is accepted."""
    proxy.refuse()
    proxy.reset_all()


def test_order(orders):
    """An order comes back to the cent, and may be sent again; an unknown one is 404."""
    path = f"/orders/{uuid4()}"
    with serve(make_app(deadline=60)) as client:
        assert client.get(path).status_code == 404
        for _ in range(2):
            assert client.put(path, json={"total": "9999999999.90"}).status_code == 204
        assert client.get(path).json() == {"total": "9999999999.90"}
    assert orders.execute("SELECT count(*) FROM orders").fetchone() == (1,)


@pytest.mark.parametrize("total", ["0", "-1", "1.005", "NaN", "10000000000", "x"])
def test_bad_total(orders, total):
    """A total that the column cannot hold, or that is not above zero, is refused."""
    with serve(make_app(deadline=60)) as client:
        put = client.put(f"/orders/{uuid4()}", json={"total": total})
    assert put.status_code == 422
    assert orders.execute("SELECT count(*) FROM orders").fetchone() == (0,)


def test_without_database(proxy):
    """It starts without a database: alive, not ready, and ready when it is there."""
    proxy.refuse()
    with serve(make_app(deadline=60)) as client:
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").status_code == 503
        assert client.get("/livez").status_code == 200
        proxy.refuse(False)
        wait_for(lambda: client.get("/readyz").status_code == 200)


def test_dead_connections(orders, proxy):
    """The connections that idled in the pool have died: no request sees it."""
    with serve(make_app(deadline=60)) as client:
        wait_for(lambda: proxy.connections == 4)
        wait_for(lambda: client.get("/readyz").status_code == 200)
        proxy.reset_all()
        put = client.put(f"/orders/{uuid4()}", json={"total": "2"})
        assert put.status_code == 204


def test_no_details(proxy, caplog):
    """The 503 says nothing of the database; the log holds the reason."""
    proxy.refuse()
    with serve(make_app(deadline=0.3)) as client:
        answer = client.get(f"/orders/{uuid4()}")
    assert answer.status_code == 503
    assert answer.text == "try again"
    assert answer.headers["Retry-After"] == "1"
    assert "no answer within 0.3 s" in caplog.text


@pytest.mark.parametrize("path", ["/readyz", f"/orders/{UUID(int=1)}"])
def test_silent_database(proxy, path):
    """A database that takes the question and stays silent: 503, by the deadline."""
    with serve(make_app(deadline=0.2, probe_deadline=0.2)) as client:
        wait_for(lambda: client.get("/readyz").status_code == 200)
        proxy.black_hole()
        took = []
        while len(took) < 3 and min(took, default=5) > 4:  # a machine may be busy
            started = time.monotonic()
            assert client.get(path).status_code == 503
            took.append(time.monotonic() - started)
        assert client.get("/livez").status_code == 200
        proxy.black_hole(False)
    assert 0.2 <= min(took) < 4  # psycopg waits 5 s for the answer to its cancel


def test_deadline(orders, postgresql, monkeypatch):
    """Over its deadline a write is cancelled on the server too, and changes nothing."""
    # Without the limit of the connection, which would end the statement as well.
    monkeypatch.setattr(fastapi_service, "AsyncConnectionPool", UnlimitedPool)
    key = uuid4()
    orders.execute("INSERT INTO orders VALUES (%s, 1)", (key,))
    active = """SELECT count(*) FROM pg_stat_activity WHERE state = 'active'
        AND datname = current_database() AND pid <> pg_backend_pid()"""
    path = f"/orders/{key}"
    with serve(make_app(deadline=0.5)) as client, psycopg.connect(postgresql) as holder:
        wait_for(lambda: client.get(path).status_code == 200)
        holder.execute("SELECT FROM orders FOR UPDATE")
        assert client.put(path, json={"total": "2"}).status_code == 503
        wait_for(lambda: orders.execute(active).fetchone() == (0,))
        holder.rollback()
        wait_for(lambda: client.get(path).status_code == 200)
    assert orders.execute("SELECT total FROM orders").fetchone() == (1,)


def test_statement_timeout(orders):
    """Every connection of the pool has a limit for a statement, on the server."""
    orders.execute("""
        CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION '%', current_setting('statement_timeout')
        USING ERRCODE = 'query_canceled'; END $$;
        CREATE TRIGGER look BEFORE INSERT ON orders EXECUTE FUNCTION look();
    """)
    with serve(make_app(deadline=60)) as client, pytest.MonkeyPatch.context() as patch:
        said = []
        logger = logging.getLogger("orders")
        patch.setattr(logger, "error", lambda *args: said.append(args[-1]))
        put = client.put(f"/orders/{uuid4()}", json={"total": "2"})
    assert put.status_code == 503
    assert said[0].diag.message_primary == "5s"


def test_too_many_callers(orders, postgresql, caplog):
    """Of 70 requests at the same time, ten run and fifty wait; the rest is refused."""

    async def put(client: httpx.AsyncClient) -> int:
        path = f"/orders/{uuid4()}"
        return (await client.put(path, json={"total": "2"})).status_code

    async def put_all(url: httpx.URL) -> list[int]:
        limits = httpx.Limits(max_connections=70)
        async with httpx.AsyncClient(
            base_url=url, timeout=60, trust_env=False, limits=limits
        ) as client:
            return await asyncio.gather(*(put(client) for _ in range(70)))

    app = make_app(deadline=0.5)
    with serve(app) as client, psycopg.connect(postgresql) as holder:
        holder.execute("LOCK orders")
        answers = asyncio.run(put_all(client.base_url))
    assert set(answers) == {503}
    errors = [record.args[-1] for record in caplog.records if record.name == "orders"]
    assert sum(isinstance(error, TooManyRequests) for error in errors) >= 10


def refuse_at_commit(conn: psycopg.Connection) -> None:
    """Let an INSERT succeed, and its COMMIT fail."""
    conn.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = '23514'; END $$;
        CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON orders
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
    """)


def test_commit_comes_before_the_answer(orders):
    """A COMMIT that fails is an error for the client, never a 204."""
    refuse_at_commit(orders)
    with serve(make_app(deadline=60)) as client:
        put = client.put(f"/orders/{uuid4()}", json={"total": "2"})
    assert put.status_code == 500
    assert put.text == "Internal Server Error"


def test_two_workers_survive_an_outage(orders, proxy):
    """Two workers under load, and the database goes away and comes back: no wrong
    answer, every accepted order is there, and service is back within 10 s."""
    command = "uvicorn --factory recipes.services.fastapi_service:make_app"
    options = ["--workers", "2", "--port", "0", "--no-access-log"]
    options += ["--timeout-worker-healthcheck", "60"]  # the machine may be busy
    service = Service(["-m", *command.split(), *options], {"POSTGRESQL_URL": proxy.url})
    try:
        load = Load(service.when_up(workers=2))
        try:
            wait_for(lambda: load.puts[204] >= 100)
            workers = service.said(r"Started server process \[(\d+)\]")
            wait_for(lambda: all(pool_of(worker, proxy.port) for worker in workers))
            pools = [pool_of(worker, proxy.port) for worker in workers]
            kill(proxy)
            wait_for(lambda: load.puts[503] >= 4)
            proxy.refuse(False)
            back = time.monotonic()
            before = load.puts[204]
            wait_for(lambda: load.puts[204] >= before + 100, within=60)
        finally:
            load.close()
    finally:
        service.close()
    assert pools[0].isdisjoint(pools[1])  # a connection is never shared

    said = [json.loads(line) for line in load.lines]
    assert {one["put"] for one in said} == {204, 503}
    stored = dict(orders.execute("SELECT id::text, total FROM orders").fetchall())
    for one in said:
        if one["put"] == 204:
            assert stored[one["key"]] == Decimal(one["total"])
            assert one["get"] in (200, 503)
        if one.get("get") == 200:
            assert json.loads(one["got"]) == {"total": one["total"]}
    served = [one["at"] for one in said if one["put"] == 204 and one["at"] > back]
    assert min(served) - back < 10  # 0.03 to 1 s, where this was written


def pool_of(worker: str, port: int) -> set[int]:
    """The ports from which the worker is connected to its database."""
    connections = psutil.Process(int(worker)).net_connections("tcp")
    return {it.laddr.port for it in connections if it.raddr and it.raddr.port == port}


# --8<-- [start:wrong]
def health_as_often_copied(dsn):
    app = FastAPI()

    @app.get("/health")
    def health():
        try:
            with psycopg.connect(dsn) as conn:
                conn.execute("SELECT 1")
            return {"status": "ok"}
        except Exception as e:
            return {"status": "fail", "error": str(e)}

    return app


# --8<-- [end:wrong]


def test_often_copied_says_200(orders, proxy):
    """Often copied: without its database it answers 200, with host and port."""
    proxy.refuse()
    with serve(health_as_often_copied(proxy.url)) as client:
        answer = client.get("/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "fail"
    assert str(proxy.port) in answer.json()["error"]


def test_often_copied_hangs(orders, proxy):
    """Often copied: while the database is silent, the probe has no answer at all."""
    proxy.black_hole()
    with serve(health_as_often_copied(proxy.url)) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.get("/health", timeout=1)
        proxy.black_hole(False)


# --8<-- [start:wrong_commit]
def service_as_often_copied(pool):
    app = FastAPI()

    async def get_db():
        async with pool.connection() as conn:
            yield conn

    @app.post("/orders/{key}", status_code=201)
    async def create(key: str, total: Decimal, conn=Depends(get_db)):
        await conn.execute("INSERT INTO orders VALUES (%s, %s)", (key, total))
        return {"created": key}

    return app


# --8<-- [end:wrong_commit]


def test_often_copied_commits_after_the_answer(orders, postgresql, caplog):
    """Often copied: a dependency commits after the answer, which says 201 of an order
    that is not there."""
    refuse_at_commit(orders)
    pool = AsyncConnectionPool(postgresql, open=False, min_size=1)
    app = service_as_often_copied(pool)
    app.router.on_startup.append(pool.open)
    app.router.on_shutdown.append(pool.close)
    with serve(app) as client:
        answer = client.post(f"/orders/{uuid4()}?total=2")
    assert answer.status_code == 201
    assert orders.execute("SELECT count(*) FROM orders").fetchone() == (0,)
