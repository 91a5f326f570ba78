import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import KafkaException

from recipes.cdc import consume_idempotently
from recipes.cdc.outbox import SCHEMA, make_producer, pay, relay

ROOT = Path(__file__).parents[3]


@pytest.fixture
def conn(postgresql):
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute(SCHEMA)
        yield conn


@pytest.fixture
def producer(topics):
    with make_producer({"bootstrap.servers": topics.servers}) as producer:
        yield producer


def ids(topics) -> list[str]:
    """The header `id` of each message, in order."""
    return [dict(message.headers())["id"].decode() for message in topics.read()]


def waiting(conn) -> int:
    ((count,),) = conn.execute("SELECT count(*) FROM outbox").fetchall()
    return count


def send_all(conn, producer, topics) -> None:
    """Relay until nothing is left: PostgreSQL may not yet know that another is dead."""
    deadline = time.monotonic() + 30
    while waiting(conn):
        relay(conn, producer, topics.name)
        assert time.monotonic() < deadline


def test_sends_each_event_once(topics, conn, producer):
    """Each payment becomes one message with its id, and leaves the outbox."""
    payments = [uuid4() for _ in range(3)]
    for payment in payments:
        assert pay(conn, payment, 1, Decimal("30.10")) is True
    assert relay(conn, producer, topics.name) == 3
    assert relay(conn, producer, topics.name) == 0
    assert ids(topics) == [str(payment) for payment in payments]
    first = topics.read()[0]
    assert first.key() == b"1"
    assert first.value() == b'{"amount": "30.10", "account": 1}'
    assert waiting(conn) == 0


def test_asked_again(topics, conn, producer):
    """A payment that the caller repeats is recorded once, and told once."""
    payment = uuid4()
    assert [pay(conn, payment, 1, Decimal(5)) for _ in range(2)] == [True, False]
    assert relay(conn, producer, topics.name) == 1
    assert len(ids(topics)) == 1


def test_both_or_neither(conn):
    """A payment that is refused leaves no event."""
    with pytest.raises(psycopg.errors.NumericValueOutOfRange):
        pay(conn, uuid4(), 1, Decimal("1e17"))
    assert waiting(conn) == 0


def test_in_the_caller_s_transaction(conn, topics, producer):
    """Rolled back with the transaction around it, a payment leaves no event."""
    with conn.transaction(force_rollback=True):
        pay(conn, uuid4(), 1, Decimal(5))
    assert relay(conn, producer, topics.name) == 0


def test_by_parts(conn, topics, producer):
    """More events than the limit go in several parts, the oldest first."""
    payments = [uuid4() for _ in range(5)]
    for payment in payments:
        pay(conn, payment, 1, Decimal(1))
    assert [relay(conn, producer, topics.name, limit=2) for _ in range(3)] == [2, 2, 1]
    assert ids(topics) == [str(payment) for payment in payments]


def test_one_relay_at_a_time(conn, postgresql, topics, producer):
    """While a relay is at work, another one sends nothing and does not wait."""
    pay(conn, uuid4(), 1, Decimal(1))
    with psycopg.connect(postgresql) as other:
        other.execute("SELECT pg_advisory_xact_lock('outbox'::regclass::bigint)")
        assert relay(conn, producer, topics.name) is None
    assert relay(conn, producer, topics.name) == 1


def test_commits_late(conn, postgresql, topics, producer):
    """A payment that began first and commits last is sent all the same."""
    with psycopg.connect(postgresql) as slow:
        first = uuid4()
        slow.execute("SELECT 1")
        pay(slow, first, 1, Decimal(1))
        pay(conn, second := uuid4(), 2, Decimal(1))
        assert relay(conn, producer, topics.name) == 1
        slow.commit()
    assert relay(conn, producer, topics.name) == 1
    assert ids(topics) == [str(second), str(first)]


def test_kafka_is_not_there(conn, topics, producer):
    """Where Kafka takes no message, the error is raised and every event is kept."""
    pay(conn, uuid4(), 1, Decimal(1))
    settings = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}
    with (
        make_producer({**settings, "delivery.timeout.ms": 200}) as nowhere,
        pytest.raises(KafkaException, match="_MSG_TIMED_OUT"),
    ):
        relay(conn, nowhere, topics.name)
    assert relay(conn, producer, topics.name) == 1


