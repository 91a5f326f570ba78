import xml.etree.ElementTree as ET
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from statistics import mean

import psycopg
import pytest

from cookbook.paths import DOCS
from recipes.observability import slo_error_budget
from recipes.observability.slo_error_budget import (
    SCHEMA,
    Day,
    budget_left,
    burn_rate,
    count_days,
    draw,
)

TARGET = Decimal("0.995")
TODAY = date(2026, 3, 28)


@pytest.fixture
def conn(postgresql):
    """A connection whose time zone is not UTC, to a database with the table."""
    # America/New_York: -04:00 on these days
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute("SET timezone = 'America/New_York'")
        conn.execute(SCHEMA)
        yield conn


def log(conn, at: datetime, status: int = 200, seconds: float = 0.1, times: int = 1):
    conn.execute(
        "INSERT INTO request SELECT %s, %s, %s FROM generate_series(1, %s)",
        (at, status, seconds, times),
    )


def days_of(*totals_and_bad: tuple[int, int]) -> list[Day]:
    first = TODAY - timedelta(len(totals_and_bad) - 1)
    return [
        Day(first + timedelta(n), total, bad)
        for n, (total, bad) in enumerate(totals_and_bad)
    ]


def test_what_is_bad(conn):
    """A 500 is bad, and so is a slow answer; a 404 is good."""
    noon = datetime(2026, 3, 28, 12, tzinfo=UTC)
    for status, seconds in ((200, 0.1), (404, 0.1), (500, 0.1), (200, 0.31)):
        log(conn, noon, status, seconds)
    assert count_days(conn, TODAY, 1) == [Day(TODAY, 4, 2)]


def test_days_in_utc(conn):
    """A day begins at midnight UTC, whatever the time zone of the session."""
    midnight = datetime(2026, 3, 28, tzinfo=UTC)
    log(conn, midnight - timedelta(microseconds=1))
    log(conn, midnight, times=2)
    log(conn, midnight + timedelta(days=1), times=4)
    found = count_days(conn, TODAY, 2)
    assert found == [Day(date(2026, 3, 27), 1, 0), Day(TODAY, 2, 0)]


def test_empty_day(conn):
    """A day without requests is a day with zeros, and not a gap."""
    found = count_days(conn, TODAY)
    assert len(found) == 28
    assert found[0] == Day(date(2026, 3, 1), 0, 0)
    assert found[-1] == Day(TODAY, 0, 0)


def test_budget():
    """Of 1,000 requests five may be bad: two are 40 % of the budget."""
    left = budget_left(days_of((400, 0), (100, 2), (500, 3)), TARGET)
    assert left == [1, Decimal("0.6"), 0]


def test_overspent():
    """Below zero, the promise is broken."""
    assert budget_left(days_of((1000, 10)), TARGET) == [-1]


@pytest.mark.parametrize(
    ("days", "target"), [(days_of((0, 0)), TARGET), (days_of((9, 1)), Decimal(1))]
)
def test_no_budget(days, target):
    """Without requests, or with a target of 100 %, there is no budget: an error."""
    with pytest.raises(ValueError, match="no requests"):
        budget_left(days, target)


def test_burn_rate(conn):
    """One bad request in ten, of one in 200 that may be: twenty times too fast."""
    now = datetime(2026, 3, 28, 12, tzinfo=UTC)
    hour = timedelta(hours=1)
    log(conn, now - hour, 500, times=50)  # just before the window
    log(conn, now - timedelta(minutes=5), 500)
    log(conn, now, times=9)
    log(conn, now + timedelta(seconds=1), 500, times=50)
    assert burn_rate(conn, TARGET, now, hour) == 20


def test_burn_rate_of_nothing(conn):
    """Without requests there is no rate: silence is not health."""
    now = datetime(2026, 3, 28, 12, tzinfo=UTC)
    assert burn_rate(conn, TARGET, now, timedelta(hours=1)) is None


@pytest.mark.parametrize(
    ("bad", "color", "says"), [(1, "#00695c", "80%"), (7, "#c62828", "-40%")]
)
def test_chart(bad, color, says):
    """The chart is an SVG with a title that says what is left, red when overspent."""
    days = days_of((500, 0), (500, bad))
    svg = ET.fromstring(draw(days, budget_left(days, TARGET)))
    name = "{http://www.w3.org/2000/svg}"
    assert svg.find(f"{name}title").text == f"Error budget left: {says} on {TODAY}"
    line = svg.find(f"{name}polyline")
    assert line.get("stroke") == color
    points = [point.split(",") for point in line.get("points").split()]
    assert points[0] == ["40.0", "20.0"]
    assert float(points[1][0]) == 640
    assert 20 < float(points[1][1]) <= 180.01


def test_chart_of_the_page(postgresql, monkeypatch, tmp_path, pytestconfig, capsys):
    """The chart on this page is the one that the recipe draws."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSTGRESQL_URL", postgresql)
    slo_error_budget.main()
    drawn = (tmp_path / "error-budget.svg").read_text("utf-8")
    shown = DOCS / "observability/error-budget.svg"
    if pytestconfig.option.update_outputs:
        shown.write_text(drawn, "utf-8")
    assert shown.read_text("utf-8") == drawn


# --8<-- [start:wrong]
def availability_as_often_copied(days):
    return mean(1 - day.bad / day.total for day in days)


# --8<-- [end:wrong]


def test_often_copied_counts_days():
    """Often copied: one bad day with most of the requests is hidden by quiet days."""
    days = days_of((100_000, 10_000), *[(100, 0)] * 27)
    assert availability_as_often_copied(days) > TARGET  # 99.6 %: all is well
    assert budget_left(days, TARGET)[-1] < -18  # nineteen times the budget


def test_often_copied_divides_by_zero():
    """Often copied: a day without requests ends it."""
    with pytest.raises(ZeroDivisionError):
        availability_as_often_copied(days_of((100, 0), (0, 0)))
