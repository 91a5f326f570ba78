import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import psycopg
import pytest

from recipes.postgresql.job_queue_skip_locked import (
    SCHEMA,
    add_job,
    failed_jobs,
    work_one,
)

ROOT = Path(__file__).parents[3]


@pytest.fixture
def conn(postgresql):
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute(SCHEMA)
        conn.execute("CREATE TABLE done (payload jsonb, worker int)")
        yield conn


def record(conn, payload):
    """A job that writes to the database who did it."""
    conn.execute(
        "INSERT INTO done VALUES (%s::text::jsonb, pg_backend_pid())", (payload,)
    )


def fail(conn, payload):
    record(conn, payload)
    raise ZeroDivisionError("division by zero")


def done(conn):
    return [row[0] for row in conn.execute("SELECT payload FROM done ORDER BY 1")]


def jobs(conn):
    """Attempts and error of the jobs that are left."""
    return conn.execute("SELECT attempts, error FROM job ORDER BY id").fetchall()


def test_runs_each_job_once_in_order(conn):
    """Jobs run in the order in which they were added, and are gone afterwards."""
    seen = []
    for n in range(3):
        add_job(conn, n)
    while work_one(conn, lambda _, payload: seen.append(payload)):
        pass
    assert seen == [0, 1, 2]
    assert jobs(conn) == []


def test_job_belongs_to_the_transaction_that_added_it(conn, postgresql):
    """A job whose transaction is rolled back never runs, one not committed waits."""
    with psycopg.connect(postgresql) as other:
        add_job(other, 1)
        assert not work_one(conn, record)
        other.rollback()
        assert not work_one(conn, record)
        add_job(other, 2)
        other.commit()
    assert work_one(conn, record)
    assert done(conn) == [2]


def test_two_workers_take_two_jobs(conn, postgresql):
    """While one worker has a job, another takes the next one, and does not wait."""
    for n in (1, 2):
        add_job(conn, n)

    def second_meanwhile(first, payload):
        record(first, payload)
        with psycopg.connect(postgresql, options="-c lock_timeout=1s") as second:
            assert work_one(second, record)
            assert not work_one(second, record)

    assert work_one(conn, second_meanwhile)
    assert done(conn) == [1, 2]
    workers = conn.execute("SELECT count(DISTINCT worker) FROM done").fetchone()
    assert workers == (2,)


def test_slow_job_stays_with_its_worker(conn, postgresql):
    """A job that takes longer than its pause is still taken by nobody else."""
    add_job(conn, 1)

    def second_meanwhile(first, payload):
        with psycopg.connect(postgresql) as second:
            assert not work_one(second, record, pause=0)
        record(first, payload)

    assert work_one(conn, second_meanwhile, pause=0)
    assert done(conn) == [1]


def test_many_workers_run_each_job_once(conn, postgresql):
    """Four workers at once, 100 jobs: every job is done exactly once."""
    for n in range(100):
        add_job(conn, n)
    start = Barrier(4)

    def worker(_):
        with psycopg.connect(postgresql, autocommit=True) as conn:
            start.wait(timeout=10)
            while work_one(conn, record):
                pass

    with ThreadPoolExecutor() as pool:
        list(pool.map(worker, range(4)))
    assert done(conn) == list(range(100))
    assert jobs(conn) == []


def test_taken_between_claim_and_lock(conn, postgresql):
    """Another worker slips in between the claim and the lock: one of them runs it."""
    add_job(conn, 1)

    class Late(psycopg.Connection):
        def execute(self, query, *args, **kwargs):
            if query.startswith("SELECT FROM job"):
                assert work_one(conn, record, pause=0)
            return super().execute(query, *args, **kwargs)

    with Late.connect(postgresql) as late:
        work_one(late, record, pause=0)
    assert done(conn) == [1]


def test_locked_between_claim_and_lock(conn, postgresql):
    """Another worker's claim looks at the job for a moment: it is run all the same."""
    add_job(conn, 1)

    def let_go(locker):
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        give_up = time.monotonic() + 2
        while conn.execute(waiting).fetchone() == (0,) and time.monotonic() < give_up:
            time.sleep(0.005)
        locker.rollback()

    with psycopg.connect(postgresql) as locker, ThreadPoolExecutor() as pool:

        class Late(psycopg.Connection):
            def execute(self, query, *args, **kwargs):
                if query.startswith("SELECT FROM job"):
                    locker.execute("SELECT FROM job FOR UPDATE")
                    pool.submit(let_go, locker)
                return super().execute(query, *args, **kwargs)

        with Late.connect(postgresql) as late:
            assert work_one(late, record)
    assert done(conn) == [1]


def test_failed_job_is_tried_again_and_kept(conn):
    """A job that fails is tried three times, and then kept with its error."""
    job = add_job(conn, 7)
    for attempt in (1, 2, 3):
        assert failed_jobs(conn) == []
        assert work_one(conn, fail, pause=0)
        assert jobs(conn) == [(attempt, "ZeroDivisionError: division by zero")]
    assert not work_one(conn, fail, pause=0)
    assert failed_jobs(conn) == [(job, 7, "ZeroDivisionError: division by zero")]


