import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from redis import ConnectionPool, Redis
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import MaxConnectionsError
from redis.exceptions import TimeoutError as SilenceError

from recipes.redis.connect_pool import connect, count_once


@pytest.fixture
def proxy(redis, fault_proxy):
    return fault_proxy(redis)


@pytest.fixture
def client(proxy) -> Iterator[Redis]:
    """A client behind the proxy, with one connection that has been used."""
    with connect(proxy.url) as client:
        client.ping()
        yield client


@pytest.mark.parametrize("command", ["GET", "SET"])
def test_cut_line_is_retried(proxy, client, command):
    """The line is cut in mid-command: the command is sent again, on a new line."""
    proxy.cut_before(command.encode())
    assert client.set("greeting", "hello")
    assert client.get("greeting") == "hello"
    assert proxy.was_cut.is_set()


def test_short_outage_is_bridged(proxy):
    """The server refuses everybody for a moment: the caller gets its answer late."""
    with connect(proxy.url, retries=20) as client, ThreadPoolExecutor() as pool:
        client.set("greeting", "hello")
        before = proxy.connections
        proxy.refuse()
        proxy.reset_all()
        answer = pool.submit(client.get, "greeting")
        while proxy.connections < before + 2:
            time.sleep(0.001)
        assert not answer.done()
        proxy.refuse(False)
        assert answer.result(timeout=10) == "hello"


def test_long_outage_reaches_the_caller(proxy, client):
    """The server stays away: ConnectionError after four attempts, not a hang."""
    before = proxy.connections
    proxy.refuse()
    proxy.reset_all()
    with pytest.raises(LostError):
        client.get("greeting")
    assert proxy.connections - before == 4


def test_silent_server_is_given_up(proxy):
    """The server is silent: TimeoutError after `timeout` seconds for each attempt."""
    with connect(proxy.url, timeout=0.1, retries=1) as client:
        client.ping()
        proxy.black_hole()
        start = time.monotonic()
        with pytest.raises(SilenceError):
            client.get("greeting")
        assert 0.2 <= time.monotonic() - start < 2
        proxy.black_hole(False)


def test_closed_idle_connection_is_replaced(proxy):
    """The server closed an idle connection: replaced before use, no retry is needed."""
    with connect(proxy.url, retries=0) as client:
        client.ping()
        proxy.reset_all()
        assert client.incr("visits") == 1
        assert proxy.connections == 2


def test_idle_connection_is_checked_first(proxy, client):
    """A connection idle for 30 s answers a PING before it carries a command."""
    connection = client.connection_pool.get_connection()
    connection.next_health_check -= 30  # as if the time had passed
    client.connection_pool.release(connection)
    proxy.cut_before(b"PING")
    assert client.incr("visits") == 1
    assert proxy.was_cut.is_set()


def test_caller_waits_for_a_connection(redis):
    """All connections are in use: a caller waits, and goes on when one is free."""
    with connect(redis, size=1) as client, ThreadPoolExecutor() as pool:
        connection = client.connection_pool.get_connection()
        answer = pool.submit(client.ping)
        with pytest.raises(TimeoutError):
            answer.result(timeout=0.05)
        client.connection_pool.release(connection)
        assert answer.result(timeout=5)


def test_wait_ends(redis):
    """No connection is free in time: ConnectionError, the pool does not grow."""
    with connect(redis, size=1, wait=0.01) as client:
        connection = client.connection_pool.get_connection()
        with pytest.raises(LostError, match="No connection available"):
            client.ping()
        client.connection_pool.release(connection)


def test_close_closes_the_connections(redis):
    """Closing the client closes every connection of its pool."""
    with connect(redis, size=2) as client:
        taken = [client.connection_pool.get_connection() for _ in range(2)]
        for connection in taken:
            client.connection_pool.release(connection)
        assert all(connection.is_connected for connection in taken)
    assert not any(connection.is_connected for connection in taken)


def test_retried_set_nx_says_no(proxy, client):
    """A retried `SET ... NX` whose answer was lost finds its own key and says no."""
    proxy.cut_answer_to(b"NX")
    assert client.set("owner", "me", nx=True) is None
    assert client.get("owner") == "me"


def test_retried_pop_loses_an_item(proxy, client):
    """A retried LPOP whose answer was lost gives the second item: the first is gone."""
    client.rpush("jobs", "first", "second")
    proxy.cut_answer_to(b"LPOP")
    assert client.lpop("jobs") == "second"


def test_event_counts_once(client):
    """An event counts once, however often it is sent; another event counts too."""
    assert [count_once(client, "orders", "a", by=2) for _ in range(3)] == [2, 2, 2]
    assert count_once(client, "orders", "b") == 3


def test_lost_answer_counts_once(proxy, client):
    """The answer is lost after the work was done: the retry does not count again."""
    proxy.cut_answer_to(b"EVAL")
    assert count_once(client, "orders", "a") == 1
    assert proxy.was_cut.is_set()


def test_threads_count_once(redis):
    """Eight threads with the same event, four connections: it counts once."""
    with connect(redis, size=4) as client, ThreadPoolExecutor(8) as pool:
        totals = pool.map(lambda _: count_once(client, "orders", "a"), range(8))
        assert set(totals) == {1}


def test_without_retries_the_caller_decides(proxy):
    """With `retries=0` a lost answer is an error, and the command ran once."""
    with connect(proxy.url, retries=0) as client:
        client.ping()
        proxy.cut_answer_to(b"INCR")
        with pytest.raises(LostError):
            client.incr("visits")
        assert client.get("visits") == "1"


# --8<-- [start:wrong]
def from_url_as_often_copied(url):
    return Redis.from_url(url)  # retries nothing


def from_host_as_often_copied(host, port, **options):
    return Redis(host=host, port=port, **options)  # retries everything, ten times


# --8<-- [end:wrong]


def test_often_copied_from_url_does_not_retry(proxy):
    """Often copied: `from_url` has no retries, so one cut line fails the caller."""
    with from_url_as_often_copied(proxy.url) as client:
        assert client.get_retry() is None
        client.ping()
        proxy.cut_before(b"GET")
        with pytest.raises(LostError):
            client.get("greeting")


@pytest.mark.parametrize(
    ("command", "look", "after"),
    [
        ("INCR key", "GET key", b"2"),
        ("APPEND key x", "GET key", b"xx"),
        ("LPUSH key x", "LRANGE key 0 -1", [b"x", b"x"]),
        ("XADD key * name x", "XLEN key", 2),
    ],
)
def test_often_copied_retry_works_twice(proxy, command, look, after):
    """Often copied: a lost answer makes INCR, APPEND, LPUSH and XADD work twice."""
    url = urlsplit(proxy.url)
    login = {"password": url.password, "db": int(url.path[1:])}
    with from_host_as_often_copied(url.hostname, url.port, **login) as client:
        assert client.get_retry().get_retries() == 10
        client.ping()
        proxy.cut_answer_to(command.encode().split()[0])
        client.execute_command(*command.split())
        assert client.execute_command(*look.split()) == after


def test_often_copied_pool_fails_at_once(redis):
    """Often copied: `ConnectionPool(max_connections=1)` fails at once, without wait."""
    with (
        ConnectionPool.from_url(redis, max_connections=1) as pool,
        Redis(connection_pool=pool) as client,
    ):
        connection = pool.get_connection()
        with pytest.raises(MaxConnectionsError):
            client.ping()
        pool.release(connection)
