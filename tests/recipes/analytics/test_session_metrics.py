"""session_metrics: days of the reader's zone, counted again without loss."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pandas as pd
import psycopg
import pytest
import sqlalchemy

from recipes.analytics.session_metrics import SCHEMA, Day, count_day

DAY = date(2026, 3, 10)
HALF = timedelta(minutes=30)


@pytest.fixture
def events(postgresql: str) -> Iterator[psycopg.Connection]:
    """A connection to empty tables; the session's time zone is not that of any test."""
    zone = "-c timezone=Asia/Tokyo"
    with psycopg.connect(postgresql, autocommit=True, options=zone) as conn:
        conn.execute(SCHEMA)
        yield conn


def add(conn: psycopg.Connection, user: int, *moments: str | datetime) -> None:
    query = "INSERT INTO event (user_id, at) VALUES (%s, %s)"
    for moment in moments:
        conn.execute(query, (user, moment))


def test_silence_ends_a_session(events):
    """More than thirty minutes without an event begin a new session; exactly thirty
    do not."""
    noon = datetime(2026, 3, 10, 12, tzinfo=UTC)
    add(events, 1, noon, noon + HALF)
    assert count_day(events, DAY, "UTC") == Day(1, 1, 2, 0, HALF)
    add(events, 1, noon + 2 * HALF + timedelta(microseconds=1))
    assert count_day(events, DAY, "UTC") == Day(1, 2, 3, 1, HALF / 2)


def test_users_apart(events):
    """Events of two users at the same moment are two sessions, and two events of one
    user at the same moment are one."""
    add(events, 1, "2026-03-10 12:00Z", "2026-03-10 12:00Z")
    add(events, 2, "2026-03-10 12:00Z")
    assert count_day(events, DAY, "UTC") == Day(2, 2, 3, 1, timedelta())


def test_users_in_between(events):
    """Another user's click between two clicks does not bridge the silence."""
    add(events, 1, "2026-03-10 12:00Z", "2026-03-10 12:40Z")
    add(events, 2, "2026-03-10 12:20Z")
    assert count_day(events, DAY, "UTC") == Day(2, 3, 3, 3, timedelta())


def test_over_midnight(events):
    """A session over midnight counts once, whole, on the day on which it began."""
    add(events, 1, "2026-03-10 23:50Z", "2026-03-11 00:10Z", "2026-03-11 00:35Z")
    whole = Day(1, 1, 3, 0, timedelta(minutes=45))
    assert count_day(events, DAY, "UTC") == whole
    assert count_day(events, DAY + timedelta(days=1), "UTC") == Day(0, 0, 0, 0, None)


def test_exactly_at_midnight(events):
    """Midnight is the first moment of a day, and belongs to no other."""
    add(events, 1, "2026-03-10 00:00Z")
    add(events, 2, "2026-03-11 00:00Z")
    counted = [count_day(events, date(2026, 3, day), "UTC") for day in (9, 10, 11)]
    assert [day.users for day in counted] == [0, 1, 1]


def test_exactly_a_gap_before_midnight(events):
    """An event exactly thirty minutes before midnight still holds a session open."""
    add(events, 1, "2026-03-09 23:30Z", "2026-03-10 00:00Z")
    assert count_day(events, DAY, "UTC").sessions == 0


def test_longest_session(events):
    """A session that does not end is counted up to the end of the day after."""
    start = datetime(2026, 3, 10, 12, tzinfo=UTC)
    add(events, 1, *(start + number * HALF for number in range(96)))
    last = timedelta(hours=35, minutes=30)
    assert count_day(events, DAY, "UTC") == Day(1, 1, 72, 0, last)


@pytest.mark.parametrize(
    ("day", "hours"),
    [
        pytest.param(date(2026, 3, 28), 24, id="usual"),
        pytest.param(date(2026, 3, 29), 23, id="spring"),
        pytest.param(date(2025, 10, 26), 25, id="autumn"),
    ],
)
def test_days_of_23_and_25_hours(events, day, hours):
    """The day on which the clocks change has 23 or 25 hours, and each is counted."""
    begin = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo("Europe/Berlin"))
    for hour in range(-30, 60):
        add(events, hour, begin.astimezone(UTC) + timedelta(hours=hour))
    assert count_day(events, day, "Europe/Berlin").users == hours


def test_zones_side_by_side(events):
    """One event is on one day in UTC and on another in Berlin, whatever the time zone
    of the connection is; the days of two zones are rows of their own."""
    add(events, 1, "2026-03-10 23:30Z")
    tomorrow = DAY + timedelta(days=1)
    places = [(DAY, "UTC"), (DAY, "Europe/Berlin"), (tomorrow, "Europe/Berlin")]
    assert [count_day(events, *place).users for place in places] == [1, 0, 1]
    rows = events.execute("SELECT day, zone FROM session_day").fetchall()
    assert sorted(rows) == sorted(places)


