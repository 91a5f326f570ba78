import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal

import psycopg
import pytest

from cookbook.paths import ROOT
from recipes.data_movement import migrate_with_transform as recipe
from recipes.data_movement.migrate_with_transform import SCHEMA, migrate

OLD = """
CREATE TABLE old_customer (
    id bigint PRIMARY KEY, name text, email text, balance text, joined text
)
"""


@pytest.fixture
def connect(postgresql):
    """Make connections that commit by themselves; closed after the test."""
    made = []

    def make():
        made.append(psycopg.connect(postgresql, autocommit=True))
        return made[-1]

    yield make
    for conn in made:
        conn.close()


@pytest.fixture
def conn(connect):
    conn = connect()
    conn.execute(OLD + ";" + SCHEMA)
    return conn


def add(conn, id, **changed):
    row = {
        "name": "Ann",
        "email": f"{id}@example.com",
        "balance": "1.234,50",
        "joined": "31.12.2019 23:30",
    }
    conn.execute(
        "INSERT INTO old_customer"
        " VALUES (%(id)s, %(name)s, %(email)s, %(balance)s, %(joined)s)",
        {"id": id, **row, **changed},
    )


def add_many(conn, count, bad=()):
    conn.execute(
        "INSERT INTO old_customer SELECT n, 'Ann', n || '@example.com',"
        " CASE WHEN n = ANY(%s) THEN 'bad' ELSE '0,10' END, '31.12.2019 23:30'"
        " FROM generate_series(1, %s) AS n",
        (list(bad), count),
    )


def ids(conn, table):
    return [id for (id,) in conn.execute(f"SELECT id FROM {table} ORDER BY id")]


def reasons(conn):
    return dict(conn.execute("SELECT id, reason FROM rejected").fetchall())


def test_new_shape(conn):
    """Names and addresses are trimmed, `1.234,50` is a Decimal to the cent, and the
    time of a clock in Berlin is a moment."""
    add(conn, 1, name=" Ann ", email="Ann@Example.COM ")
    add(conn, 2, balance="-0,10", joined="01.07.2020 08:00")
    assert migrate(conn) == (2, 2, 0)
    assert conn.execute("SELECT * FROM customer ORDER BY id").fetchall() == [
        (
            *(1, "Ann", "ann@example.com", Decimal("1234.50")),
            datetime(2019, 12, 31, 22, 30, tzinfo=UTC),
        ),
        (
            *(2, "Ann", "2@example.com", Decimal("-0.10")),
            datetime(2020, 7, 1, 6, 0, tzinfo=UTC),
        ),
    ]


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "  "},
        {"name": None},
        {"email": "ann"},
        {"email": None},
        {"balance": "1,234.50"},
        {"balance": "1234.50"},
        {"balance": "12.34,50"},
        {"balance": "1.234,5"},
        {"balance": "NaN"},
        {"balance": ""},
        {"balance": None},
        {"balance": "99.999.999.999.999.999,00"},
        {"joined": "2019-12-31 23:30"},
        {"joined": "31.02.2019 08:00"},
        {"joined": "12/31/2019 08:00"},
        {"joined": None},
        {"joined": "31.03.2024 02:30"},
        {"joined": "27.10.2024 02:30"},
    ],
    ids=str,
)
def test_rejected_with_the_reason(conn, changed):
    """What has no exact meaning is rejected with a reason and its old content: other
    formats, NULL, NaN, the hour that the clocks skip, the hour that comes twice."""
    add(conn, 1)
    add(conn, 2, **changed)
    add(conn, 3)
    assert migrate(conn) == (3, 2, 1)
    assert ids(conn, "customer") == [1, 3]
    kept = conn.execute(
        "SELECT rejected.reason, rejected.old = to_jsonb(old_customer)"
        " FROM rejected JOIN old_customer USING (id)"
    ).fetchall()
    assert kept == [(kept[0][0], True)]
    assert kept[0][0].strip()


def test_reasons(conn):
    """A reason names the value, the hour, or the constraint."""
    add(conn, 1, balance="1,234.50")
    add(conn, 2, joined="31.03.2024 02:30")
    add(conn, 3, name="")
    migrate(conn)
    found = reasons(conn)
    assert found[1] == "not an amount: '1,234.50'"
    assert found[2] == "never or twice in Europe/Berlin: 31.03.2024 02:30"
    assert "customer_name_check" in found[3]


def test_constraints_of_the_new_table(conn):
    """A row that only the new table refuses is found among the good ones. Of two equal
    addresses the lower id keeps it."""
    add_many(conn, 100)
    conn.execute("UPDATE old_customer SET email = '7@EXAMPLE.com' WHERE id = 60")
    assert migrate(conn) == (100, 99, 1)
    assert ids(conn, "rejected") == [60]
    assert "customer_email_key" in reasons(conn)[60]


@pytest.mark.parametrize("size", [1, 7, 100, 1_000])
def test_batches(conn, size):
    """Every row arrives once or is rejected once, whatever the size of a batch."""
    bad = [1, 7, 8, 50, 100]
    add_many(conn, 100, bad)
    assert migrate(conn, size) == (100, 95, 5)
    assert ids(conn, "rejected") == bad
    assert migrate(conn, size) == (100, 95, 5)


KILLED = """
import os, signal, sys
import psycopg
from recipes.data_movement import migrate_with_transform as recipe

transform = recipe.transform

def die(row):
    if row["id"] == 1_550:
        os.kill(os.getpid(), signal.SIGKILL)
    return transform(row)

recipe.transform = die
recipe.migrate(psycopg.connect(sys.argv[1]), 500)
"""


