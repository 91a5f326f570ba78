import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import LockError, LockNotOwnedError
from redis.retry import Retry

from recipes.redis.lock_safely import SCHEMA, FencedLock, save


@pytest.fixture
def client(redis) -> Iterator[Redis]:
    with Redis.from_url(redis) as client:
        yield client


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute(SCHEMA)
        yield db


def make_lock(client, *, ttl=10, wait=0) -> FencedLock:
    return FencedLock(client, "report", ttl, wait)


def let_it_expire(client) -> None:
    """What the server does when the time is over: a pause was longer than the TTL."""
    assert client.delete("lock:{report}")


def test_one_holder_at_a_time(client):
    """Eight threads read, add and write under the lock: not one addition is lost."""

    def add_five(_: int) -> list[int]:
        fences = []
        for _ in range(5):
            with make_lock(client, wait=30) as lock:
                client.set("total", int(client.get("total") or 0) + 1)
                fences.append(lock.fence)
        return fences

    with ThreadPoolExecutor(8) as pool:
        fences = [fence for some in pool.map(add_five, range(8)) for fence in some]
    assert int(client.get("total")) == 40
    assert sorted(fences) == list(range(1, 41))


def test_wait_ends(client):
    """The lock does not come in time: LockError, and the block does not run."""
    with make_lock(client):
        with pytest.raises(LockError, match="Unable to acquire"):
            make_lock(client, wait=0.1).__enter__()
        assert client.get("lock:{report}:fence") == b"1"


def test_crash_frees_the_lock(client):
    """A holder that crashes blocks the others for the TTL, not for ever."""
    assert make_lock(client, ttl=0.05).acquire()
    with make_lock(client, wait=5) as lock:
        assert lock.fence == 2


def test_error_frees_the_lock(client):
    """An error in the block reaches the caller, and the lock is free."""
    with pytest.raises(ZeroDivisionError), make_lock(client):
        raise ZeroDivisionError
    assert make_lock(client).acquire()


def test_late_release_takes_nothing_away(client):
    """The lock ended too early: the late holder gets an error, the next keeps it."""
    late, next_one = make_lock(client), make_lock(client)
    assert late.acquire()
    let_it_expire(client)
    assert next_one.acquire()
    with pytest.raises(LockNotOwnedError):
        late.__exit__(None, None, None)
    assert next_one.owned()
    assert not make_lock(client).acquire()


def test_reacquire_gives_the_full_time(client):
    """`reacquire` gives the full time again."""
    with make_lock(client, ttl=10) as lock:
        client.pexpire(lock.name, 1000)
        lock.reacquire()
        assert 9_000 < client.pttl(lock.name) <= 10_000


def test_reacquire_finds_the_loss(client):
    """`reacquire` raises when the lock has gone to somebody else; they keep it."""
    lock, next_one = make_lock(client), make_lock(client)
    assert lock.acquire()
    let_it_expire(client)
    assert next_one.acquire()
    with pytest.raises(LockNotOwnedError):
        lock.reacquire()
    assert next_one.owned()


def test_late_writer_is_refused(client, db):
    """A holder whose lock has ended cannot overwrite what the next one wrote."""
    late, next_one = make_lock(client), make_lock(client)
    assert late.acquire()
    save(db, "november", "by the first", late.fence)
    let_it_expire(client)
    assert next_one.acquire()
    save(db, "november", "by the second", next_one.fence)
    with pytest.raises(LockError, match="number 1 is too old"):
        save(db, "november", "late", late.fence)
    assert db.execute("SELECT * FROM report").fetchall() == [
        ("november", "by the second", 2)
    ]


def test_holder_writes_again(client, db):
    """One holder may write many times."""
    with make_lock(client) as lock:
        for body in ("half", "done"):
            save(db, "november", body, lock.fence)
    assert db.execute("SELECT body FROM report").fetchone() == ("done",)


def test_lost_answer(redis, fault_proxy):
    """The answer to the first attempt is lost: the retry finds its own lock."""
    proxy = fault_proxy(redis)
    with Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 1)) as client:
        proxy.cut_answer_to(b"EVAL")
        with make_lock(client) as lock:
            assert proxy.was_cut.is_set()
            assert lock.fence == 1


# --8<-- [start:wrong]
def acquire_as_often_copied(client, name, ttl):
    return client.set(name, "locked", nx=True, ex=ttl)


def release_as_often_copied(client, name):
    client.delete(name)


# --8<-- [end:wrong]


def test_often_copied_releases_the_lock_of_another(client):
    """Often copied: A's late release deletes B's lock; C gets it, B still works."""
    assert acquire_as_often_copied(client, "report", 10)  # A
    client.delete("report")  # A's time is over
    assert acquire_as_often_copied(client, "report", 10)  # B
    release_as_often_copied(client, "report")  # A is late
    assert acquire_as_often_copied(client, "report", 10)  # C, while B works


# --8<-- [start:wrong_compare]
def release_in_two_steps(client, name, token):
    if client.get(name) == token:
        client.delete(name)


# --8<-- [end:wrong_compare]


class PausedAfterGet(Redis):
    """A's client: between its GET and its DEL, its lock ends and B gets it."""

    def get(self, name):
        value = super().get(name)
        self.delete(name)
        self.set(name, "B", nx=True, ex=10)
        return value


def test_often_copied_compare_in_two_steps(redis):
    """Often copied: a token compared outside of a script deletes B's lock as well."""
    with PausedAfterGet.from_url(redis) as client:
        client.set("report", "A", nx=True, ex=10)
        release_in_two_steps(client, "report", b"A")
        assert not client.exists("report")


def test_often_copied_number_comes_late(client, db):
    """Often copied: a number taken after the lock lets the late holder win."""
    late = client.lock("report", timeout=10)
    assert late.acquire()
    client.delete("report")  # a pause before INCR was longer than the TTL
    assert client.lock("report", timeout=10).acquire()
    save(db, "november", "by the second", client.incr("fence"))
    save(db, "november", "late", client.incr("fence"))
    assert db.execute("SELECT body FROM report").fetchone() == ("late",)


def test_often_copied_lost_answer_locks_everybody_out(redis, fault_proxy):
    """Often copied: after a lost answer, SET NX waits for the lock it holds itself."""
    proxy = fault_proxy(redis)
    with Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 1)) as client:
        proxy.cut_answer_to(b"NX")
        assert not client.lock("report", timeout=10).acquire(blocking=False)
        assert client.exists("report")
