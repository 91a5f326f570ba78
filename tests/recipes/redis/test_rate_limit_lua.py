import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import NoScriptError
from redis.retry import Retry

from recipes.redis import rate_limit_lua
from recipes.redis.rate_limit_lua import TAKE, RateLimit

THREADS = 8


@pytest.fixture
def client(redis) -> Iterator[Redis]:
    with Redis.from_url(redis, max_connections=2 * THREADS) as client:
        yield client


def server_time(client) -> int:
    seconds, microseconds = client.time()
    return seconds * 1_000_000 + microseconds


def test_limit(client):
    """`limit` requests go on, the next one is told how long to wait."""
    limit = RateLimit(client, limit=3, window=60)
    assert [limit.take("anna") for _ in range(3)] == [0, 0, 0]
    assert 50 < limit.take("anna") <= 60


def test_threads_never_exceed_the_limit(client):
    """Eight threads ask 400 times: exactly `limit` requests go on."""
    limit = RateLimit(client, limit=25, window=60)
    barrier = threading.Barrier(THREADS)

    def ask(_: int) -> int:
        barrier.wait()
        return sum(limit.take("anna") == 0 for _ in range(50))

    with ThreadPoolExecutor(THREADS) as pool:
        assert sum(pool.map(ask, range(THREADS))) == 25


def test_each_key_has_its_own_limit(client):
    """What one user does limits nobody else."""
    limit = RateLimit(client, limit=1, window=60)
    assert [limit.take(user) > 0 for user in ("anna", "anna", "ben")] == [0, 1, 0]


def test_waiting_as_told_is_enough(client):
    """Who waits as long as the answer says may go on."""
    limit = RateLimit(client, limit=1, window=60)
    client.zadd("rate:anna", {"first": server_time(client) - 59_500_000})
    wait = limit.take("anna")
    assert 0 < wait <= 0.5
    time.sleep(wait)
    assert limit.take("anna") == 0


@pytest.mark.parametrize(("age", "free"), [(50, 0), (70, 5)])
def test_window_slides(client, age, free):
    """A request counts for the whole window, then not at all; there is no edge."""
    limit = RateLimit(client, limit=5, window=60)
    then = server_time(client) - age * 1_000_000
    client.zadd("rate:anna", {str(number): then for number in range(5)})
    waits = [limit.take("anna") for _ in range(6)]
    assert sum(wait == 0 for wait in waits) == free
    assert 0 < waits[-1] <= (60 if free else 10)


def test_refused_requests_do_not_count(client):
    """Who asks too often is not locked out for longer; the memory is bounded."""
    limit = RateLimit(client, limit=3, window=60)
    waits = [limit.take("anna") for _ in range(20)]
    assert waits[3:] == sorted(waits[3:], reverse=True)
    assert client.zcard("rate:anna") == 3


def test_key_ends_with_the_window(client):
    """A key that is not used any more goes away with its window."""
    RateLimit(client, limit=3, window=60).take("anna")
    assert 50_000 < client.pttl("rate:anna") <= 60_000


def test_time_is_the_servers(client, monkeypatch):
    """The time is the server's, to the microsecond; a client's clock may be wrong."""
    monkeypatch.setattr(time, "time", lambda: 0)
    before = server_time(client)
    RateLimit(client, limit=3, window=60).take("anna")
    ((_, score),) = client.zrange("rate:anna", 0, -1, withscores=True)
    assert before <= score <= server_time(client)


@pytest.fixture
def unknown_script(monkeypatch) -> str:
    """The script as a server that was restarted sees it: it never heard of it."""
    script = f"{TAKE}-- {uuid4()}"
    monkeypatch.setattr(rate_limit_lua, "TAKE", script)
    return script


def test_unknown_script_is_loaded(client, unknown_script):
    """A server that does not know the script (a restart, a failover) is given it."""
    limit = RateLimit(client, limit=1, window=60)
    assert client.script_exists(limit._take.sha) == [False]
    assert limit.take("anna") == 0
    assert client.script_exists(limit._take.sha) == [True]


def test_retry_counts_once(redis, fault_proxy):
    """The answer is lost and the client sends the request again: it counts once."""
    proxy = fault_proxy(redis)
    with Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 1)) as client:
        limit = RateLimit(client, limit=1, window=60)
        client.script_load(TAKE)
        proxy.cut_answer_to(b"EVALSHA")
        assert limit.take("anna") == 0
        assert proxy.was_cut.is_set()
        assert client.zcard("rate:anna") == 1


def test_no_server_reaches_the_caller(redis, fault_proxy):
    """Redis is down: the caller gets the error, and decides."""
    proxy = fault_proxy(redis)
    proxy.refuse()
    with Redis.from_url(proxy.url) as client, pytest.raises(LostError):
        RateLimit(client, limit=1, window=60).take("anna")


# --8<-- [start:wrong]
def may_go_on_as_often_copied(client, key, limit, window):
    count = client.incr(key)
    if count == 1:
        client.expire(key, window)
    return count <= limit


# --8<-- [end:wrong]


def test_often_copied_crash_locks_out_for_ever(redis, fault_proxy):
    """Often copied: a crash between INCR and EXPIRE locks the user out for ever."""
    proxy = fault_proxy(redis)
    with Redis.from_url(proxy.url) as client:
        proxy.cut_before(b"EXPIRE")
        with pytest.raises(LostError):
            may_go_on_as_often_copied(client, "anna", 3, 60)
        answers = [may_go_on_as_often_copied(client, "anna", 3, 60) for _ in range(5)]
        assert answers == [True, True, False, False, False]
        assert client.ttl("anna") == -1


def test_often_copied_twice_the_limit(client):
    """Often copied: at the edge of two windows almost twice the limit goes through."""
    may_go_on_as_often_copied(client, "anna", 10, 60)
    # 59.9 seconds later:
    done = sum(may_go_on_as_often_copied(client, "anna", 10, 60) for _ in range(9))
    client.pexpire("anna", 1)  # 0.1 seconds later: the window is over
    while client.exists("anna"):
        time.sleep(0.001)
    done += sum(may_go_on_as_often_copied(client, "anna", 10, 60) for _ in range(10))
    assert done == 19


# --8<-- [start:wrong_steps]
def may_go_on_in_steps(client, key, limit, window):
    now = time.time()
    client.zremrangebyscore(key, 0, now - window)
    if client.zcard(key) >= limit:
        return False
    client.zadd(key, {str(uuid4()): now})
    return True


# --8<-- [end:wrong_steps]


def test_often_copied_steps_exceed_the_limit(client, monkeypatch):
    """Often copied: counted and added in two commands, 8 threads pass a limit of 1."""
    barrier = threading.Barrier(THREADS)
    zcard = client.zcard

    def count_together(key):
        count = zcard(key)
        barrier.wait()
        return count

    monkeypatch.setattr(client, "zcard", count_together)
    with ThreadPoolExecutor(THREADS) as pool:
        passed = pool.map(
            lambda _: may_go_on_in_steps(client, "anna", 1, 60), range(THREADS)
        )
        assert sum(passed) == THREADS


def test_often_copied_evalsha_alone(client, unknown_script):
    """Often copied: EVALSHA alone fails with NoScriptError after a restart."""
    sha = client.register_script(unknown_script).sha
    with pytest.raises(NoScriptError):
        client.evalsha(sha, 1, "rate:anna", 1, 60_000_000, "request")
