"""hybrid_oltp_warehouse: no change is missed, and none counts twice."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from decimal import Decimal

import psycopg
import pytest
from google.api_core.exceptions import NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery as driver

from recipes.bigquery.hybrid_oltp_warehouse import SOURCE, TARGET, merge, run, sync

COPY = "SELECT id, status, amount FROM orders ORDER BY id"


@pytest.fixture
def source(postgresql):
    """PostgreSQL, with two orders."""
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute(SOURCE)
        conn.execute("INSERT INTO orders VALUES (1, 'new', 10), (2, 'new', 20)")
        yield conn


@pytest.fixture
def target(client):
    """BigQuery, with empty tables."""
    run(client, TARGET)
    return client


def is_equal(source, target) -> bool:
    return run(target, COPY) == source.execute(COPY).fetchall()


def test_the_first_time_copies_all(source, target):
    """The first time everything is copied, to the cent."""
    source.execute("INSERT INTO orders VALUES (3, %s, 999999999999999.99)", ("Zoë's",))
    assert sync(source, target) == 3
    assert is_equal(source, target)


def test_only_changes_count(source, target):
    """Inserted and updated rows follow; a sync without changes changes nothing."""
    sync(source, target)
    source.execute("UPDATE orders SET status = 'paid' WHERE id = 2")
    source.execute("INSERT INTO orders VALUES (3, 'new', 30)")
    assert sync(source, target) == 2
    assert is_equal(source, target)
    assert sync(source, target) == 0
    assert run(target, "SELECT COUNT(*) FROM orders") == [(3,)]


def test_many_batches(source, target):
    """More rows than a batch holds are merged batch by batch."""
    source.execute(
        "INSERT INTO orders SELECT n, 'new', n FROM generate_series(3, 25) AS n"
    )
    assert sync(source, target, batch=10) == 25
    assert is_equal(source, target)


def test_late_commit_is_not_missed(source, target, postgresql):
    """A transaction that began before a sync and ends after it is not missed."""
    with psycopg.connect(postgresql) as slow:
        slow.execute("UPDATE orders SET status = 'paid' WHERE id = 1")
        source.execute("UPDATE orders SET status = 'sent' WHERE id = 2")
        sync(source, target)
        slow.commit()
    sync(source, target)
    assert is_equal(source, target)


def test_after_a_crash_before_the_mark(source, target):
    """A crash after the merge and before the mark: again, and nothing changes."""
    sync(source, target)
    run(target, "DELETE FROM synced WHERE TRUE")
    assert sync(source, target) == 0
    assert is_equal(source, target)


def test_after_a_crash_between_two_batches(source, environment, target, recorder):
    """A sync that fails half-way is finished by the next one."""
    with closing(driver.Client(credentials=AnonymousCredentials())) as unlucky:
        unlucky.default_query_job_config = target.default_query_job_config
        recorder.replace = (b'"numDmlAffectedRows"', b"\xff")  # an unreadable answer
        with pytest.raises(ValueError):
            sync(source, unlucky, batch=1)
    assert run(target, "SELECT COUNT(*) FROM orders") == [(1,)]
    assert run(target, "SELECT COUNT(*) FROM synced") == [(0,)]
    assert sync(source, target) == 1
    assert is_equal(source, target)


def test_an_old_batch_comes_late(source, target):
    """A batch that arrives after a newer one does not bring the old values back."""
    sync(source, target)
    old = [(1, "old", Decimal(0), 1)]
    assert merge(target, old) == 0
    assert is_equal(source, target)


def test_two_at_the_same_time(source, target, postgresql):
    """Two syncs at the same time leave each row once, with its newest values."""
    source.execute(
        "INSERT INTO orders SELECT n, 'new', n FROM generate_series(3, 20) AS n"
    )

    def run_sync(_: int) -> None:
        with psycopg.connect(postgresql, autocommit=True) as conn:
            sync(conn, target, batch=5)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run_sync, range(2)))
    sync(source, target)
    assert is_equal(source, target)


def test_error_reaches_the_caller(source, client):
    """Without the tables in BigQuery the error reaches the caller."""
    with pytest.raises(NotFound):
        sync(source, client)


# --8<-- [start:wrong]
def sync_as_often_copied(source, target):
    ((last,),) = run(target, "SELECT IFNULL(MAX(id), 0) FROM orders")
    rows = source.execute(
        "SELECT id, status, amount FROM orders WHERE id > %s", (last,)
    ).fetchall()
    for row in rows:
        insert = "INSERT orders (id, status, amount, version) VALUES (%d, '%s', %s, 0)"
        run(target, insert % row)


# --8<-- [end:wrong]


def test_often_copied_misses_updates(source, target):
    """Often copied: an update is never seen."""
    sync_as_often_copied(source, target)
    source.execute("UPDATE orders SET status = 'paid' WHERE id = 1")
    sync_as_often_copied(source, target)
    assert run(target, COPY)[0][1] == "new"


def test_often_copied_misses_late_commits(source, target, postgresql):
    """Often copied: a row that is committed after one with a larger id is lost."""
    with psycopg.connect(postgresql) as slow:
        slow.execute("INSERT INTO orders VALUES (3, 'new', 30)")
        source.execute("INSERT INTO orders VALUES (4, 'new', 40)")
        sync_as_often_copied(source, target)
        slow.commit()
    sync_as_often_copied(source, target)
    assert [row[0] for row in run(target, COPY)] == [1, 2, 4]


def test_often_copied_twice_at_once(source, target):
    """Often copied: two runs that read the same mark insert every row twice."""

    class Meanwhile:
        """Between the mark and the rows of this run, another one comes and goes."""

        def execute(self, *args):
            sync_as_often_copied(source, target)
            return source.execute(*args)

    sync_as_often_copied(Meanwhile(), target)
    assert [row[0] for row in run(target, COPY)] == [1, 1, 2, 2]
