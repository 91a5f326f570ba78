# ruff: noqa: RET503 - the wrong versions below fall off their end
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import psycopg
import pytest
from psycopg import IsolationLevel, errors

from recipes.postgresql.retry_serialization_failure import leave, run_transaction


@pytest.fixture
def conn(postgresql):
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute("CREATE TABLE doctor (name text PRIMARY KEY, on_call bool)")
        conn.execute("INSERT INTO doctor VALUES ('Ann', true), ('Ben', true)")
        yield conn


@pytest.fixture
def waits(monkeypatch):
    """The pauses that were asked for; none is made."""
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    return waits


def on_call(conn):
    return conn.execute("SELECT count(*) FROM doctor WHERE on_call").fetchone()[0]


def meeting_at(barrier: Barrier, word: str):
    """A connection that waits for the other before its first statement with word."""

    class Meeting(psycopg.Connection):
        has_met = False

        def execute(self, query, *args, **kwargs):
            if word in query and not self.has_met:
                self.has_met = True
                barrier.wait(timeout=10)
            return super().execute(query, *args, **kwargs)

    return Meeting


def both_leave(url, run, **settings):
    """Ann and Ben read, wait for each other, then write. Returns who left."""
    meeting = meeting_at(Barrier(2), "UPDATE")

    def one(name):
        with meeting.connect(url, **settings) as conn:
            return run(conn, lambda conn: leave(conn, name))

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, ("Ann", "Ben")))


def test_write_skew_is_prevented(conn, postgresql):
    """Two doctors read "2 on call" and leave at once: one leaves, the other may not."""
    assert sorted(both_leave(postgresql, run_transaction)) == [False, True]
    assert on_call(conn) == 1


def test_deadlock_is_retried(conn, postgresql):
    """Two transactions that lock the same rows in opposite order both commit."""
    barrier = Barrier(2)

    def one(first, second):
        def work(conn):
            change = "UPDATE doctor SET on_call = NOT on_call WHERE name = %s"
            conn.execute(change, (first,))
            conn.execute(change + " -- second", (second,))

        meeting = meeting_at(barrier, "second")
        with meeting.connect(postgresql, options="-c deadlock_timeout=20ms") as conn:
            run_transaction(conn, work, attempts=20, pause=0.005)

    with ThreadPoolExecutor() as pool:
        list(pool.map(one, ("Ann", "Ben"), ("Ben", "Ann")))
    assert on_call(conn) == 2


FAIL = "DO $$ BEGIN RAISE 'try again' USING ERRCODE = '{}'; END $$"


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
def test_whole_transaction_runs_again(conn, waits, sqlstate):
    """What the failed attempt wrote is gone: after three attempts there is one row."""
    runs = []

    def work(conn):
        runs.append(None)
        conn.execute("INSERT INTO doctor VALUES ('Eve', true)")
        if len(runs) < 3:
            conn.execute(FAIL.format(sqlstate))
        return "done"

    assert run_transaction(conn, work) == "done"
    assert len(runs) == 3
    assert on_call(conn) == 3


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
def test_limit_is_kept(conn, waits, sqlstate):
    """After the last attempt the caller gets the server's error."""
    runs = []

    def work(conn):
        runs.append(None)
        conn.execute(FAIL.format(sqlstate))

    with pytest.raises(psycopg.OperationalError) as caught:
        run_transaction(conn, work, attempts=4)
    assert caught.value.sqlstate == sqlstate
    assert len(runs) == 4
    assert len(waits) == 3


def test_pauses_are_random_and_grow(conn, waits):
    """The pauses are random, and their limit doubles with each attempt."""
    for _ in range(20):
        with pytest.raises(errors.SerializationFailure):
            run_transaction(conn, lambda c: c.execute(FAIL.format("40001")), attempts=4)
    for attempt, limit in enumerate((0.05, 0.1, 0.2)):
        column = waits[attempt::3]
        assert len(set(column)) == 20
        assert limit / 2 < max(column) <= limit


@pytest.mark.parametrize("sqlstate", ["23505", "57014", "40002"])
def test_other_errors_are_not_retried(conn, waits, sqlstate):
    """Any other error ends it at once: a duplicate key, a timeout."""
    runs = []

    def work(conn):
        runs.append(None)
        conn.execute(FAIL.format(sqlstate))

    with pytest.raises(psycopg.Error) as caught:
        run_transaction(conn, work)
    assert caught.value.sqlstate == sqlstate
    assert len(runs) == 1


def insert_eve(conn):
    conn.execute("INSERT INTO doctor VALUES ('Eve ' || gen_random_uuid(), true)")


def test_lost_answer_is_not_retried(conn, postgresql, fault_proxy, waits):
    """The commit's answer is lost: nobody knows, so it does not run a second time."""
    proxy = fault_proxy(postgresql)
    proxy.cut_answer_to(b"COMMIT")
    with (
        psycopg.connect(proxy.url) as other,
        pytest.raises(psycopg.OperationalError),
    ):
        run_transaction(other, insert_eve)
    assert proxy.was_cut.is_set()
    assert waits == []
    assert on_call(conn) == 3


def test_inside_a_transaction_it_refuses(conn):
    """Inside a transaction it refuses: a part of one cannot run again."""
    with conn.transaction(), pytest.raises(RuntimeError, match="commit first"):
        run_transaction(conn, insert_eve)


def test_no_attempt_is_an_error(conn):
    """No attempts is an error, not a silent nothing."""
    with pytest.raises(ValueError, match="attempts"):
        run_transaction(conn, insert_eve, attempts=0)


def test_level_ends_with_the_transaction(conn):
    """The connection has its own isolation level back afterwards."""
    seen = run_transaction(
        conn, lambda c: c.execute("SHOW transaction_isolation").fetchone()[0]
    )
    assert seen == "serializable"
    assert conn.execute("SHOW transaction_isolation").fetchone()[0] == "read committed"


# --8<-- [start:wrong]
def execute_with_retry(conn, query, params=()):
    for attempt in range(3):
        try:
            return conn.execute(query, params)
        except psycopg.OperationalError:
            time.sleep(0.1 * 2**attempt)


def run_with_retry(url, work):
    for attempt in range(3):
        try:
            with psycopg.connect(url) as conn:
                return work(conn)
        except psycopg.OperationalError:
            time.sleep(0.1 * 2**attempt)


# --8<-- [end:wrong]


def test_often_copied_retries_a_statement(postgresql, waits):
    """Often copied: the transaction is over, so the statement fails for ever."""
    with (
        psycopg.connect(postgresql) as conn,
        pytest.raises(errors.InFailedSqlTransaction),
    ):
        execute_with_retry(conn, FAIL.format("40001"))


def test_often_copied_does_it_twice(conn, postgresql, fault_proxy, waits):
    """Often copied: the answer to COMMIT is lost, and the work is done twice."""
    proxy = fault_proxy(postgresql)
    proxy.cut_answer_to(b"COMMIT")
    run_with_retry(proxy.url, insert_eve)
    assert on_call(conn) == 4


def test_often_copied_returns_none(conn, postgresql, waits):
    """Often copied: after the last attempt it returns None, as if all were well."""
    assert run_with_retry(postgresql, lambda c: c.execute(FAIL.format("40001"))) is None


def test_often_copied_leaves_nobody_on_call(conn, postgresql):
    """Often copied: below SERIALIZABLE nothing fails, and nobody is on call."""

    def run(conn, work):
        conn.isolation_level = IsolationLevel.REPEATABLE_READ
        return work(conn)

    assert both_leave(postgresql, run) == [True, True]
    assert on_call(conn) == 0
