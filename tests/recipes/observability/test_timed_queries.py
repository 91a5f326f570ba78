import logging
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from recipes.observability.timed_queries import Timings, pause


class Clock:
    """Gives out these durations, one for each block."""

    def __init__(self, *seconds: float) -> None:
        self.times = [time for one in seconds for time in (0.0, one)]

    def __call__(self) -> float:
        return self.times.pop(0)


def timings_of(*seconds: float) -> Timings:
    timings = Timings(Clock(*seconds))
    for _ in seconds:
        with timings.timed("find"):
            pass
    return timings


@pytest.fixture
def conn(postgresql):
    with psycopg.connect(postgresql, autocommit=True) as conn:
        yield conn


def test_time_of_the_server(conn):
    """The time is what the caller waited for the server."""
    timings = Timings()
    pause(conn, timings, 0.11)
    assert timings.outcomes() == {("pause", "ok"): 1}
    assert timings.quantile("pause", 1) >= 0.25  # the bound above 0.11 s


def test_failed_query(conn):
    """A failed query is counted by its error, apart from the good ones, and the error
    reaches the caller."""
    timings = Timings()
    pause(conn, timings, 0)
    conn.execute("SET statement_timeout = '10ms'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        pause(conn, timings, 5)
    assert timings.outcomes() == {("pause", "QueryCanceled"): 1, ("pause", "ok"): 1}
    assert timings.quantile("pause", 1, "QueryCanceled") >= 0.01


def test_quantiles():
    """Of 100 queries with one slow in twenty: 95 % are fast, and 99 % are not."""
    timings = timings_of(*[0.004] * 95, *[0.9] * 5)
    assert timings.quantile("find", 0.5) == 0.005
    assert timings.quantile("find", 0.95) == 0.005
    assert timings.quantile("find", 0.99) == 1


@pytest.mark.parametrize(
    ("seconds", "bound"), [(0, 0.001), (0.001, 0.001), (0.0011, 0.0025), (10.1, 1e999)]
)
def test_bounds(seconds, bound):
    """A bound belongs to its bucket; what is longer than all of them is infinite."""
    assert timings_of(seconds).quantile("find", 1) == bound


def test_stays_small():
    """A thousand queries take as much room as one."""
    one, many = timings_of(0.1), timings_of(*[0.1] * 1000)
    sizes = [[len(it) for it in timings._counts.values()] for timings in (one, many)]
    assert sizes == [[14], [14]]
    assert many.outcomes() == {("find", "ok"): 1000}


def test_threads():
    """Threads that end at the same time are all counted."""
    timings = Timings()
    start = threading.Barrier(8)

    def work(_: int) -> None:
        start.wait(30)
        for _ in range(500):
            with timings.timed("find"):
                pass

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert timings.outcomes() == {("find", "ok"): 4000}


@pytest.mark.parametrize(
    ("name", "share"), [("nothing", 0.5), ("find", 0), ("find", 2)]
)
def test_no_such_quantile(name, share):
    """A name that never ran, or a share that is none, is an error, and not a zero."""
    with pytest.raises(ValueError, match=name):
        timings_of(1).quantile(name, share)


# --8<-- [start:wrong]
@contextmanager
def timed_query(logger, name):
    start = time.time()
    try:
        yield
    finally:
        logger.info("query=%s query_ms=%.2f", name, (time.time() - start) * 1000)


# --8<-- [end:wrong]


def test_often_copied_failure_looks_fast(conn, caplog):
    """Often copied: the line of a failed query is the same as that of a good one."""
    caplog.set_level(logging.INFO)
    logger = logging.getLogger("queries")
    with timed_query(logger, "find"):
        conn.execute("SELECT 1")
    with pytest.raises(psycopg.errors.UndefinedTable), timed_query(logger, "find"):
        conn.execute("SELECT * FROM nowhere")
    good, bad = (record.getMessage().split(" query_ms=") for record in caplog.records)
    assert good[0] == bad[0] == "query=find"
    assert math.isfinite(float(bad[1]))


def test_often_copied_clock(caplog, monkeypatch):
    """Often copied: when the machine's clock is set back, a query took less than no
    time."""
    caplog.set_level(logging.INFO)
    times = iter([1_000_000.0, 999_999.0])
    monkeypatch.setattr("time.time", lambda: next(times, 999_999.0))
    with timed_query(logging.getLogger("queries"), "find"):
        pass
    assert "query_ms=-1000.00" in caplog.text
