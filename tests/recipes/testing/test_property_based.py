"""property_based: what is lost is found, and shrunk."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import hypothesis.configuration
import psycopg
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from cookbook.paths import ROOT
from recipes.testing import property_based as recipe
from recipes.testing.property_based import (
    EVENTS,
    FIELDS,
    SCHEMA,
    Event,
    insert,
    load,
    save,
    smallest_lost,
    survives,
)

# What Hypothesis remembers: not in the checkout.
hypothesis.configuration.set_hypothesis_home_dir(ROOT / "build/hypothesis")

PARTY = Event("Launch party", datetime(2030, 1, 1, 18, tzinfo=UTC), Decimal("9.50"))


@pytest.fixture
def conn(postgresql) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgresql, options="-c timezone=UTC") as conn:
        conn.execute(SCHEMA)
        conn.commit()
        yield conn


def test_the_test_of_the_page(conn):
    """The test of this page passes: a hundred events come back as they went in, or are
    refused."""
    recipe.test_events_survive(conn)


def test_each_example_starts_afresh(conn):
    """No example leaves a row behind, whether it survived or was refused."""
    assert survives(conn, save, PARTY)
    assert survives(conn, save, replace(PARTY, title="\0"))
    assert not survives(conn, insert, replace(PARTY, title="\0"))
    recipe.test_events_survive(conn)
    assert conn.execute("SELECT count(*) FROM event").fetchone() == (0,)


def test_the_strategy_gets_past_the_checks(conn):
    """`save` does not refuse everything: of the events that were invented, many are
    stored, with titles and prices."""
    stored = []

    @settings(deadline=None, database=None)
    @given(event=EVENTS)
    def keep(event: Event) -> None:
        with (
            suppress(ValueError),
            conn.transaction(force_rollback=True),
        ):
            save(conn, event)
            stored.append(event)

    keep()
    assert [event for event in stored if event.title and event.price]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"title": "a\0b"}, id="NUL"),
        pytest.param({"starts": datetime(2030, 1, 1)}, id="naive"),
        pytest.param({"price": Decimal("0.001")}, id="tenth-of-a-cent"),
        pytest.param({"price": Decimal("-0.01")}, id="negative"),
        pytest.param({"price": Decimal("NaN")}, id="NaN"),
        pytest.param({"price": Decimal("Infinity")}, id="infinite"),
        pytest.param({"price": Decimal("100000000")}, id="too-large"),
        pytest.param({"price": Decimal("1E+999999")}, id="far-too-large"),
    ],
)
def test_refused(conn, change):
    """`save` refuses with a ValueError: NUL in a title, a time without a zone, a price
    that is negative, too large, in fractions of a cent, infinite, or no number."""
    with pytest.raises(ValueError):
        save(conn, replace(PARTY, **change))
    assert conn.execute("SELECT count(*) FROM event").fetchone() == (0,)


@pytest.mark.parametrize(
    "change",
    [
        {"title": "Zürich 🎉 ' \" \\ % \n"},
        {"title": ""},
        {"starts": datetime(1, 1, 1, tzinfo=UTC)},
        {"starts": datetime.max.replace(tzinfo=UTC)},
        {"starts": datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=5.75)))},
        {"price": Decimal(0)},
        {"price": Decimal("99999999.99")},
        {"price": Decimal("5E+1")},
    ],
    ids=lambda change: str(*change.values()).encode("ascii", "replace").decode(),
)
def test_kept(conn, change):
    """`save` keeps the extremes: any other text, the first and the last moment, every
    zone, and the largest price."""
    event = replace(PARTY, **change)
    assert load(conn, save(conn, event)) == event


def test_nothing_to_find(conn):
    """Where no value is lost, it says so: NoSuchExample."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FIELDS, "title", st.just("x"))
        with pytest.raises(NoSuchExample):
            smallest_lost(conn, insert, "title")


def test_shrinks(conn):
    """Shrunk: from a long text to the one character that breaks it, from any moment to
    a round one, from any number to one digit."""
    assert smallest_lost(conn, insert, "title") == "\0"
    assert smallest_lost(conn, insert, "starts") == datetime(2000, 1, 1)
    assert smallest_lost(conn, insert, "price") == Decimal("0.001")


# --8<-- [start:wrong]
def test_round_trip_as_often_copied(conn):
    """Often copied: one friendly example passes on the code that loses values."""
    event = Event("Launch party", datetime(2030, 1, 1, tzinfo=UTC), Decimal("9.50"))
    assert load(conn, insert(conn, event)) == event


# --8<-- [end:wrong]


def test_often_copied_prices_are_rounded(conn):
    """Often copied: PostgreSQL rounds 0.001 to 0.00 and says nothing."""
    event = replace(PARTY, price=Decimal("0.001"))
    assert load(conn, insert(conn, event)).price == 0


def test_often_copied_time_depends_on_the_connection(postgresql, conn):
    """Often copied: a time without a zone becomes another moment on a connection with
    another TimeZone."""
    naive = replace(PARTY, starts=datetime(2030, 1, 1))
    options = "-c timezone=Asia/Kathmandu"
    with psycopg.connect(postgresql, options=options, autocommit=True) as other:
        found = {load(conn, insert(it, naive)).starts for it in (conn, other)}
    assert len(found) == 2


def test_often_copied_title_ends_in_an_error(conn):
    """Often copied: a NUL, which JSON can carry, ends in an error of the driver."""
    with pytest.raises(psycopg.DataError, match="NUL"):
        insert(conn, replace(PARTY, title="a\0b"))


def test_often_copied_filter_finds_nothing():
    """Often copied, as `st.text(alphabet="abc")`: the value that breaks it is never
    tried."""
    with pytest.raises(NoSuchExample):
        find(
            st.text(alphabet="abc"),
            lambda text: "\0" in text,
            settings=settings(max_examples=200, database=None),
        )
