import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import psycopg
import pytest

from recipes.data_movement.incremental_watermark import SOURCE, TARGET, copy_changes


@pytest.fixture
def connect(postgresql):
    """Make connections that commit by themselves; closed after the test."""
    made = []

    def make(**options):
        made.append(psycopg.connect(postgresql, **{"autocommit": True, **options}))
        return made[-1]

    yield make
    for conn in made:
        conn.close()


@pytest.fixture
def source(connect):
    conn = connect()
    conn.execute(SOURCE)
    return conn


@pytest.fixture
def target(connect):
    conn = connect()
    conn.execute(TARGET)
    return conn


def copied(target):
    rows = target.execute("SELECT id, name FROM item_copy ORDER BY id").fetchall()
    return dict(rows)


def wait_until_blocked(conn, count):
    """Return when that many connections wait for another one."""
    blocked = (
        "SELECT FROM pg_stat_activity"
        " WHERE datname = current_database() AND pg_blocking_pids(pid) <> '{}'"
    )
    deadline = time.monotonic() + 30
    while conn.execute(blocked).rowcount != count:
        assert time.monotonic() < deadline, f"{count} never waited"


def wait_for_older_transactions(source):
    """Return when all have ended, on the whole server, that began before the rows."""
    older = (
        "SELECT FROM item WHERE changed >= pg_snapshot_xmin(pg_current_snapshot())"
        " LIMIT 1"
    )
    deadline = time.monotonic() + 60
    while source.execute(older).rowcount:
        assert time.monotonic() < deadline, "an older transaction never ended"


def test_new_and_changed_rows(source, target):
    """New rows and changed rows arrive; rows that did not change are not read again."""
    source.execute("INSERT INTO item SELECT n, 'a' FROM generate_series(1, 100) AS n")
    wait_for_older_transactions(source)
    assert copy_changes(source, target) == 100
    source.execute("UPDATE item SET name = 'b' WHERE id = 50")
    source.execute("INSERT INTO item VALUES (101, 'c')")
    assert copy_changes(source, target) == 2
    assert copied(target) == dict.fromkeys(range(1, 101), "a") | {50: "b", 101: "c"}


def test_lower_number_committed_later(source, target, connect):
    """A transaction that began first and is committed last: while it is open, its rows
    are not there, and the run after its commit reads them."""
    slow = connect(autocommit=False)
    slow.execute("INSERT INTO item VALUES (1, 'slow')")
    source.execute("INSERT INTO item VALUES (2, 'quick')")
    copy_changes(source, target)
    assert copied(target) == {2: "quick"}
    for n in range(3, 6):
        source.execute("INSERT INTO item VALUES (%s, 'more')", (n,))
        copy_changes(source, target)
    slow.commit()
    copy_changes(source, target)
    assert copied(target)[1] == "slow"
    assert len(copied(target)) == 5


def test_late_update(source, target, connect):
    """The same for an update: its old value is copied until it is committed."""
    source.execute("INSERT INTO item VALUES (1, 'old')")
    slow = connect(autocommit=False)
    slow.execute("UPDATE item SET name = 'new' WHERE id = 1")
    source.execute("INSERT INTO item VALUES (2, 'quick')")
    copy_changes(source, target)
    slow.commit()
    copy_changes(source, target)
    assert copied(target) == {1: "new", 2: "quick"}


def test_rolled_back(source, target, connect):
    """What is rolled back never arrives, and holds nothing up afterwards."""
    slow = connect(autocommit=False)
    slow.execute("INSERT INTO item VALUES (1, 'never')")
    source.execute("INSERT INTO item VALUES (2, 'quick')")
    copy_changes(source, target)
    slow.rollback()
    wait_for_older_transactions(source)
    copy_changes(source, target)
    assert copied(target) == {2: "quick"}
    assert copy_changes(source, target) == 0


def test_transaction_in_another_database(source, target, connect):
    """An open transaction in another database of the server holds the watermark back
    too: rows are read again until it ends, and nothing is lost."""
    elsewhere = connect(dbname="postgres", autocommit=False)
    elsewhere.execute("SELECT pg_current_xact_id()")
    source.execute("INSERT INTO item VALUES (1, 'a')")
    assert [copy_changes(source, target) for _ in range(3)] == [1, 1, 1]
    elsewhere.rollback()
    wait_for_older_transactions(source)
    assert [copy_changes(source, target) for _ in range(2)] == [1, 0]
    assert copied(target) == {1: "a"}


