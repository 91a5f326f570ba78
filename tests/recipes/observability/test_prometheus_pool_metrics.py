import threading
from contextlib import ExitStack
from urllib.request import urlopen

import psycopg
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from psycopg_pool import ConnectionPool, PoolTimeout

from recipes.observability.prometheus_pool_metrics import serve_metrics
from tests.recipes.services.serving import wait_for


def scrape(port: int) -> dict[str, float]:
    """What Prometheus reads there."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def make_pool(postgresql):
    pools = []

    def make(url: str = postgresql, **settings: object) -> ConnectionPool:
        settings = {"min_size": 1, "max_size": 2, "timeout": 30, **settings}
        pools.append(ConnectionPool(url, name="orders", open=True, **settings))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture
def scraped():
    """Serve the metrics of these pools; a function that scrapes one of them."""
    with ExitStack() as stack:

        def begin(*pools: ConnectionPool):
            port = stack.enter_context(serve_metrics(*pools, port=0))
            return lambda name, pool="orders": scrape(port)[f"db_pool_{name}['{pool}']"]

        yield begin


def test_idle_and_used(make_pool, scraped):
    """A scrape shows how many connections there are, and how many are idle."""
    pool = make_pool()
    pool.wait(30)
    value = scraped(pool)
    assert (value("max"), value("size"), value("idle")) == (2, 1, 1)
    with pool.connection():
        assert value("idle") == 0
    assert value("idle") == 1


def test_waiting(make_pool, scraped):
    """A caller that waits for a connection is shown while it waits, and counted."""
    pool = make_pool(max_size=1)
    pool.wait(30)
    value = scraped(pool)
    assert value("requests_queued_total") == 0
    with pool.connection():
        threading.Thread(target=lambda: pool.putconn(pool.getconn())).start()
        wait_for(lambda: value("waiting") == 1)
    wait_for(lambda: value("waiting") == 0 and value("idle") == 1)
    assert value("requests_total") == 2
    assert value("requests_queued_total") == 1
    assert value("wait_seconds_total") > 0


def test_timeout(make_pool, scraped):
    """A caller that waited in vain is counted as an error."""
    pool = make_pool(max_size=1)
    value = scraped(pool)
    with pool.connection(), pytest.raises(PoolTimeout):
        pool.getconn(timeout=0.01)
    assert value("requests_errors_total") == 1


def test_usage_in_seconds(make_pool, scraped):
    """The time that connections were in use is in seconds, as Prometheus wants it."""
    pool = make_pool()
    value = scraped(pool)
    with pool.connection() as conn:
        conn.execute("SELECT pg_sleep(0.2)")
    assert 0.2 <= value("usage_seconds_total") < 20


def test_lost(make_pool, scraped, postgresql, fault_proxy):
    """Connections that died, and attempts to connect that failed, are counted."""
    proxy = fault_proxy(postgresql)
    pool = make_pool(proxy.url, check=ConnectionPool.check_connection)
    pool.wait(30)
    value = scraped(pool)
    assert (value("connections_total"), value("connections_lost_total")) == (1, 0)
    proxy.refuse()
    proxy.reset_all()
    with pytest.raises(PoolTimeout):
        pool.getconn(timeout=0.5)
    wait_for(lambda: value("connections_lost_total") == 1)
    wait_for(lambda: value("connections_errors_total") >= 1)


def test_two_scrapers(make_pool, scraped):
    """A scrape takes nothing away: the second scraper reads the same."""
    pool = make_pool()
    value = scraped(pool)
    with pool.connection():
        pass
    assert [value("requests_total") for _ in range(2)] == [1, 1]


def test_two_pools(make_pool, scraped, postgresql):
    """Each pool has its own label."""
    with ConnectionPool(postgresql, name="reports", min_size=3, open=True) as reports:
        reports.wait(30)
        pool = make_pool()
        pool.wait(30)
        value = scraped(pool, reports)
        assert (value("size"), value("size", "reports")) == (1, 3)


def test_without_database(make_pool, scraped):
    """The metrics are there while the database is not."""
    pool = make_pool("postgresql://127.0.0.1:1/", reconnect_timeout=0)
    value = scraped(pool)
    assert value("idle") == 0
    wait_for(lambda: value("connections_errors_total") >= 1)


# --8<-- [start:wrong]
def count_as_often_copied(registry):
    used = Gauge("db_connections_used", "In use", registry=registry)
    queries = Counter("db_queries", "Queries", ["query"], registry=registry)

    def run(pool, query):
        conn = pool.getconn()
        used.inc()
        queries.labels(query).inc()
        rows = conn.execute(query).fetchall()
        used.dec()
        pool.putconn(conn)
        return rows

    return run


# --8<-- [end:wrong]


def test_often_copied_drifts(make_pool):
    """Often copied: after an error the gauge is one too high for ever."""
    registry = CollectorRegistry()
    pool = make_pool(min_size=2)
    run = count_as_often_copied(registry)
    with pytest.raises(psycopg.errors.UndefinedTable):
        run(pool, "SELECT * FROM nowhere")
    run(pool, "SELECT 1")
    assert registry.get_sample_value("db_connections_used") == 1


def test_often_copied_grows(make_pool):
    """Often copied: a query's text as label makes a new series of each user's id."""
    registry = CollectorRegistry()
    pool = make_pool()
    run = count_as_often_copied(registry)
    for user in range(50):
        run(pool, f"SELECT {user}")
    assert generate_latest(registry).count(b"db_queries_total{") == 50