def test_killed_in_the_middle(conn, postgresql):
    """The process is killed with SIGKILL in a batch: of that batch nothing is there,
    and the next run goes on after the ones before."""
    bad = [3, 499, 1_501]
    add_many(conn, 2_000, bad)
    command = [sys.executable, "-c", KILLED, postgresql]
    done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert len(ids(conn, "customer")) == 1_498
    assert ids(conn, "rejected") == [3, 499]
    assert migrate(conn) == (2_000, 1_997, 3)
    assert ids(conn, "rejected") == bad


def test_error_of_no_row(conn, monkeypatch):
    """An error that no row is to blame for rejects nothing: the batch is rolled back,
    and the error reaches the caller."""

    def broken(row):
        if row["id"] == 75:
            raise KeyError("a bug")
        return transform(row)

    transform = recipe.transform
    add_many(conn, 100, bad=[60])
    with monkeypatch.context() as patched:
        patched.setattr(recipe, "transform", broken)
        with pytest.raises(KeyError):
            migrate(conn, 50)
    assert ids(conn, "customer") == list(range(1, 51))
    assert ids(conn, "rejected") == []
    assert migrate(conn) == (100, 99, 1)


def test_lost_connection(conn, connect, monkeypatch):
    """When the connection is lost in a batch, no row is rejected for it."""
    worker = connect()

    def cut(row):
        conn.execute(
            "SELECT pg_terminate_backend(%s, 10000)", (worker.info.backend_pid,)
        )
        return transform(row)

    transform = recipe.transform
    add_many(conn, 10)
    with monkeypatch.context() as patched:
        patched.setattr(recipe, "transform", cut)
        with pytest.raises(psycopg.OperationalError):
            migrate(worker)
    assert ids(conn, "customer") == ids(conn, "rejected") == []
    assert migrate(conn) == (10, 10, 0)


def test_mended_rows(conn):
    """A rejected row that was mended is migrated by the next run, once its rejection is
    deleted."""
    add_many(conn, 10, bad=[3, 5])
    migrate(conn)
    conn.execute("UPDATE old_customer SET balance = '1,00' WHERE id = 3")
    conn.execute("DELETE FROM rejected")
    assert migrate(conn) == (10, 9, 1)
    assert ids(conn, "rejected") == [5]


def test_late_rows(conn):
    """A row that came late, with an id below those that were migrated, is found by the
    next run."""
    add(conn, 10)
    migrate(conn)
    add(conn, 5)
    assert migrate(conn) == (2, 2, 0)


def test_two_runs_at_once(conn, connect):
    """Of two runs at the same time one waits for the other: nothing is doubled, and
    neither fails."""
    add_many(conn, 200, bad=[20, 150])
    holder = connect()
    with ThreadPoolExecutor() as threads:
        holder.execute("BEGIN")
        holder.execute("LOCK rejected IN EXCLUSIVE MODE")
        runs = [threads.submit(migrate, connect(), 20) for _ in range(2)]
        waiting = "SELECT FROM pg_locks WHERE NOT granted AND relation = %s::regclass"
        deadline = time.monotonic() + 30
        try:
            while conn.execute(waiting, ("rejected",)).rowcount != 2:
                assert time.monotonic() < deadline, "they never waited"
        finally:
            holder.execute("COMMIT")
        for run in runs:
            assert run.result(timeout=60) == (200, 198, 2)


def test_counts_that_do_not_add_up(conn):
    """A row that vanished from the old table, or came into the new one by another way,
    is an error."""
    add_many(conn, 3)
    migrate(conn)
    conn.execute("DELETE FROM old_customer WHERE id = 1")
    with pytest.raises(RuntimeError, match=re.escape("of 2 rows, 3 and 0 arrived")):
        migrate(conn)


def test_a_connection_that_does_not_commit_by_itself(conn, postgresql):
    """Each batch is committed on a connection without autocommit too."""
    add_many(conn, 3)
    with psycopg.connect(postgresql) as other:
        migrate(other)
        assert ids(conn, "customer") == [1, 2, 3]


# --8<-- [start:wrong]
def migrate_as_often_copied(conn):
    written = 0
    for id, name, email, balance, joined in conn.execute(
        "SELECT id, name, email, balance, joined FROM old_customer ORDER BY id"
    ).fetchall():
        try:
            amount = float(balance.replace(",", ""))
        except ValueError:
            amount = 0.0
        try:
            moment = datetime.strptime(joined, "%Y-%m-%d %H:%M")
        except ValueError:
            moment = datetime.now()
        try:
            conn.execute(
                "INSERT INTO customer VALUES (%s, %s, %s, %s, %s)",
                (id, name, email, amount, moment),
            )
            written += 1
        except Exception as error:
            print(f"Error: {error}")
    conn.commit()
    return written


# --8<-- [end:wrong]


def test_often_copied_changes_money_and_time(conn):
    """Often copied: 1.234,50 becomes 1.23, an amount that is not understood becomes 0,
    and a date that is not understood becomes today."""
    add(conn, 1)
    add(conn, 2, balance="1 234 EUR")
    before = datetime.now(UTC)
    assert migrate_as_often_copied(conn) == 2
    rows = conn.execute("SELECT balance, joined FROM customer ORDER BY id").fetchall()
    assert [balance for balance, _ in rows] == [Decimal("1.23"), Decimal("0.00")]
    assert all(joined.year >= before.year for _, joined in rows)


def test_often_copied_loses_all(conn, postgresql, capsys):
    """Often copied: one refused row ends the transaction, the others are printed as
    errors, `commit` rolls back, and the program says that it wrote a row."""
    add(conn, 1)
    add(conn, 2, name="")
    add(conn, 3)
    with psycopg.connect(postgresql) as other:
        assert migrate_as_often_copied(other) == 1
    assert ids(conn, "customer") == []
    assert capsys.readouterr().out.count("Error") == 2
