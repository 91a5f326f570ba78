import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as SilenceError

from recipes.redis.streams_consumer_group import Group, trim


@pytest.fixture
def client(redis) -> Iterator[Redis]:
    with Redis.from_url(redis, decode_responses=True) as client:
        yield client


@pytest.fixture
def group(client) -> Group:
    """What was left behind is taken over at once."""
    return Group(client, "orders", "billing", idle=0)


def add(client, *orders) -> list[str]:
    return [client.xadd("orders", {"order": order}) for order in orders]


def work(group, consumer="ben") -> list[str]:
    """One round of a consumer: the orders that it handled."""
    handled = []
    group.work(consumer, lambda _, fields: handled.append(fields["order"]), wait=0.001)
    return handled


def leave_behind(client, count=1) -> None:
    """What a crash leaves: entries that were delivered and not acknowledged."""
    assert client.xreadgroup("billing", "dead", {"orders": ">"}, count=count)


def pending(client) -> int:
    return client.xpending("orders", "billing")["pending"]


def test_handles_and_acknowledges(client, group):
    """Each entry is handled in order, and acknowledged."""
    add(client, "1", "2")
    assert work(group) == ["1", "2"]
    assert work(group) == []
    assert pending(client) == 0


def test_entries_from_before_the_group(client):
    """Entries that were added before the group was made are handled too."""
    add(client, "early")
    assert work(Group(client, "orders", "billing")) == ["early"]


def test_group_is_made_once(client, group):
    """Every consumer may make the group when it starts: it keeps its place."""
    add(client, "1")
    work(group)
    assert work(Group(client, "orders", "billing")) == []


def test_other_errors_are_raised(client):
    """Another error when the group is made is raised: here the key holds a string."""
    client.set("orders", "not a stream")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        Group(client, "orders", "billing")


def test_consumers_share_the_work(client, group):
    """Four consumers at once: each entry is handled by one of them."""
    orders = [str(number) for number in range(200)]
    add(client, *orders)

    handled = []

    def consume(consumer: str) -> None:
        patient = Group(client, "orders", "billing", idle=60)
        while some := work(patient, consumer):
            handled.extend(some)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(consume, "abcd"))
    assert sorted(handled) == sorted(orders)
    assert pending(client) == 0


KILLED_AT_WORK = """
import os, signal, sys
from redis import Redis
from recipes.redis.streams_consumer_group import Group

client = Redis.from_url(sys.argv[1], decode_responses=True)
group = Group(client, "orders", "billing")

def handle(entry, fields):
    client.incr("handled")
    os.kill(os.getpid(), signal.SIGKILL)

group.work("anna", handle)
"""


def test_killed_consumer(redis, client, group):
    """A consumer is killed after the work, before XACK: the entry is handled again."""
    add(client, "1")
    root = Path(__file__).parents[3]
    killed = subprocess.run([sys.executable, "-c", KILLED_AT_WORK, redis], cwd=root)
    assert killed.returncode == -9
    assert client.get("handled") == "1"
    assert pending(client) == 1
    assert work(group) == ["1"]
    assert pending(client) == 0


def test_busy_consumer_keeps_its_entries(client):
    """An entry that was delivered less than `idle` seconds ago is left alone."""
    patient = Group(client, "orders", "billing", idle=60)
    add(client, "1")
    leave_behind(client)
    assert work(patient) == []
    assert pending(client) == 1


def test_takes_over_all(client, group):
    """All that was left behind is taken over, however much, also behind busy ones."""
    orders = [str(number) for number in range(300)]
    add(client, *orders)
    leave_behind(client, count=250)
    busy = client.xpending_range("orders", "billing", "-", "+", 150)
    patient = Group(client, "orders", "billing", idle=60)
    for entry in client.xpending_range("orders", "billing", "-", "+", 250)[150:]:
        old = {"min_idle_time": 0, "message_ids": [entry["message_id"]]}
        client.xclaim("orders", "billing", "dead", idle=61_000, justid=True, **old)
    assert work(patient) == orders[150:250] + orders[250:260]
    assert pending(client) == len(busy)


def test_slow_owner_acknowledges_late(client, group, monkeypatch):
    """A slow owner acknowledges while its entry is taken over: it is left alone."""
    (entry,) = add(client, "1")
    leave_behind(client)
    claim = client.xautoclaim

    def claim_and_be_late(*args, **options):
        claimed = claim(*args, **options)
        client.xack("orders", "billing", entry)
        return claimed

    monkeypatch.setattr(client, "xautoclaim", claim_and_be_late)
    assert work(group) == []


def test_lost_answer(redis, client, group, fault_proxy):
    """The answer to XREADGROUP is lost: the entry is not, it is taken over."""
    add(client, "1")
    proxy = fault_proxy(redis)
    with Redis.from_url(proxy.url, decode_responses=True) as behind:
        cut = Group(behind, "orders", "billing", idle=60)
        proxy.cut_answer_to(b"XREADGROUP")
        with pytest.raises(LostError):
            work(cut)
    assert pending(client) == 1
    assert work(group) == ["1"]