# Pays and relays, and kills itself at a step.
KILLED = """
import os, signal, sys
from decimal import Decimal
from uuid import UUID
import psycopg
from recipes.cdc import outbox as recipe

url, servers, topic, payment, step = sys.argv[1:]

def at(reached):
    if reached == step:
        os.kill(os.getpid(), signal.SIGKILL)

class Connection(psycopg.Connection):
    def execute(self, query, *args, **kwargs):
        word = " ".join(query.split()[:3])
        at(f"before {word}")
        done = super().execute(query, *args, **kwargs)
        at(f"after {word}")
        return done

class Producer(recipe.Producer):
    def flush(self, *args):
        at("after produce")
        super().flush(*args)
        at("after flush")

recipe.Producer = Producer
with Connection.connect(url, autocommit=True) as conn:
    recipe.pay(conn, UUID(payment), 1, Decimal(10))
    at("after pay")
    recipe.relay(conn, recipe.make_producer({"bootstrap.servers": servers}), topic)
    at("after relay")
"""

# And how many messages are there at the end: a crash may double one.
STEPS = {
    "before INSERT INTO payment": {1},
    "after INSERT INTO payment": {1},
    "after INSERT INTO outbox": {1},
    "after pay": {1},
    "before SELECT number, id,": {1},
    "after produce": {1, 2},
    "after flush": {2},
    "before DELETE FROM outbox": {2},
    "after DELETE FROM outbox": {2},
    "after relay": {1},
}


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step(topics, conn, producer, postgresql, step):
    """The process is killed at any step: the caller asks again, the next relay goes on,
    and the consumer that applies each id once has the effect exactly once."""
    payment = uuid4()
    args = (postgresql, topics.servers, topics.name, str(payment), step)
    killed = subprocess.run([sys.executable, "-c", KILLED, *args], cwd=ROOT)
    assert killed.returncode == -9
    pay(conn, payment, 1, Decimal(10))
    send_all(conn, producer, topics)
    found = ids(topics)
    assert set(found) == {str(payment)}
    assert len(found) in STEPS[step]
    conn.execute(consume_idempotently.SCHEMA)
    conn.execute("INSERT INTO account VALUES (1, 100)")
    for message in topics.read():
        consume_idempotently.apply(conn, *consume_idempotently.parse(message))
    assert conn.execute("SELECT balance FROM account").fetchone() == (110,)


def test_relays_under_load(topics, conn, producer, postgresql):
    """Four writers and two relays at the same time: every event arrives once, and those
    of one account in their order."""
    paid: dict[int, list[str]] = {account: [] for account in range(4)}

    def write(account: int) -> None:
        with psycopg.connect(postgresql, autocommit=True) as own:
            for _ in range(25):
                paid[account].append(str(payment := uuid4()))
                pay(own, payment, account, Decimal(1))

    def send(writers) -> None:
        with psycopg.connect(postgresql, autocommit=True) as own:
            while not all(writer.done() for writer in writers):
                relay(own, producer, topics.name, limit=7)

    with ThreadPoolExecutor() as pool:
        writers = [pool.submit(write, account) for account in paid]
        relays = [pool.submit(send, writers) for _ in range(2)]
        for future in (*writers, *relays):
            future.result(timeout=60)
    send_all(conn, producer, topics)
    for account, expected in paid.items():
        found = [
            dict(message.headers())["id"].decode()
            for message in topics.read()
            if message.key() == str(account).encode()
        ]
        assert found == expected


# --8<-- [start:wrong]
def pay_as_copied(conn, producer, topic, payment, account, amount):
    with conn.transaction():
        conn.execute(
            "INSERT INTO payment VALUES (%s, %s, %s)", (payment, account, amount)
        )
    producer.produce(topic, f'{{"account": {account}, "amount": "{amount}"}}')
    producer.flush(10)


def relay_as_copied(conn, producer, topic, last):
    new = "SELECT number, body::text FROM outbox WHERE number > %s ORDER BY number"
    for number, body in conn.execute(new, (last,)):
        producer.produce(topic, body)
        last = number
    producer.flush(10)
    return last


# --8<-- [end:wrong]


def test_often_copied_writes_to_both(conn, topics):
    """Often copied: Kafka was away when the money was booked; no error, no event."""
    settings = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}
    with make_producer({**settings, "delivery.timeout.ms": 200}) as nowhere:
        pay_as_copied(conn, nowhere, topics.name, uuid4(), 1, Decimal(10))
    assert conn.execute("SELECT count(*) FROM payment").fetchone() == (1,)
    assert ids(topics) == []


def test_often_copied_relay_skips(conn, postgresql, topics, producer):
    """Often copied: a relay that remembers the last number never sends the payment that
    began earlier and committed later."""
    with psycopg.connect(postgresql) as slow:
        slow.execute("SELECT 1")
        pay(slow, uuid4(), 1, Decimal(1))
        pay(conn, uuid4(), 2, Decimal(1))
        last = relay_as_copied(conn, producer, topics.name, 0)
        slow.commit()
    assert relay_as_copied(conn, producer, topics.name, last) == last
    assert topics.values() == [b'{"amount": "1", "account": 2}']
