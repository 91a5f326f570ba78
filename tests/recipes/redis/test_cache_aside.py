import json
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as LostError

from recipes.redis.cache_aside import Cache

THREADS = 16


@pytest.fixture
def client(redis) -> Iterator[Redis]:
    with Redis.from_url(redis) as client:
        yield client


@pytest.fixture
def cache(client) -> Cache:
    return Cache(client)


class Source:
    """A database: counts how often it is asked, and can be held back."""

    def __init__(self, value=None):
        self.value = value
        self.asked = 0
        self.slow = lambda: None
        self.lock = threading.Lock()

    def load(self):
        with self.lock:
            self.asked += 1
        value = self.value
        self.slow()
        return value


def ask_at_once(get) -> list:
    """Call `get` in many threads at the same moment."""
    barrier = threading.Barrier(THREADS)

    def ask(_: int):
        barrier.wait()
        return get()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(ask, range(THREADS)))


def test_second_read_comes_from_the_cache(cache):
    """The second read does not ask the database."""
    source = Source({"name": "tea", "tags": [1, None, "é"]})
    assert [cache.get("k", source.load) for _ in range(2)] == [source.value] * 2
    assert source.asked == 1


@pytest.mark.parametrize("empty", [None, 0, "", [], False])
def test_empty_results_are_cached(cache, empty):
    """A missing row, a zero and an empty list are cached too."""
    source = Source(empty)
    assert [cache.get("k", source.load) for _ in range(2)] == [empty] * 2
    assert source.asked == 1


def test_missing_row_is_kept_for_less_time(client, cache):
    """A missing row is kept for seconds, not minutes: it may be added soon."""
    cache.get("missing", lambda: None)
    assert 8_000 < client.pttl("cache:{missing}") <= 11_000


def test_ends_are_spread(client, cache):
    """Keys that were loaded together end at different times, 10 % around the TTL."""
    for number in range(50):
        cache.get(str(number), lambda: 1)
    ends = [client.pttl(f"cache:{{{number}}}") for number in range(50)]
    assert all(260_000 < end <= 330_000 for end in ends)
    assert max(ends) - min(ends) > 20_000


def test_one_of_many_loads(cache):
    """Sixteen threads want a missing value at once: one loads, all get it."""
    source = Source("tea")
    source.slow = lambda: time.sleep(0.1)  # long enough for all to see nothing there
    assert ask_at_once(lambda: cache.get("k", source.load)) == ["tea"] * THREADS
    assert source.asked == 1


def test_crashed_loader_is_replaced(cache):
    """The loader dies: when its lease ends, one of the waiting callers loads."""
    assert cache.look(cache._keys("k"), ["the dead", 100]) == [None, 1]
    source = Source("tea")
    assert ask_at_once(lambda: cache.get("k", source.load)) == ["tea"] * THREADS
    assert source.asked == 1


def test_stuck_loader_does_not_stop_the_others(client):
    """The lease never ends: a caller waits for `lease` seconds, then loads itself."""
    cache = Cache(client, lease=0.05)
    client.set("cache:{k}:lease", "stuck")
    assert cache.get("k", lambda: "tea") == "tea"
    assert client.get("cache:{k}") is None


def test_failed_load_reaches_the_caller(cache):
    """A failed load is the caller's error; it is not cached, the next one may try."""

    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cache.get("k", fail)
    start = time.monotonic()
    assert cache.get("k", lambda: "tea") == "tea"
    assert time.monotonic() - start < 2  # the lease is 5 s


def test_forget(cache):
    """After `forget`, the next read loads the new value."""
    source = Source("old")
    cache.get("k", source.load)
    source.value = "new"
    cache.forget("k")
    assert cache.get("k", source.load) == "new"


def change_during_load(source, forget):
    """Make the source change once, after it was read, before the value is kept."""

    def change():
        source.slow = lambda: None
        source.value = "new"
        forget()

    source.slow = change


def test_change_during_a_load_is_not_lost(cache):
    """The row changes while it is loaded: the old value is not kept."""
    source = Source("old")
    change_during_load(source, lambda: cache.forget("k"))
    assert cache.get("k", source.load) == "old"  # read before the change
    assert cache.get("k", source.load) == "new"


