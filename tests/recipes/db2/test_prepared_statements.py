"""prepared_statements: a value is a value, whatever it looks like."""

from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone

import ibm_db_dbi
import pytest

from recipes.db2.prepared_statements import (
    SCHEMA,
    add_visits,
    count_containing,
    count_visits,
    minutes_later,
    utc,
)

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
HOSTILE = ["o'brien", "' OR 1=1 --", "a;b", "x' || 'y", "?", "100%", "a_b", "ä€", "!"]


@pytest.fixture
def visits(conn):
    """A connection to an empty table."""
    conn.cursor().execute(SCHEMA)
    conn.commit()
    return conn


def rows(conn, query, values=()):
    with closing(conn.cursor()) as cursor:
        cursor.execute(query, values)
        return [tuple(row) for row in cursor.fetchall()]


def test_adds(visits):
    """Each row is inserted; the return value is their number."""
    assert add_visits(visits, ((page, NOON) for page in ("/", "/price"))) == 2
    assert rows(visits, "SELECT page FROM visit ORDER BY page") == [("/",), ("/price",)]


@pytest.mark.parametrize("page", HOSTILE)
def test_hostile_value(visits, page):
    """Quotes, comments, semicolons, markers: the value arrives unchanged, is found, and
    nothing else is."""
    add_visits(visits, [(page, NOON), ("other", NOON)])
    assert rows(visits, "SELECT page FROM visit WHERE page = ?", (page,)) == [(page,)]
    assert count_visits(visits, [page], NOON) == 1


def test_fails_at_the_first_row(visits):
    """A statement that the server cannot plan fails with the first row, and no further
    one is asked for."""
    visits.cursor().execute("DROP TABLE visit")

    def only_one():
        yield "/", NOON
        raise AssertionError("a second row was asked for")

    with pytest.raises(ibm_db_dbi.ProgrammingError, match="SQL0204N"):
        add_visits(visits, only_one())


def test_commit_is_the_callers(visits):
    """Nothing is committed: the caller may still undo it."""
    add_visits(visits, [("/", NOON)])
    visits.rollback()
    assert rows(visits, "SELECT page FROM visit") == []


def test_list_of_any_length(visits):
    """IN takes one page or a thousand."""
    add_visits(visits, [(f"/{number}", NOON) for number in range(10)])
    assert count_visits(visits, ["/3"], NOON) == 1
    assert count_visits(visits, [f"/{number}" for number in range(1000)], NOON) == 10


def test_empty_list():
    """No pages: 0, and the server is not even asked."""
    assert count_visits(None, [], NOON) == 0


@pytest.mark.parametrize(("text", "count"), [("%", 1), ("_", 1), ("!", 1), ("a", 3)])
def test_no_jokers(visits, text, count):
    """LIKE finds the percent sign, the underscore and the escape itself."""
    add_visits(visits, [(page, NOON) for page in ("a%b", "a_b", "a!b")])
    assert count_containing(visits, text) == count


def test_typed_marker(visits):
    """CAST gives a marker its type, where no column does."""
    assert minutes_later(visits, NOON, 15).startswith("2026-01-05-12.15.00")


def test_time_is_stored_in_utc(visits):
    """The same moment in two zones is the same value in the table."""
    berlin = timezone(timedelta(hours=1))
    add_visits(visits, [("/", NOON), ("/", NOON.astimezone(berlin))])
    assert rows(visits, "SELECT DISTINCT seen FROM visit") == [
        (datetime(2026, 1, 5, 12),)
    ]


@pytest.mark.parametrize("hours", [-12, 0, 1, 14])
def test_utc(hours):
    """An aware time becomes the same moment in UTC, without a zone."""
    local = NOON.astimezone(timezone(timedelta(hours=hours)))
    assert utc(local) == datetime(2026, 1, 5, 12)
    assert utc(local).tzinfo is None


def test_time_without_zone_is_refused():
    """A time without a zone is a ValueError."""
    with pytest.raises(ValueError, match="no time zone"):
        utc(datetime(2026, 1, 5, 12))


# --8<-- [start:wrong]
def count_as_copied(conn, page):
    cursor = conn.cursor()
    cursor.execute(f"SELECT COUNT(*) FROM visit WHERE page = '{page}'")
    return cursor.fetchone()[0]


# --8<-- [end:wrong]


def test_often_copied_is_injected(visits):
    """Often copied: a value with a quote counts every row."""
    add_visits(visits, [("/", NOON), ("/price", NOON)])
    assert count_as_copied(visits, "' OR 1=1 --") == 2


def test_often_copied_fails_on_a_name(visits):
    """Often copied: O'Brien is a syntax error."""
    with pytest.raises(ibm_db_dbi.ProgrammingError, match="SQLSTATE=42"):
        count_as_copied(visits, "o'brien")


def test_often_copied_loses_the_zone(visits):
    """Often copied: an aware time as a parameter loses its zone, and is an hour off."""
    berlin = NOON.astimezone(timezone(timedelta(hours=1)))
    with closing(visits.cursor()) as cursor:
        cursor.execute("INSERT INTO visit VALUES (?, ?)", ("/", berlin))
    assert rows(visits, "SELECT seen FROM visit") == [(datetime(2026, 1, 5, 13),)]