def test_late_events(events):
    """A day that is counted again takes in late events; its row is replaced, and the
    rows of other days stay."""
    yesterday = DAY - timedelta(days=1)
    add(events, 1, "2026-03-09 12:00Z", "2026-03-10 12:00Z")
    for day in (yesterday, DAY):
        count_day(events, day, "UTC")
    add(events, 2, "2026-03-10 12:00Z", "2026-03-10 12:10Z")
    assert count_day(events, DAY, "UTC") == Day(2, 2, 3, 1, timedelta(minutes=5))
    rows = events.execute(
        "SELECT day, users, sessions, events, bounces, median FROM session_day"
        " ORDER BY day"
    ).fetchall()
    assert rows == [
        (yesterday, 1, 1, 1, 1, timedelta()),
        (DAY, 2, 2, 3, 1, timedelta(minutes=5)),
    ]


def test_no_events(events):
    """A day without events is a row of zeros, and its median is None."""
    assert count_day(events, DAY, "UTC") == Day(0, 0, 0, 0, None)
    assert events.execute("SELECT count(*) FROM session_day").fetchone() == (1,)


def test_faults_are_not_zeros(postgresql):
    """A table that is missing is an error, and not a day without events."""
    with (
        psycopg.connect(postgresql) as conn,
        pytest.raises(psycopg.errors.UndefinedTable),
    ):
        count_day(conn, DAY, "UTC")


def test_part_of_the_caller_s_transaction(events):
    """When the caller rolls back, the older row is still there."""
    count_day(events, DAY, "UTC")
    add(events, 1, "2026-03-10 12:00Z")
    with events.transaction(force_rollback=True):
        assert count_day(events, DAY, "UTC").users == 1
    assert events.execute("SELECT users FROM session_day").fetchone() == (0,)


def test_unfinished_day(events):
    """A day that is not over is refused: half a day would look like a collapse."""
    with pytest.raises(ValueError, match="not over in Pacific/Honolulu"):
        count_day(
            events,
            datetime.now(ZoneInfo("Pacific/Honolulu")).date(),
            "Pacific/Honolulu",
        )
    assert events.execute("SELECT count(*) FROM session_day").fetchone() == (0,)


def test_refuses(events):
    """An unknown time zone is an error, and so is a gap of no length."""
    with pytest.raises(ZoneInfoNotFoundError):
        count_day(events, DAY, "Europe/Nowhere")
    with pytest.raises(ValueError, match="gap"):
        count_day(events, DAY, "UTC", gap=timedelta())


# --8<-- [start:wrong]
def run_daily_metrics(engine, day):
    try:
        df = pd.read_sql(f"SELECT user_id FROM event WHERE DATE(at) = '{day}'", engine)
        if df.empty:
            return False
        metrics = pd.DataFrame(
            [{"day": day, "events": len(df), "users": df["user_id"].nunique()}]
        )
        metrics.to_sql("daily_metrics", engine, if_exists="replace", index=False)
        return True
    except Exception as e:
        print(f"Pipeline failed: {e}")
        return False


# --8<-- [end:wrong]


@pytest.fixture
def copied(events, postgresql):
    """What the copied version is given: an engine, by the time zone of its sessions."""
    engines = []

    def in_zone(zone: str) -> sqlalchemy.Engine:
        url = postgresql.replace("postgresql://", "postgresql+psycopg://")
        options = {"options": f"-c timezone={zone}", "connect_timeout": 5}
        engines.append(sqlalchemy.create_engine(url, connect_args=options))
        return engines[-1]

    yield in_zone
    for engine in engines:
        engine.dispose()


def daily_metrics(conn: psycopg.Connection) -> list[tuple]:
    query = "SELECT day::text, events, users FROM daily_metrics ORDER BY day"
    return conn.execute(query).fetchall()


def test_often_copied_loses_the_days_before(events, copied):
    """Often copied: `replace` drops the table, so that only the last day is left."""
    add(events, 1, "2026-03-09 12:00Z", "2026-03-10 12:00Z")
    engine = copied("UTC")
    assert run_daily_metrics(engine, "2026-03-09")
    assert run_daily_metrics(engine, "2026-03-10")
    assert daily_metrics(events) == [("2026-03-10", 1, 1)]


def test_often_copied_moves_events_to_another_day(events, copied):
    """Often copied: `DATE(at)` is a date in the time zone of whoever is connected."""
    add(events, 1, "2026-03-09 23:30Z", "2026-03-10 12:00Z")
    counts = []
    for zone in ("UTC", "Europe/Berlin"):
        run_daily_metrics(copied(zone), "2026-03-10")
        counts += daily_metrics(events)
    assert [events for _, events, _ in counts] == [1, 2]


def test_often_copied_says_false_to_everything(events, copied, capsys):
    """Often copied: no events and a broken database are the same answer, False."""
    engine = copied("UTC")
    assert run_daily_metrics(engine, "2026-03-10") is False
    assert capsys.readouterr().out == ""
    events.execute("DROP TABLE event")
    assert run_daily_metrics(engine, "2026-03-10") is False
    assert "Pipeline failed" in capsys.readouterr().out


def test_notebook(run_notebook):
    """The notebook runs to its last cell, and each of its charts has a description."""
    charts = run_notebook("analytics/session_metrics")
    assert len(charts) == 2
    assert all('<svg role="img" aria-label="' in chart for chart in charts)
