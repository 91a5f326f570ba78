import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import errors

from recipes.services.circuit_breaker import (
    CircuitBreaker,
    CircuitOpenError,
    count_orders,
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    """Opens after three failures, and tries again after 5 s of that clock."""
    return CircuitBreaker(failures=3, pause=5, clock=clock)


@pytest.fixture
def proxy(postgresql, fault_proxy):
    """Between the program and a database with one order."""
    with psycopg.connect(postgresql) as conn:
        conn.execute("CREATE TABLE orders AS SELECT 1 AS id")
    return fault_proxy(postgresql)


def fail(proxy, breaker, times: int) -> None:
    """Use the breaker that often while the database is away."""
    proxy.refuse()
    for _ in range(times):
        with pytest.raises(psycopg.OperationalError):
            count_orders(proxy.url, breaker)


def test_closed(proxy, breaker):
    """While the database answers, the breaker lets everyone through."""
    assert [count_orders(proxy.url, breaker) for _ in range(5)] == [1] * 5


def test_opens(proxy, breaker):
    """After three failures in a row the database is not asked any more."""
    fail(proxy, breaker, 3)
    asked = proxy.connections
    for _ in range(5):
        with pytest.raises(CircuitOpenError):
            count_orders(proxy.url, breaker)
    assert proxy.connections == asked == 3
    assert breaker.is_open


def test_in_a_row(proxy, breaker):
    """A success between the failures starts the count again."""
    fail(proxy, breaker, 2)
    proxy.refuse(False)
    assert count_orders(proxy.url, breaker) == 1
    fail(proxy, breaker, 2)
    assert not breaker.is_open


def test_tries_again(proxy, breaker, clock):
    """After the pause a caller tries; when that works, everyone is let through."""
    fail(proxy, breaker, 3)
    proxy.refuse(False)
    clock.now += 4.9
    with pytest.raises(CircuitOpenError):
        count_orders(proxy.url, breaker)
    clock.now += 0.2
    assert [count_orders(proxy.url, breaker) for _ in range(3)] == [1] * 3
    assert not breaker.is_open


def test_still_down(proxy, breaker, clock):
    """When the try fails, it stays open for another pause."""
    fail(proxy, breaker, 3)
    clock.now += 5
    fail(proxy, breaker, 1)
    clock.now += 4.9
    with pytest.raises(CircuitOpenError):
        count_orders(proxy.url, breaker)
    assert proxy.connections == 4


def test_pause_counts_from_the_end(proxy, breaker, clock):
    """A failure that took long is followed by a whole pause all the same."""
    fail(proxy, breaker, 3)
    clock.now += 5

    def fail_late() -> None:
        with breaker.guard():
            clock.now += 60
            raise psycopg.OperationalError

    with pytest.raises(psycopg.OperationalError):
        fail_late()
    with pytest.raises(CircuitOpenError):
        count_orders(proxy.url, breaker)


def test_one_tries(proxy, breaker, clock):
    """Of eight threads that come after the pause, one tries; seven are refused."""
    fail(proxy, breaker, 3)
    clock.now += 5
    come = threading.Barrier(8)
    refused = threading.Semaphore(0)

    def use(_: int) -> str:
        come.wait(30)
        try:
            with breaker.guard():
                for _ in range(7):  # the others came while this one still tried
                    assert refused.acquire(timeout=30)
                return "tried"
        except CircuitOpenError:
            refused.release()
            return "refused"

    with ThreadPoolExecutor(8) as threads:
        ends = sorted(threads.map(use, range(8)))
    assert ends == ["refused"] * 7 + ["tried"]


@pytest.mark.parametrize(
    "error",
    [errors.UndefinedTable, errors.UniqueViolation, errors.DeadlockDetected],
)
def test_an_answer_is_no_failure(breaker, error):
    """A typo, a duplicate, a deadlock: the database is there, and nothing opens."""
    for _ in range(5):
        with pytest.raises(error), breaker.guard():
            raise error
    assert not breaker.is_open


@pytest.mark.parametrize(
    "error", [errors.QueryCanceled, errors.TooManyConnections, errors.AdminShutdown]
)
def test_outages(breaker, error):
    """Out of time, out of connections, shut down: failures, all of them."""
    for _ in range(3):
        with pytest.raises(error), breaker.guard():
            raise error
    assert breaker.is_open


def test_silent_database(proxy, clock):
    """A silent database costs its first caller 2 s, and the next ones nothing."""
    breaker = CircuitBreaker(failures=1, clock=clock)
    proxy.black_hole()
    started = time.monotonic()
    with pytest.raises(errors.ConnectionTimeout):
        count_orders(proxy.url, breaker)
    assert 1 < time.monotonic() - started < 20
    with pytest.raises(CircuitOpenError):
        count_orders(proxy.url, breaker)
    assert proxy.connections == 1


def test_statement_timeout(proxy, breaker, postgresql):
    """A statement that waits for a lock ends after 2 s, too."""
    with psycopg.connect(postgresql) as holder:
        holder.execute("LOCK orders")
        with pytest.raises(errors.QueryCanceled):
            count_orders(proxy.url, breaker)


# --8<-- [start:wrong]
class Breaker:
    def __init__(self):
        self.failures = 0

    def call(self, function, *args):
        if self.failures >= 3:
            raise RuntimeError("circuit is open")
        try:
            return function(*args)
        except Exception:
            self.failures += 1
            raise


# --8<-- [end:wrong]


def test_often_copied_never_closes(proxy):
    """Often copied: once open it stays open, with a database that is well again."""
    wrong, plain = Breaker(), CircuitBreaker(failures=1000)
    proxy.refuse()
    for _ in range(3):
        with pytest.raises(psycopg.OperationalError):
            wrong.call(count_orders, proxy.url, plain)
    proxy.refuse(False)
    assert count_orders(proxy.url, plain) == 1
    with pytest.raises(RuntimeError, match="open"):
        wrong.call(count_orders, proxy.url, plain)


def test_often_copied_opens_for_bad_input(proxy):
    """Often copied: three bad requests, in a year, and nobody gets an answer."""
    wrong, plain = Breaker(), CircuitBreaker()
    for _ in range(3):
        with pytest.raises(ValueError):
            wrong.call(int, "x")
        assert wrong.failures == 3 or wrong.call(count_orders, proxy.url, plain) == 1
    with pytest.raises(RuntimeError, match="open"):
        wrong.call(count_orders, proxy.url, plain)