def test_late_loader_does_not_overwrite(client, cache):
    """A loader that outlived its lease does not overwrite the value of the next."""
    source = Source("old")

    def second_caller():
        client.delete("cache:{k}:lease")  # as if its time were over
        assert cache.get("k", lambda: "new") == "new"

    source.slow = second_caller
    assert cache.get("k", source.load) == "old"
    assert cache.get("k", source.load) == "new"


def test_cache_refuses(redis, fault_proxy, caplog):
    """The cache refuses connections: the value is loaded, a warning is logged."""
    proxy = fault_proxy(redis)
    with Redis.from_url(proxy.url) as client, caplog.at_level(logging.WARNING):
        proxy.refuse()
        assert Cache(client).get("k", lambda: "tea") == "tea"
        assert "cache is down, load k" in caplog.text
        proxy.refuse(False)
        assert Cache(client).get("k", lambda: "tea") == "tea"
        assert client.exists("cache:{k}")


def test_without_the_cache_everybody_loads(redis, fault_proxy):
    """While the cache is down nothing is shared: sixteen callers, sixteen loads."""
    proxy = fault_proxy(redis)
    proxy.refuse()
    source = Source("tea")
    with Redis.from_url(proxy.url) as client:
        cache = Cache(client)
        assert ask_at_once(lambda: cache.get("k", source.load)) == ["tea"] * THREADS
    assert source.asked == THREADS


def test_cache_is_silent(redis, fault_proxy):
    """The cache is silent: the caller waits for one timeout, then has its value."""
    proxy = fault_proxy(redis)
    with Redis.from_url(proxy.url, socket_timeout=0.2) as client:
        cache = Cache(client)
        cache.get("other", lambda: 1)
        proxy.black_hole()
        start = time.monotonic()
        assert cache.get("k", lambda: "tea") == "tea"
        assert 0.2 <= time.monotonic() - start < 2
        proxy.black_hole(False)


def test_cache_dies_during_the_load(redis, fault_proxy):
    """The cache dies during the load: the caller has its value, nothing is kept."""
    proxy = fault_proxy(redis)
    source = Source("tea")

    def die():
        proxy.refuse()
        proxy.reset_all()

    with Redis.from_url(proxy.url) as client:
        cache = Cache(client)
        source.slow = die
        assert cache.get("k", source.load) == "tea"
        with pytest.raises(LostError):
            cache.forget("k")
    assert source.asked == 1


# --8<-- [start:wrong]
def get_as_often_copied(client, key, load):
    cached = client.get(key)
    if cached:
        return json.loads(cached)
    value = load()
    if value:
        client.set(key, json.dumps(value), ex=300)
    return value


# --8<-- [end:wrong]


def test_often_copied_stampede(client):
    """Often copied: sixteen threads want a missing value, all sixteen load it."""
    source = Source("tea")
    source.slow = threading.Barrier(THREADS).wait  # passes only when all are there
    ask_at_once(lambda: get_as_often_copied(client, "k", source.load))
    assert source.asked == THREADS


def test_often_copied_never_caches_nothing(client):
    """Often copied: a row that does not exist goes to the database every time."""
    source = Source(None)
    for _ in range(5):
        get_as_often_copied(client, "k", source.load)
    assert source.asked == 5


def test_often_copied_keeps_the_old_value(client):
    """Often copied: a change during the load is lost for the whole TTL."""
    source = Source("old")
    change_during_load(source, lambda: client.delete("k"))
    get_as_often_copied(client, "k", source.load)
    assert get_as_often_copied(client, "k", source.load) == "old"
    assert client.ttl("k") > 290


def test_often_copied_dies_with_the_cache(redis, fault_proxy):
    """Often copied: the cache is down, so the service is down."""
    proxy = fault_proxy(redis)
    proxy.refuse()
    with Redis.from_url(proxy.url) as client, pytest.raises(LostError):
        get_as_often_copied(client, "k", lambda: "tea")
