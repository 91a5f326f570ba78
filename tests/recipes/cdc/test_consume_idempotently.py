import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import KafkaException

from recipes.cdc.consume_idempotently import (
    SCHEMA,
    apply,
    apply_next,
    forget,
    make_consumer,
)

ROOT = Path(__file__).parents[3]


@pytest.fixture
def conn(postgresql):
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute(SCHEMA)
        conn.execute("INSERT INTO account VALUES (1, 100)")
        yield conn


@pytest.fixture
def broker(topics) -> dict:
    # With a name, a consumer that starts again takes the place of the one that crashed.
    return {"bootstrap.servers": topics.servers, "group.instance.id": "one"}


@pytest.fixture
def group(topics) -> str:
    return f"{topics.name}-ledger"


@pytest.fixture
def consumer(broker, topics, group):
    with make_consumer(broker, group, topics.name) as consumer:
        yield consumer


def send(topics, *events, amount="10", account=1) -> None:
    for event in events:
        body = f'{{"account": {account}, "amount": "{amount}"}}'.encode()
        topics.send(body, headers={"id": str(event)})


def balance(conn) -> Decimal:
    ((found,),) = conn.execute("SELECT balance FROM account").fetchall()
    return found


def test_applies(topics, consumer, conn):
    """An event changes the balance, to the cent."""
    send(topics, uuid4(), amount="30.10")
    assert apply_next(consumer, conn, wait=10) is True
    assert balance(conn) == Decimal("130.10")


def test_nothing_came(topics, consumer, conn):
    """No event in the given time: None."""
    send(topics, uuid4())
    # A consumer that is closed while it joins its group may hang for ever.
    assert apply_next(consumer, conn, wait=10) is True
    assert apply_next(consumer, conn, wait=0.01) is None


def test_sent_twice(topics, consumer, conn):
    """An event that the producer sent twice is applied once."""
    event = uuid4()
    send(topics, event, event, uuid4())
    assert [apply_next(consumer, conn, wait=10) for _ in range(3)] == [
        True,
        False,
        True,
    ]
    assert balance(conn) == 120


def test_read_again_from_the_start(topics, broker, group, conn):
    """The group's offsets are lost and it reads all again: nothing is applied twice."""
    send(topics, uuid4(), uuid4())
    for name, applied in ((group, True), (f"{group}-new", False)):
        with make_consumer(broker, name, topics.name) as consumer:
            for _ in range(2):
                assert apply_next(consumer, conn, wait=10) is applied
    assert balance(conn) == 120


def test_commits_its_place(topics, broker, group, conn):
    """After a good end the next start goes on behind the last event."""
    send(topics, uuid4())
    with make_consumer(broker, group, topics.name) as consumer:
        apply_next(consumer, conn, wait=10)
    assert topics.committed(group) == 1


# Runs a consumer that kills itself at a step of the first event.
KILLED = """
import os, signal, sys
import psycopg
from recipes.cdc import consume_idempotently as recipe

url, servers, group, topic, step = sys.argv[1:]

def at(reached):
    if reached == step:
        os.kill(os.getpid(), signal.SIGKILL)

class Connection(psycopg.Connection):
    def execute(self, query, *args, **kwargs):
        word = query.split()[0]
        at(f"before {word}")
        done = super().execute(query, *args, **kwargs)
        at(f"after {word}")
        return done

class Consumer(recipe.Consumer):
    def store_offsets(self, message):
        at("after COMMIT")
        super().store_offsets(message)
        at("after store_offsets")

recipe.Consumer = Consumer
broker = {"bootstrap.servers": servers, "group.instance.id": "one"}
with Connection.connect(url, autocommit=True) as conn:
    with recipe.make_consumer(broker, group, topic) as consumer:
        recipe.apply_next(consumer, conn, wait=10)
    at("after close")
"""

STEPS = {
    "before INSERT": 0,
    "after INSERT": 0,
    "before UPDATE": 0,
    "after UPDATE": 0,
    "after COMMIT": 1,
    "after store_offsets": 1,
    "after close": 1,
}


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step(topics, broker, group, conn, postgresql, step):
    """The process is killed at any step, before and after each statement, COMMIT and
    offset: after a restart each event is applied exactly once."""
    send(topics, uuid4(), uuid4())
    args = (postgresql, topics.servers, group, topics.name, step)
    killed = subprocess.run([sys.executable, "-c", KILLED, *args], cwd=ROOT)
    assert killed.returncode == -9
    assert balance(conn) == 100 + 10 * STEPS[step]
    with make_consumer(broker, group, topics.name) as consumer:
        while topics_left(consumer, conn):
            pass
    assert balance(conn) == 120
    assert topics.committed(group) == 2


def topics_left(consumer, conn) -> bool:
    """Apply the next event; False when both have been applied."""
    assert apply_next(consumer, conn, wait=10) is not None
    (applied,) = conn.execute("SELECT count(*) FROM applied_event").fetchone()
    return applied < 2


def test_lost_answer_to_commit(topics, broker, group, conn, postgresql, fault_proxy):
    """The answer to COMMIT is lost: an error, and the event is not applied again."""
    send(topics, uuid4())
    proxy = fault_proxy(postgresql)
    with (
        psycopg.connect(proxy.url, autocommit=True) as behind,
        make_consumer(broker, group, topics.name) as consumer,
    ):
        proxy.cut_answer_to(b"COMMIT")
        with pytest.raises(psycopg.OperationalError):
            apply_next(consumer, behind, wait=10)
    assert topics.committed(group) < 0
    with make_consumer(broker, group, topics.name) as consumer:
        assert apply_next(consumer, conn, wait=10) is False
    assert balance(conn) == 110