def test_ties_at_the_watermark(source, target):
    """A thousand rows of one transaction have one number: all of them arrive."""
    rows = "SELECT n, 'a' FROM generate_series(1, 1000) AS n"
    source.execute(f"INSERT INTO item {rows}")
    assert copy_changes(source, target) == 1000
    assert len(copied(target)) == 1000


def test_committed_while_rows_are_read(source, target, connect):
    """A row that is committed after the snapshot and before the end of the run is read
    by the next one."""
    source.execute("INSERT INTO item VALUES (1, 'a')")
    other = connect()
    holder = connect(autocommit=False)
    holder.execute("INSERT INTO item_copy VALUES (1, 'busy')")
    with ThreadPoolExecutor() as threads:
        running = threads.submit(copy_changes, source, target)
        wait_until_blocked(other, 1)
        other.execute("INSERT INTO item VALUES (2, 'between')")
        holder.rollback()
        running.result(timeout=30)
    assert copied(target) == {1: "a"}
    copy_changes(source, target)
    assert copied(target) == {1: "a", 2: "between"}


def test_failure_moves_no_watermark(source, target):
    """A row that the target refuses ends the run: neither rows nor watermark change,
    and the next run copies them all."""
    source.execute("INSERT INTO item VALUES (1, 'a'), (2, '')")
    target.execute("ALTER TABLE item_copy ADD CONSTRAINT filled CHECK (name <> '')")
    with pytest.raises(psycopg.errors.CheckViolation):
        copy_changes(source, target)
    assert copied(target) == {}
    target.execute("ALTER TABLE item_copy DROP CONSTRAINT filled")
    assert copy_changes(source, target) == 2


def test_two_runs_at_once(source, target, connect):
    """Of two runs at the same time the second one waits, and reads nothing twice."""
    source.execute("INSERT INTO item VALUES (1, 'a')")
    wait_for_older_transactions(source)
    other, holder = connect(), connect(autocommit=False)
    holder.execute("INSERT INTO item_copy VALUES (1, 'busy')")
    with ThreadPoolExecutor() as threads:
        first = threads.submit(copy_changes, source, target)
        wait_until_blocked(other, 1)
        second = threads.submit(copy_changes, connect(), connect())
        wait_until_blocked(other, 2)
        holder.rollback()
        assert (first.result(timeout=30), second.result(timeout=30)) == (1, 0)
    assert copied(target) == {1: "a"}


def test_the_stamp_cannot_be_forged(source, target):
    """A statement that sets the column itself is overruled by the trigger."""
    source.execute("INSERT INTO item VALUES (1, 'a', '3')")
    copy_changes(source, target)
    source.execute("UPDATE item SET name = 'b', changed = '3' WHERE id = 1")
    copy_changes(source, target)
    assert copied(target) == {1: "b"}


# --8<-- [start:wrong]
def copy_changes_as_often_copied(source, target, last):
    query = "SELECT id, name, updated_at FROM thing WHERE updated_at > %s"
    for id, name, updated_at in source.execute(query, (last,)):
        target.execute(
            "INSERT INTO item_copy VALUES (%s, %s)"
            " ON CONFLICT (id) DO UPDATE SET name = excluded.name",
            (id, name),
        )
        last = max(last, updated_at)
    return last


# --8<-- [end:wrong]


@pytest.fixture
def thing(connect):
    conn = connect()
    conn.execute(
        "CREATE TABLE thing (id bigint PRIMARY KEY, name text,"
        " updated_at timestamptz NOT NULL DEFAULT now())"
    )
    return conn


START = datetime(2000, 1, 1, tzinfo=UTC)


def test_often_copied_misses_late_commits(thing, target, connect):
    """Often copied: `now()` is when a transaction began. A row that is committed after
    the run has an older time stamp than the watermark, and is never read."""
    slow = connect(autocommit=False)
    slow.execute("INSERT INTO thing VALUES (1, 'slow')")
    thing.execute("INSERT INTO thing VALUES (2, 'quick')")
    last = copy_changes_as_often_copied(thing, target, START)
    slow.commit()
    for _ in range(3):
        last = copy_changes_as_often_copied(thing, target, last)
    assert copied(target) == {2: "quick"}


def test_often_copied_misses_ties(thing, target):
    """Often copied: a row with the very time stamp of the watermark, which came after
    the run, is never read, for `>` leaves it out."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    add = "INSERT INTO thing VALUES (%s, 'a', %s)"
    thing.execute(add, (1, moment))
    last = copy_changes_as_often_copied(thing, target, START)
    thing.execute(add, (2, moment))
    copy_changes_as_often_copied(thing, target, last)
    assert copied(target) == {1: "a"}