def test_wait_is_shorter_than_the_socket_timeout(redis, group):
    """A wait longer than the client's socket timeout ends in TimeoutError."""
    with Redis.from_url(redis, socket_timeout=0.2, decode_responses=True) as client:
        hasty = Group(client, "orders", "billing")
        assert hasty.work("ben", fail, wait=0.001) == 0
        with pytest.raises(SilenceError):
            hasty.work("ben", fail, wait=5)


def fail(entry, fields):
    raise ZeroDivisionError


def test_failed_entry_comes_back(client, group, caplog):
    """A failure is logged with its traceback; the entry comes back, others go on."""
    add(client, "1", "2")

    def fail_at_one(entry, fields):
        if fields["order"] == "1":
            raise ZeroDivisionError

    assert group.work("ben", fail_at_one, wait=0.001) == 1
    assert "ZeroDivisionError" in caplog.text
    assert work(group) == ["1"]


def test_poison_is_put_aside(client, group):
    """What failed three times is put into the dead-letter stream, with its origin."""
    (entry,) = add(client, "bad")
    calls = []

    def fail_always(entry, fields):
        calls.append(entry)
        raise ZeroDivisionError

    for _ in range(5):
        assert group.work("ben", fail_always, wait=0.001) == 0
    assert calls == [entry] * 3
    assert pending(client) == 0
    ((_, fields),) = client.xrange("orders:dead")
    assert fields == {"order": "bad", "entry": entry, "group": "billing"}


def test_killer_is_put_aside(client, group):
    """An entry that killed three consumers is put aside before a fourth handles it."""
    add(client, "killer", "good")
    leave_behind(client)
    for _ in range(2):
        client.xautoclaim("orders", "billing", "dead too", 0)
    assert work(group) == ["good"]
    assert client.xlen("orders:dead") == 1


def test_trim_keeps_what_is_needed(client, group):
    """`trim` removes what all groups have done, and nothing that one still needs."""
    other = Group(client, "orders", "shipping", idle=0)
    add(client, *"12345")
    work(group)
    leave_behind_entry = client.xreadgroup("shipping", "dead", {"orders": ">"}, count=3)
    first, second = (entry for entry, _ in leave_behind_entry[0][1][:2])
    client.xack("orders", "shipping", first)
    assert trim(client, "orders") == 1
    assert client.xrange("orders", count=1)[0][0] == second
    assert work(other) == list("2345")
    assert trim(client, "orders") == 3
    assert trim(client, "orders") == 0


def test_trim_compares_numbers(client, group):
    """`trim` compares ids as numbers: 9-0 comes before 10-0."""
    Group(client, "orders", "shipping")
    for entry in ("9-0", "10-0"):
        client.xadd("orders", {"order": entry}, id=entry)
    work(group)
    client.xreadgroup("shipping", "dead", {"orders": ">"}, count=1)
    assert trim(client, "orders") == 0
    assert client.xlen("orders") == 2


def test_stream_without_groups_is_not_trimmed(client):
    """A stream that nobody reads yet is not trimmed."""
    add(client, "1")
    assert trim(client, "orders") == 0


# --8<-- [start:wrong]
def consume_as_often_copied(client, consumer, handle):
    with suppress(ResponseError):
        client.xgroup_create("orders", "billing", id="$", mkstream=True)
    reply = client.xreadgroup("billing", consumer, {"orders": ">"}, count=10, block=1)
    for _, entries in reply:
        for entry, fields in entries:
            handle(entry, fields)
            client.xack("orders", "billing", entry)


# --8<-- [end:wrong]


def often_copied(client, consumer="ben") -> list[str]:
    handled = []
    consume_as_often_copied(client, consumer, lambda *args: handled.append(args))
    return handled


def test_often_copied_forgets_what_a_crash_left(client):
    """Often copied: after a crash nobody gets the entry again, not even after days."""
    often_copied(client)
    add(client, "1")
    with pytest.raises(ZeroDivisionError):
        consume_as_often_copied(client, "anna", fail)
    assert [often_copied(client, consumer) for consumer in ("anna", "ben")] == [[], []]
    assert pending(client) == 1


def test_often_copied_stops_at_a_failure(client):
    """Often copied: one bad entry ends the loop; those delivered with it are stuck."""
    often_copied(client)
    add(client, "bad", "2", "3")
    with pytest.raises(ZeroDivisionError):
        consume_as_often_copied(client, "anna", fail)
    assert often_copied(client) == []
    assert pending(client) == 3


def test_often_copied_skips_what_came_first(client):
    """Often copied: with "$", entries from before the first consumer are never seen."""
    add(client, "early")
    assert often_copied(client) == []


def test_often_copied_length_limit_loses_work(client, group):
    """Often copied: MAXLEN removes entries that nobody has handled, without a word."""
    add(client, "1")
    leave_behind(client)
    client.xadd("orders", {"order": "2"}, maxlen=1, approximate=False)
    assert work(group) == ["2"]
    assert pending(client) == 0


def test_often_copied_removing_a_consumer_loses_work(client, group):
    """Often copied: XGROUP DELCONSUMER forgets the entries that it had not done."""
    add(client, "1")
    leave_behind(client)
    assert client.xgroup_delconsumer("orders", "billing", "dead") == 1
    assert work(group) == []
