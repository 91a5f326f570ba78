import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from uuid import uuid4

import pytest
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.client import PubSub
from redis.exceptions import ConnectionError as LostError
from redis.retry import Retry

from recipes.redis.pub_sub_reconnect import follow, listen

RELOAD = "(reload)"


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.002)


@pytest.fixture
def admin(redis) -> Iterator[Redis]:
    """A client that goes around the proxy."""
    with Redis.from_url(redis, decode_responses=True) as admin:
        yield admin


@pytest.fixture
def channel() -> str:
    """A name of its own: channels are common to all databases of a server."""
    return f"news:{uuid4()}"


@pytest.fixture
def proxy(redis, fault_proxy):
    return fault_proxy(redis)


@pytest.fixture
def client(proxy, channel) -> Iterator[Redis]:
    with Redis.from_url(
        proxy.url, client_name=channel, socket_timeout=2, decode_responses=True
    ) as client:
        yield client


@pytest.fixture
def events(client, channel) -> Iterator[list[str]]:
    """What a subscriber in a thread of its own sees; it has just started."""
    events: list[str] = []
    stop = threading.Event()

    def run() -> None:
        for message in listen(
            client, channel, lambda: events.append(RELOAD), stop, quiet=0.2
        ):
            events.append(message)

    with ThreadPoolExecutor() as pool:
        done = pool.submit(run)
        try:
            until(lambda: events == [RELOAD])
            yield events
        finally:
            stop.set()
        done.result(timeout=10)


def test_messages_arrive_in_order(admin, channel, events):
    """Messages arrive in the order they were sent, after everything was loaded."""
    for number in range(100):
        admin.publish(channel, number)
    until(lambda: len(events) == 101)
    assert events == [RELOAD, *map(str, range(100))]


def test_lost_while_away(admin, channel, events, proxy):
    """Sent while the subscriber is away: gone. It is told to reload, and goes on."""
    admin.publish(channel, "before")
    until(lambda: "before" in events)
    proxy.refuse()
    proxy.reset_all()
    until(lambda: admin.pubsub_numsub(channel) == [(channel, 0)])
    assert admin.publish(channel, "while away") == 0
    proxy.refuse(False)
    until(lambda: events.count(RELOAD) == 2)
    assert admin.publish(channel, "after") == 1
    until(lambda: "after" in events)
    assert events == [RELOAD, "before", RELOAD, "after"]


def test_server_ends_the_subscription(admin, channel, events):
    """The server ends the connection (CLIENT KILL): subscribed and loaded again."""
    (ours,) = (c for c in admin.client_list() if c["name"] == channel)
    assert admin.client_kill_filter(_id=ours["id"]) == 1
    until(lambda: events == [RELOAD, RELOAD])


def test_long_outage(admin, channel, events, proxy):
    """The server is away for long: the subscriber tries until it is back."""
    before = proxy.connections
    proxy.refuse()
    proxy.reset_all()
    until(lambda: proxy.connections >= before + 4)
    proxy.refuse(False)
    until(lambda: events == [RELOAD, RELOAD])


def test_silent_line_is_left(events, proxy, caplog):
    """The line is dead and nobody says so: an unanswered PING shows it."""
    proxy.black_hole()
    until(lambda: "is silent" in caplog.text)
    proxy.black_hole(False)
    until(lambda: events == [RELOAD, RELOAD])


def test_quiet_line_is_kept(admin, channel, events, proxy, monkeypatch):
    """A line on which nothing is sent for long is asked, and kept."""
    before = proxy.connections
    pings = []
    ping = PubSub.ping
    monkeypatch.setattr(PubSub, "ping", lambda *args: (pings.append(1), ping(*args)))
    until(lambda: len(pings) == 3)
    admin.publish(channel, "at last")
    until(lambda: "at last" in events)
    assert events == [RELOAD, "at last"]
    assert proxy.connections == before


def test_nothing_is_lost_during_the_load(admin, client, channel):
    """What is sent while everything is loaded arrives after it."""
    stop = threading.Event()
    messages = listen(client, channel, lambda: admin.publish(channel, "new"), stop)
    assert next(messages) == "new"
    messages.close()
    until(lambda: admin.pubsub_numsub(channel) == [(channel, 0)])


