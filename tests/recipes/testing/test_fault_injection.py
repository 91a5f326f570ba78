"""fault_injection: each fault happens when it should, and what survives it."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from unittest.mock import Mock
from urllib.parse import urlsplit

import pytest
import redis as redis_py
from redis.backoff import NoBackoff
from redis.retry import Retry

from recipes.testing.fault_injection import FaultProxy, open_client, pay

BIG = bytes(range(256)) * 8192  # 2 MiB


@pytest.fixture
def proxy(redis) -> Iterator[FaultProxy]:
    with closing(FaultProxy(redis)) as proxy:
        yield proxy


@pytest.fixture
def server(redis) -> Iterator[redis_py.Redis]:
    """A client that does not go through the proxy."""
    with redis_py.Redis.from_url(redis) as client:
        yield client


@pytest.fixture
def client(proxy) -> Iterator[redis_py.Redis]:
    with open_client(proxy.url, 10) as client:
        client.ping()
        yield client


@pytest.fixture
def once(proxy) -> Iterator[redis_py.Redis]:
    """A client that never tries again."""
    retry = Retry(NoBackoff(), 0)
    with redis_py.Redis.from_url(proxy.url, retry=retry, socket_timeout=10) as client:
        client.ping()
        yield client


def paid(server) -> int:
    return int(server.get("account") or 0)


def test_passes_all_on(client, server):
    """Left alone, it changes nothing: two megabytes arrive, both ways."""
    client.set("big", BIG)
    assert server.get("big") == BIG
    assert client.get("big") == BIG


def test_latency(proxy, once):
    """With a latency of 0.1 s, an answer takes 0.2 s: there and back."""
    proxy.latency = 0.1
    started = time.monotonic()
    assert once.ping()
    assert time.monotonic() - started >= 0.2


def test_an_answer_that_is_too_slow(proxy, server):
    """An answer slower than the timeout is a TimeoutError, after four attempts; the
    payment was made, once."""
    with open_client(proxy.url, 0.3) as client:
        client.ping()
        proxy.latency = 0.2
        with pytest.raises(redis_py.TimeoutError):
            pay(client, "rent", 3010)
        proxy.latency = 0
        wait_until(lambda: paid(server))
        pay(client, "rent", 3010)
    assert paid(server) == 3010


def test_reset(proxy, client, server):
    """After a reset the client connects again, and pays once."""
    proxy.reset()
    pay(client, "rent", 3010)
    assert proxy.connections == 2
    assert paid(server) == 3010


def test_reset_is_a_reset(echo):
    """What the client sees is a reset (RST), and not an end (FIN)."""
    with closing(FaultProxy(f"tcp://127.0.0.1:{echo}")) as proxy, connect(proxy) as it:
        it.sendall(b"x")
        assert it.recv(1) == b"x"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            it.recv(1)


def test_cut_before_the_server_has_it(proxy, once, server):
    """Cut at a request before it arrives: the server has not done it."""
    proxy.cut_at, proxy.cut_after = b"EVAL", None
    with pytest.raises(redis_py.ConnectionError):
        pay(once, "rent", 3010)
    assert paid(server) == 0
    pay(once, "rent", 3010)
    assert paid(server) == 3010


def test_cut_after_the_server_has_done_it(proxy, once, server):
    """Cut before the answer: the server has done it, and the client gets an error."""
    proxy.cut_at = b"EVAL"
    with pytest.raises(redis_py.ConnectionError):
        pay(once, "rent", 3010)
    assert paid(server) == 3010


def test_does_not_double_a_write(proxy, client, server):
    """Sent again after the lost answer, the payment is made once."""
    proxy.cut_at = b"EVAL"
    pay(client, "rent", 3010)
    assert proxy.connections == 2
    assert paid(server) == 3010


def test_cut_in_the_middle_of_an_answer(proxy, once, client, server):
    """Cut after 100 bytes of an answer: an error, and never half a value. The client
    that tries again gets all of it."""
    server.set("big", BIG)
    proxy.cut_at, proxy.cut_after = b"GET", 100
    with pytest.raises(redis_py.ConnectionError):
        once.get("big")
    proxy.cut_at = b"GET"
    assert client.get("big") == BIG


def test_cuts_once(proxy, client):
    """A cut happens once, and at no other request."""
    proxy.cut_at = b"EVAL"
    client.set("one", 1)
    assert proxy.connections == 1
    pay(client, "rent", 3010)
    pay(client, "food", 990)
    assert proxy.connections == 2


def test_the_bytes_of_the_answer_that_are_passed_on(echo):
    """Exactly as many bytes of the answer are passed on as the test said."""
    with closing(FaultProxy(f"tcp://127.0.0.1:{echo}")) as proxy:
        proxy.cut_at, proxy.cut_after = b"hello", 3
        with connect(proxy) as sock:
            sock.sendall(b"hello, you")
            assert sock.recv(100) == b"hel"
            with pytest.raises(ConnectionResetError):
                sock.recv(100)


def test_black_hole(proxy, client, server):
    """Silence ends in a TimeoutError. What was under way may arrive later, when the
    line is back; sent again, the payment is still made once."""
    with open_client(proxy.url, 0.2) as client:
        client.ping()
        proxy.black_hole = True
        with pytest.raises(redis_py.TimeoutError):
            pay(client, "rent", 3010)
        assert paid(server) == 0
        proxy.black_hole = False
        wait_until(lambda: paid(server) == 3010)
        pay(client, "rent", 3010)
    assert paid(server) == 3010


def test_a_server_that_is_not_there(unused_port):
    """The server is down: connections are closed at once, and the proxy goes on."""
    with closing(FaultProxy(f"tcp://127.0.0.1:{unused_port}")) as proxy:
        for _ in range(2):
            with connect(proxy) as sock:
                assert sock.recv(1) == b""
        assert proxy.connections == 2


def test_an_end_is_passed_on(echo):
    """A client that hangs up: the server is told, and so is the thread in between."""
    before = threading.active_count()
    with closing(FaultProxy(f"tcp://127.0.0.1:{echo}")) as proxy:
        with connect(proxy) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        wait_until(lambda: threading.active_count() <= before + 1)


def test_close(proxy, once, server):
    """Closed, it takes no connection, its threads end, and what it held back in
    silence never arrives."""
    before = threading.active_count()
    inner = FaultProxy(proxy.url)
    retry = Retry(NoBackoff(), 0)
    with redis_py.Redis.from_url(inner.url, retry=retry) as held:
        held.ping()
        inner.black_hole = True
        held.connection_pool.get_connection().send_command("SET", "late", 1)
        inner.close()
    wait_until(lambda: threading.active_count() <= before)
    with pytest.raises(ConnectionRefusedError):
        connect(inner)
    assert server.get("late") is None


def connect(proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(proxy.url).port), 30)


def wait_until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def unused_port() -> Iterator[int]:
    with socket.socket() as sock:  # bound, and never listening
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that answers one client with what it says."""

    def serve() -> None:
        with listener.accept()[0] as sock:
            try:
                while block := sock.recv(1024):
                    sock.sendall(block)
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(30)


# --8<-- [start:wrong]
def pay_as_often_copied(client, cents):
    for _ in range(3):
        try:
            return client.incrby("account", cents)
        except redis_py.ConnectionError:
            pass
    return None


def test_pay_as_often_copied():
    """Often copied: with a mock the retry passes its test."""
    client = Mock()
    client.incrby.side_effect = [redis_py.ConnectionError, 3010]
    assert pay_as_often_copied(client, 3010) == 3010


# --8<-- [end:wrong]


def test_often_copied_pays_twice(proxy, once, server):
    """Often copied: on a real server, with the answer cut, that retry pays twice."""
    proxy.cut_at = b"INCRBY"
    pay_as_often_copied(once, 3010)
    assert paid(server) == 6020


def test_often_copied_retry_of_the_client_pays_twice(proxy, client, server):
    """Often copied: the retry of redis-py repeats any command, `INCRBY` too."""
    proxy.cut_at = b"INCRBY"
    client.incrby("account", 3010)
    assert paid(server) == 6020