def test_failed_job_leaves_nothing_behind(conn):
    """What a failed attempt wrote is rolled back."""
    add_job(conn, 1)
    work_one(conn, fail, pause=0)
    assert done(conn) == []
    work_one(conn, record, pause=0)
    assert done(conn) == [1]


def test_failure_in_the_database_is_kept_too(conn):
    """A job that breaks its transaction is kept like any other failure."""
    add_job(conn, 1)
    work_one(conn, lambda conn, _: conn.execute("SELECT 1 / 0"))
    assert jobs(conn) == [(1, "DivisionByZero: division by zero")]


def test_failed_job_waits_longer_each_time(conn):
    """A failed job is due after 10, 20, 40 seconds; the others go first."""
    add_job(conn, "bad")
    waits = []
    for _ in range(3):
        conn.execute("UPDATE job SET run_at = now()")
        work_one(conn, fail)
        wait = "SELECT round(extract(epoch FROM run_at - now())) FROM job"
        waits.append(int(conn.execute(wait).fetchone()[0]))
        assert not work_one(conn, fail)
    assert waits == [10, 20, 40]


CRASH = """
import os, sys
import psycopg
from recipes.postgresql.job_queue_skip_locked import work_one
def crash(conn, payload):
    conn.execute("INSERT INTO done VALUES ('1', 0)")
    os._exit(9)
with psycopg.connect(sys.argv[1]) as conn:
    work_one(conn, crash, pause=0)
"""


def crash(conn, url):
    """A worker process dies in mid-job; returns when the server has noticed."""
    run = subprocess.run([sys.executable, "-c", CRASH, url], cwd=ROOT, check=False)
    assert run.returncode == 9
    conn.execute("SELECT FROM job FOR UPDATE")  # waits for the lock of the dead


def test_crash_returns_the_job(conn, postgresql):
    """The worker's process dies in mid-job: nothing is written, the job comes back."""
    add_job(conn, 1)
    crash(conn, postgresql)
    assert done(conn) == []
    assert jobs(conn) == [(1, "the worker died")]
    assert work_one(conn, record)
    assert done(conn) == [1]


def test_job_that_kills_its_worker_is_given_up(conn, postgresql):
    """A job that kills every worker counts its attempts too, and is given up."""
    job = add_job(conn, 1)
    conn.execute("UPDATE job SET max_attempts = 1")
    crash(conn, postgresql)
    assert not work_one(conn, record)
    assert failed_jobs(conn) == [(job, 1, "the worker died")]


def test_lost_connection_returns_the_job(conn, postgresql):
    """The connection is lost in mid-job: the worker hears of it, the job comes back."""
    add_job(conn, 1)

    def lose(worker, payload):
        record(worker, payload)
        conn.execute(
            "SELECT pg_terminate_backend(%s, 5000)", (worker.info.backend_pid,)
        )

    with (
        psycopg.connect(postgresql, autocommit=True) as worker,
        pytest.raises(psycopg.OperationalError),
    ):
        work_one(worker, lose, pause=0)
    assert jobs(conn) == [(1, "the worker died")]
    assert work_one(conn, record)
    assert done(conn) == [1]


def test_last_attempt_is_not_failed_yet(conn, postgresql):
    """A job in its last attempt is not among the failed ones."""
    add_job(conn, 1)
    conn.execute("UPDATE job SET max_attempts = 1")
    seen = []

    def look(worker, payload):
        seen.append(failed_jobs(conn))

    with psycopg.connect(postgresql) as worker:
        work_one(worker, look)
    assert seen == [[]]


# --8<-- [start:wrong]
def take_as_often_copied(conn):
    job = conn.execute(
        "SELECT id, payload FROM task WHERE status = 'waiting' ORDER BY id LIMIT 1"
    ).fetchone()
    if job:
        conn.execute("UPDATE task SET status = 'running' WHERE id = %s", (job[0],))
        conn.commit()
    return job


# --8<-- [end:wrong]


@pytest.fixture
def task(postgresql):
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute("CREATE TABLE task (id int, payload text, status text)")
        conn.execute("INSERT INTO task VALUES (1, 'pay', 'waiting')")
        yield conn


def test_often_copied_gives_a_job_to_two(task, postgresql):
    """Often copied: two workers that read at the same time take the same job."""
    barrier = Barrier(2)

    class Meeting(psycopg.Connection):
        def execute(self, query, *args, **kwargs):
            if query.startswith("UPDATE"):
                barrier.wait(timeout=10)
            return super().execute(query, *args, **kwargs)

    def worker(_):
        with Meeting.connect(postgresql) as conn:
            return take_as_often_copied(conn)

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(worker, range(2))) == [(1, "pay"), (1, "pay")]


def test_often_copied_forgets_the_job_of_a_dead_worker(task, postgresql):
    """Often copied: the worker dies, and its job is `running` for ever."""
    with psycopg.connect(postgresql) as worker:
        take_as_often_copied(worker)
    with psycopg.connect(postgresql) as worker:
        assert take_as_often_copied(worker) is None
