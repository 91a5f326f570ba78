"""bulk_insert: all or none, or the good ones; counted by the server."""

import itertools
from datetime import datetime
from decimal import Decimal

import oracledb
import pytest

from recipes.oracle.bulk_insert import (
    INSERT,
    SCHEMA,
    batches,
    insert_all,
    insert_good,
    sample,
)

NEW_YEAR = datetime(2026, 1, 1)


@pytest.fixture
def lab(conn):
    """A connection to a schema with an empty table."""
    with conn.cursor() as cursor:
        cursor.execute(SCHEMA)
    return conn


def count(conn) -> int:
    with conn.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM reading")
        return cursor.fetchone()[0]


def row(number: int, name: object = "Sensor") -> tuple:
    return number, name, Decimal("0.10"), NEW_YEAR


# With a server.


def test_inserts_all(lab):
    """25 000 rows of a generator arrive, in three batches."""
    assert insert_all(lab, sample(0, 25_000)) == 25_000
    assert count(lab) == 25_000


def test_values_arrive(lab):
    """A name beyond ASCII, a Decimal, and a moment with microseconds arrive as sent."""
    moment = datetime(2026, 11, 21, 12, 0, 0, 123456)
    sent = (1, "Fühler ☃", Decimal("9999999999.99"), moment)
    insert_all(lab, [sent])
    with lab.cursor() as cursor:
        cursor.execute("SELECT * FROM reading", fetch_decimals=True)
        assert cursor.fetchone() == sent


def test_all_or_none(lab):
    """A bad row in the second batch: the error says how many were good before it, and
    no row stays."""
    rows = [*sample(0, 10_005), row(3), row(20_000)]
    with pytest.raises(oracledb.IntegrityError) as caught:
        insert_all(lab, rows)
    assert caught.value.args[0].code == 1
    assert caught.value.__notes__ == ["after 10005 good rows"]
    assert count(lab) == 0


def test_lost_connection(lab, oracle, through):
    """The line breaks: the error reaches the caller, not one of the rollback."""
    proxy, dsn = through(oracle)
    with oracledb.connect(dsn) as other:
        proxy.reset_all()
        with pytest.raises(oracledb.DatabaseError, match="DPY-4011"):
            insert_all(other, sample(0, 1))


def test_error_of_the_generator(lab):
    """An error in the caller's own generator reaches the caller; no row stays."""

    def rows():
        yield from sample(0, 10_001)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        insert_all(lab, rows())
    assert count(lab) == 0


def test_good_ones(lab):
    """Bad rows are left out, each with its reason; the count is that of the server."""
    bad = [row(1), row(5, None), row(6, "x" * 101)]
    done, rejected = insert_good(lab, [row(1), *bad, row(2)])
    assert done == count(lab) == 2
    assert [one.row for one in rejected] == bad
    assert [one.code for one in rejected] == [1, 1400, 12899]
    assert rejected[0].message.startswith("ORA-00001")


def test_good_ones_of_every_batch(lab):
    """The place of a bad row is counted in its batch: the right row is named."""
    rows = [*sample(0, 10_000), row(10_000), row(7)]
    done, rejected = insert_good(lab, rows)
    assert (done, [one.row for one in rejected]) == (10_001, [row(7)])


def test_good_ones_stay(lab, oracle):
    """The good rows are committed: another connection sees them."""
    insert_good(lab, [row(1), row(1)])
    with oracledb.connect(oracle) as other:
        assert count(other) == 1


def test_first_row_without_a_name(lab):
    """A None in the first row is no trouble for the rows after it."""
    done, rejected = insert_good(lab, [row(1, None), row(2, "a longer name")])
    assert (done, len(rejected)) == (1, 1)


# Without one.


def test_batches_of_any_number():
    """Batches are as long as asked, the last one shorter; none of no rows."""
    assert [len(batch) for batch in batches(sample(0, 25), 10)] == [10, 10, 5]
    assert [len(batch) for batch in batches(sample(0, 20), 10)] == [10, 10]
    assert list(batches([])) == []


def test_batches_are_made_as_needed():
    """The first batch of an endless generator comes: no more rows are read than are
    sent."""
    source = itertools.count()
    rows = ((n, "x", Decimal(n), NEW_YEAR) for n in source)
    assert len(next(batches(rows, 100))) == 100
    assert next(source) == 100


@pytest.mark.parametrize("size", [0, -1, 65_536])
def test_batches_have_limits(size):
    """A batch of no rows, or of more than 65535, is a ValueError."""
    with pytest.raises(ValueError, match=str(size)):
        next(batches(sample(0, 1), size))


# --8<-- [start:wrong]
def insert_as_copied(conn, rows):
    cursor = conn.cursor()
    cursor.executemany(INSERT, rows, batcherrors=True, arraydmlrowcounts=True)
    conn.commit()
    return len(rows)


# --8<-- [end:wrong]


def test_often_copied_counts_what_was_refused(lab):
    """Often copied: it returns 5, and 2 rows are in the table. Nobody asked for the
    list of errors."""
    rows = [row(1), row(1), row(1), row(2), row(2)]
    assert insert_as_copied(lab, rows) == 5
    assert count(lab) == 2
