# /// script
# requires-python = ">=3.11"
# dependencies = ["prometheus-client>=0.23", "psycopg[binary,pool]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Show a connection pool to Prometheus.

Who waits for a connection, for how long, and how many were lost: read from the pool at
the moment of the scrape, so that nothing has to be kept up to date.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from urllib.request import urlopen

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from psycopg_pool import ConnectionPool

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)

# --8<-- [start:collector]
GAUGES = {
    "pool_max": ("max", "Connections that the pool may have"),
    "pool_size": ("size", "Connections that the pool has, or is making"),
    "pool_available": ("idle", "Connections that nobody uses"),
    "requests_waiting": ("waiting", "Callers that wait for a connection"),
}
COUNTERS = {
    "requests_num": ("requests", "Callers that asked for a connection"),
    "requests_queued": ("requests_queued", "Callers that had to wait for one"),
    "requests_errors": ("requests_errors", "Callers that got none"),
    "connections_num": ("connections", "Attempts to connect"),
    "connections_errors": ("connections_errors", "Attempts that failed"),
    "connections_lost": ("connections_lost", "Connections found dead"),
}
SECONDS = {
    "requests_wait_ms": ("wait_seconds", "Time that callers waited, in all"),
    "usage_ms": ("usage_seconds", "Time that connections were in use, in all"),
}


class PoolCollector(Collector):
    """Reads pools when Prometheus asks. Names of pools become the label `pool`."""

    def __init__(self, *pools: ConnectionPool) -> None:
        self._pools = pools

    def collect(self) -> Iterable[Metric]:
        stats = {pool.name: pool.get_stats() for pool in self._pools}
        for kind, known, factor in (
            (GaugeMetricFamily, GAUGES, 1.0),
            (CounterMetricFamily, COUNTERS, 1.0),
            (CounterMetricFamily, SECONDS, 0.001),
        ):
            for key, (name, text) in known.items():
                metric = kind(f"db_pool_{name}", text, labels=["pool"])
                for pool, values in stats.items():  # a zero is missing there
                    metric.add_metric([pool], values.get(key, 0) * factor)
                yield metric


# --8<-- [end:collector]


# --8<-- [start:serve]
@contextmanager
def serve_metrics(*pools: ConnectionPool, port: int = 9100) -> Iterator[int]:
    """Serve them on that port of this machine (0: a free one), which is given back."""
    registry = CollectorRegistry()
    registry.register(PoolCollector(*pools))
    server, thread = start_http_server(port, "127.0.0.1", registry)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# --8<-- [end:serve]


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    with ConnectionPool(url, name="orders", min_size=1, max_size=2, timeout=5) as pool:
        pool.wait(timeout=5)
        with serve_metrics(pool, port=0) as port, pool.connection() as conn:
            conn.execute("SELECT 1")
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                lines = answer.read().decode().splitlines()
        for line in lines:
            if line.startswith(("db_pool_idle", "db_pool_requests_total")):
                print(line)


if __name__ == "__main__":
    main()