def test_error_of_the_caller_is_the_callers(admin, client, channel):
    """A load that fails is not taken for a lost line: the error reaches the caller."""

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        next(listen(client, channel, fail, threading.Event()))
    until(lambda: admin.pubsub_numsub(channel) == [(channel, 0)])


def add(admin, *values: str) -> None:
    for value in values:
        admin.xadd("changes", {"value": value})


def test_stream_waits_for_the_reader(admin, proxy):
    """A stream: what was added while the reader was away is read, in order."""
    stop = threading.Event()
    seen = []
    retry = Retry(ConstantBackoff(0.01), 1000)

    def run(client: Redis) -> None:
        for _, fields in follow(client, "changes", "0-0", stop):
            seen.append(fields["value"])

    with (
        Redis.from_url(proxy.url, retry=retry, decode_responses=True) as client,
        ThreadPoolExecutor() as pool,
    ):
        add(admin, "1")
        done = pool.submit(run, client)
        try:
            until(lambda: seen == ["1"])
            proxy.refuse()
            proxy.reset_all()
            add(admin, "2", "3")
            before = proxy.connections
            until(lambda: proxy.connections > before)
            proxy.refuse(False)
            add(admin, "4")
            until(lambda: len(seen) >= 4)
        finally:
            stop.set()
        done.result(timeout=10)
    assert seen == ["1", "2", "3", "4"]


def test_stream_reader_starts_where_it_stopped(admin):
    """A reader that was restarted goes on after the id that it kept."""
    add(admin, "1", "2", "3")
    stop = threading.Event()
    ((_, first), (last, second)) = islice(follow(admin, "changes", "0-0", stop), 2)
    ((_, third),) = islice(follow(admin, "changes", last, stop), 1)
    assert [entry["value"] for entry in (first, second, third)] == ["1", "2", "3"]


def test_stream_long_outage_reaches_the_caller(client, proxy):
    """The outage outlasts the retries: the caller gets the error, and has the id."""
    proxy.refuse()
    with pytest.raises(LostError):
        next(follow(client, "changes", "0-0", threading.Event()))


# --8<-- [start:wrong]
def listen_as_often_copied(client, channel, handle):
    pubsub = client.pubsub()
    pubsub.subscribe(channel)
    for message in pubsub.listen():
        if message["type"] == "message":
            handle(message["data"])


# --8<-- [end:wrong]


def test_often_copied_dies(admin, client, channel):
    """Often copied: the server ends the connection once, and nobody listens after."""
    seen = []
    with ThreadPoolExecutor() as pool:
        subscriber = pool.submit(listen_as_often_copied, client, channel, seen.append)
        until(lambda: admin.publish(channel, "before"))
        until(lambda: seen)
        (ours,) = (c for c in admin.client_list() if c["name"] == channel)
        admin.client_kill_filter(_id=ours["id"])
        assert isinstance(subscriber.exception(timeout=10), LostError)
    admin.publish(channel, "next")
    assert seen == ["before"]


def test_often_copied_loses_without_a_word(admin, channel, proxy):
    """Often copied: with retries it lives on, and does not know what it missed."""
    seen = []

    def handle(message: str) -> None:
        seen.append(message)
        if message == "stop":
            raise KeyboardInterrupt

    retry = Retry(ConstantBackoff(0.01), 1000)
    with (
        Redis.from_url(proxy.url, retry=retry, decode_responses=True) as client,
        ThreadPoolExecutor() as pool,
    ):
        subscriber = pool.submit(listen_as_often_copied, client, channel, handle)
        until(lambda: admin.publish(channel, "before"))
        until(lambda: seen)
        proxy.refuse()
        proxy.reset_all()
        until(lambda: admin.pubsub_numsub(channel) == [(channel, 0)])
        admin.publish(channel, "while away")
        proxy.refuse(False)
        until(lambda: admin.publish(channel, "stop"))
        assert isinstance(subscriber.exception(timeout=10), KeyboardInterrupt)
    assert seen == ["before", "stop"]


def test_often_copied_dollar_skips_entries(admin):
    """Often copied: XREAD from "$" in a loop skips what came between two calls."""
    admin.xadd("changes", {"value": "0"})
    assert not admin.xread({"changes": "$"}, block=1)
    add(admin, "1")  # while the reader handles something else
    assert not admin.xread({"changes": "$"}, block=1)
