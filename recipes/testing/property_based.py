# /// script
# requires-python = ">=3.11"
# dependencies = ["hypothesis>=6.145", "psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Find the values that break a round trip.

What goes into the database should come out again. Hypothesis invents values until one
does not, and shrinks it to the smallest that shows the bug.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

SCHEMA = """
CREATE TABLE event (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    title  text NOT NULL,
    starts timestamptz NOT NULL,
    price  numeric(10, 2) NOT NULL
)
"""


# --8<-- [start:code]
@dataclass(frozen=True)
class Event:
    title: str
    starts: datetime  # aware
    price: Decimal  # from 0, in full cents


def insert(conn: psycopg.Connection, event: Event) -> int:
    """Insert it as it is; return its id."""
    query = "INSERT INTO event (title, starts, price) VALUES (%s, %s, %s) RETURNING id"
    row = conn.execute(query, (event.title, event.starts, event.price)).fetchone()
    assert row
    return int(row[0])


def save(conn: psycopg.Connection, event: Event) -> int:
    """Insert it, and return its id. Raises ValueError if the table cannot hold it."""
    price = event.price
    if "\0" in event.title:
        raise ValueError("a title cannot hold the character NUL")
    if event.starts.tzinfo is None:
        raise ValueError(f"no time zone: {event.starts}")
    if not price.is_finite() or not 0 <= price < 10**8 or price != round(price, 2):
        raise ValueError(f"not a price: {price}")
    return insert(conn, event)


def load(conn: psycopg.Connection, number: int) -> Event:
    query = "SELECT title, starts, price FROM event WHERE id = %s"
    row = conn.execute(query, (number,)).fetchone()
    assert row
    return Event(*row)


# --8<-- [end:code]

# --8<-- [start:property]
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "title": st.text(),
    "starts": st.datetimes(timezones=st.none() | st.just(UTC)),
    "price": st.decimals(0, 10**8 - 1, places=2)  # likely; then what nobody thinks of
    | st.decimals(-100, 100, places=3)
    | st.decimals(),
}
EVENTS = st.builds(Event, **FIELDS)
Save = Callable[[psycopg.Connection, Event], int]


def survives(conn: psycopg.Connection, save: Save, event: Event) -> bool:
    """Whether it comes back as it went in, or is refused. The table stays empty."""
    try:
        with conn.transaction(force_rollback=True):  # the next example starts afresh
            return load(conn, save(conn, event)) == event
    except ValueError:
        return True
    except psycopg.Error:
        return False


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(event=EVENTS)
def test_events_survive(conn: psycopg.Connection, event: Event) -> None:
    assert survives(conn, save, event)


# --8<-- [end:property]


# --8<-- [start:find]
def smallest_lost(conn: psycopg.Connection, save: Save, name: str) -> Any:
    """The simplest value of that field that is lost. Raises NoSuchExample."""
    good = Event("", datetime(2030, 1, 1, tzinfo=UTC), Decimal(1))

    def is_lost(value: Any) -> bool:
        return not survives(conn, save, replace(good, **{name: value}))

    return find(
        FIELDS[name], is_lost, settings=settings(database=None, max_examples=2000)
    )


# --8<-- [end:find]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    with psycopg.connect(url, connect_timeout=5, options="-c timezone=UTC") as conn:
        conn.execute(SCHEMA)
        for name in FIELDS:
            print("insert() loses", name, repr(smallest_lost(conn, insert, name)))
        test_events_survive(conn)
        print("save() loses nothing")


if __name__ == "__main__":
    main()
