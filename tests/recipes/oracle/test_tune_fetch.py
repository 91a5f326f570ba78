"""tune_fetch: the round trips that are made, counted by the driver."""

import oracledb
import pytest

from recipes.oracle.tune_fetch import count_round_trips, read_many, read_page

NUMBERS = "SELECT LEVEL AS n FROM dual CONNECT BY LEVEL <= :last"


@pytest.mark.parametrize(("size", "trips"), [(100, 101), (1000, 11)])
def test_fewer_round_trips(conn, size, trips):
    """10 000 rows: 101 round trips with 100 rows at a time, 11 with 1000."""

    def read() -> int:
        return sum(n for (n,) in read_many(conn, NUMBERS, at_a_time=size, last=10_000))

    assert count_round_trips(conn, read) == (trips, 50_005_000)


def test_page_in_one(conn):
    """A page of 20 rows comes in one round trip."""
    trips, page = count_round_trips(
        conn, lambda: read_page(conn, NUMBERS, size=20, last=100)
    )
    assert (trips, [n for (n,) in page]) == (1, list(range(1, 21)))


def test_short_page(conn):
    """A page with fewer rows than asked for is one round trip as well."""
    trips, page = count_round_trips(
        conn, lambda: read_page(conn, NUMBERS, size=20, last=3)
    )
    assert (trips, len(page)) == (1, 3)


def test_rows_are_read_as_needed(conn):
    """The first row needs one batch, however many rows there are."""
    rows = read_many(conn, NUMBERS, at_a_time=10, last=1_000_000)
    trips, first = count_round_trips(conn, lambda: next(rows))
    assert first == (1,)
    assert trips <= 2
    rows.close()


def test_locators_cost_a_trip_each(conn):
    """A CLOB read by its locator is a round trip for each row; as text it is none."""
    query = "SELECT TO_CLOB('x') FROM dual CONNECT BY LEVEL <= 20"

    def read(fetch_lobs: bool) -> list:
        with conn.cursor() as cursor:
            cursor.execute(query, fetch_lobs=fetch_lobs)
            return [lob.read() if fetch_lobs else lob for (lob,) in cursor]

    as_text, texts = count_round_trips(conn, lambda: read(False))
    by_locator, same = count_round_trips(conn, lambda: read(True))
    assert texts == same == ["x"] * 20
    assert by_locator >= as_text + 20


def test_counting_ends_with_an_error(conn):
    """An error in the work reaches the caller, and the counting is over."""

    def fail() -> None:
        conn.cursor().execute("SELECT * FROM nowhere")

    with pytest.raises(oracledb.DatabaseError, match="ORA-00942"):
        count_round_trips(conn, fail)
    assert conn.round_trip_callback is None


def test_defaults_of_the_driver():
    """The driver's defaults: 2 rows with the answer, then 100 at a time."""
    assert oracledb.defaults.prefetchrows == 2
    assert oracledb.defaults.arraysize == 100


# --8<-- [start:wrong]
def read_notes_as_copied(conn, query):
    cursor = conn.cursor()
    cursor.execute(query)
    return [(number, note.read()) for number, note in cursor.fetchall()]


# --8<-- [end:wrong]


def test_often_copied_waits_for_each_row(conn):
    """Often copied: a query of 20 rows takes more than 20 round trips."""
    query = "SELECT LEVEL, TO_CLOB('x') FROM dual CONNECT BY LEVEL <= 20"
    trips, rows = count_round_trips(conn, lambda: read_notes_as_copied(conn, query))
    assert len(rows) == 20
    assert trips > 20


def test_often_copied_stumbles_over_null(conn):
    """Often copied: a row without a text is an AttributeError."""
    with pytest.raises(AttributeError):
        read_notes_as_copied(conn, "SELECT 1, TO_CLOB(NULL) FROM dual")