@pytest.mark.parametrize(("end", "applied"), [("commit", False), ("rollback", True)])
def test_two_at_the_same_time(conn, postgresql, end, applied):
    """Two consumers hold the same event: the second one waits for the first, and
    applies it only if the first did not."""
    event = uuid4()
    with (
        ThreadPoolExecutor() as pool,
        psycopg.connect(postgresql) as first,
        psycopg.connect(postgresql, autocommit=True) as observer,
    ):
        first.execute("SELECT 1")  # begins a transaction around the first one
        assert apply(first, event, 1, Decimal(10))
        second = pool.submit(apply, conn, event, 1, Decimal(10))
        wait_until_blocked(observer)
        getattr(first, end)()
        assert second.result(timeout=10) is applied
    assert balance(conn) == 110


def wait_until_blocked(conn) -> None:
    query = (
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
        " AND pg_blocking_pids(pid) <> '{}'"
    )
    deadline = time.monotonic() + 10
    while not conn.execute(query).fetchone():
        assert time.monotonic() < deadline, "the second one never waited"


def test_unknown_account(topics, consumer, conn):
    """An event for an unknown account is an error, and stays to be applied."""
    send(topics, uuid4(), account=9)
    with pytest.raises(LookupError, match="no account 9"):
        apply_next(consumer, conn, wait=10)
    assert conn.execute("SELECT count(*) FROM applied_event").fetchone() == (0,)


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        pytest.param(b'{"account": 1, "amount": "1"}', None, id="no-id"),
        pytest.param(b'{"account": 1, "amount": "1"}', {"id": b"7"}, id="bad-id"),
        pytest.param(b"{", {"id": str(uuid4())}, id="no-json"),
        pytest.param(b"[]", {"id": str(uuid4())}, id="no-object"),
        pytest.param(b'{"account": 1}', {"id": str(uuid4())}, id="no-amount"),
        pytest.param(
            b'{"account": 1, "amount": "x"}', {"id": str(uuid4())}, id="bad-amount"
        ),
        pytest.param(
            b'{"account": 1, "amount": "NaN"}', {"id": str(uuid4())}, id="nan"
        ),
        pytest.param(None, {"id": str(uuid4())}, id="tombstone"),
    ],
)
def test_bad_message(topics, consumer, conn, value, headers):
    """A message without id, account or amount is a ValueError, and changes nothing."""
    topics.send(value, headers=headers)
    with pytest.raises(ValueError):
        apply_next(consumer, conn, wait=10)
    assert balance(conn) == 100


def test_missing_topic(broker, topics, group, conn):
    """What Kafka reports in place of a message is raised: here a missing topic."""
    with (
        make_consumer(broker, group, f"{topics.name}-misspelt") as consumer,
        pytest.raises(KafkaException),
    ):
        apply_next(consumer, conn, wait=10)


def test_forget(conn):
    """`forget` deletes the ids of old events and keeps those of new ones."""
    apply(conn, uuid4(), 1, Decimal(1))
    apply(conn, uuid4(), 1, Decimal(1))
    conn.execute(
        "UPDATE applied_event SET applied_at = now() - interval '31 days'"
        " WHERE id = (SELECT id FROM applied_event LIMIT 1)"
    )
    assert forget(conn, timedelta(days=30)) == 1
    assert forget(conn, timedelta(days=30)) == 0


# --8<-- [start:wrong]
def apply_as_often_copied(conn, event, account, amount):
    seen = conn.execute("SELECT 1 FROM applied_event WHERE id = %s", (event,))
    if seen.fetchone():
        return
    with conn.transaction():
        credit = "UPDATE account SET balance = balance + %s WHERE id = %s"
        conn.execute(credit, (amount, account))
    with conn.transaction():
        conn.execute("INSERT INTO applied_event (id) VALUES (%s)", (event,))


# --8<-- [end:wrong]


class CrashesBeforeInsert(psycopg.Connection):
    def execute(self, query, *args, **kwargs):
        if query.startswith("INSERT"):
            raise SystemExit
        return super().execute(query, *args, **kwargs)


def test_often_copied_crash_doubles_the_effect(conn, postgresql):
    """Often copied: a crash between the two transactions, and the money moves twice."""
    event = uuid4()
    with (
        CrashesBeforeInsert.connect(postgresql, autocommit=True) as first,
        pytest.raises(SystemExit),
    ):
        apply_as_often_copied(first, event, 1, Decimal(10))
    apply_as_often_copied(conn, event, 1, Decimal(10))
    assert balance(conn) == 120


def test_often_copied_two_at_once_double_the_effect(conn, postgresql):
    """Often copied: two consumers look before either writes, and the money moves twice;
    the error comes too late."""
    event = uuid4()

    class LooksFirst(psycopg.Connection):
        def transaction(self, *args, **kwargs):
            if not meanwhile:
                meanwhile.append(apply_as_often_copied(conn, event, 1, Decimal(10)))
            return super().transaction(*args, **kwargs)

    meanwhile: list = []
    with (
        LooksFirst.connect(postgresql, autocommit=True) as late,
        pytest.raises(psycopg.errors.UniqueViolation),
    ):
        apply_as_often_copied(late, event, 1, Decimal(10))
    assert balance(conn) == 120
