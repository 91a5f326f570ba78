"""time_series_dashboard: gaps are gaps, and the chart suits every background."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from xml.etree import ElementTree

import psycopg
import pytest
from matplotlib.figure import Figure

from recipes.analytics.time_series_dashboard import (
    SCHEMA,
    Point,
    draw,
    read_series,
    to_svg,
)

START = datetime(2026, 3, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
BACKGROUNDS = ["#ffffff", "#14191e"]  # of this site, light and dark


@pytest.fixture
def log(postgresql: str) -> Iterator[psycopg.Connection]:
    """A connection to an empty table."""
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute(SCHEMA)
        yield conn


def add(conn: psycopg.Connection, at: datetime, *ms: float) -> None:
    for value in ms:
        conn.execute("INSERT INTO request VALUES (%s, %s)", (at, value))


def read(conn: psycopg.Connection, steps: int = 4) -> list[Point]:
    return read_series(conn, START, START + steps * HOUR, HOUR)


def test_empty_steps_are_there(log):
    """An hour without requests is a point, with a count of 0 and None for what cannot
    be known."""
    add(log, START, 10)
    add(log, START + 2 * HOUR, 20, 30)
    assert read(log) == [
        Point(START, 1, 10, 10),
        Point(START + HOUR, 0, None, None),
        Point(START + 2 * HOUR, 2, 25, 29.5),
        Point(START + 3 * HOUR, 0, None, None),
    ]


def test_an_empty_table(log):
    """Of an empty table every step is a point; the last one begins before the end."""
    points = read(log, 24)
    assert [point.requests for point in points] == [0] * 24
    assert points[-1].at == START + 23 * HOUR


def test_borders(log):
    """The first moment of a step belongs to it, the first of the next one does not."""
    a_moment = timedelta(microseconds=1)
    add(log, START - a_moment, 1)
    add(log, START, 1)
    add(log, START + HOUR - a_moment, 1)
    add(log, START + HOUR, 1)
    add(log, START + 2 * HOUR, 1)
    assert [point.requests for point in read(log, 2)] == [2, 1]


def test_the_slow_tail(log):
    """Where one request of ten takes ten seconds, the median does not show it, and the
    95th percentile does."""
    add(log, START, *[20] * 9, 10_000)
    point, *_ = read(log)
    assert (point.median, point.p95) == (20, pytest.approx(5509))


def test_the_hour_that_comes_twice(log, postgresql):
    """When the clocks go back there are 25 hours, each an hour long, in whatever time
    zone the connection is."""
    zone = "-c timezone=Europe/Berlin"
    start = datetime(2025, 10, 25, 22, tzinfo=UTC)  # midnight in Berlin
    with psycopg.connect(postgresql, options=zone) as conn:
        points = read_series(conn, start, start + 25 * HOUR, HOUR)
    assert len({point.at.astimezone(UTC) for point in points}) == 25


@pytest.mark.parametrize(
    ("start", "end", "step"),
    [
        pytest.param(datetime(2026, 3, 10), START + HOUR, HOUR, id="naive-start"),
        pytest.param(START, datetime(2026, 3, 11), HOUR, id="naive-end"),
        pytest.param(START, START + HOUR, timedelta(), id="no-step"),
        pytest.param(START, START + HOUR, -HOUR, id="backwards"),
        pytest.param(START, START + 5 * HOUR, 2 * HOUR, id="remainder"),
        pytest.param(START, START + 48 * HOUR, 24 * HOUR, id="days"),
        pytest.param(START, START, HOUR, id="no-time"),
        pytest.param(START, START - HOUR, HOUR, id="end-before-start"),
    ],
)
def test_refused(log, start, end, step):
    """Refused: a time without a zone, an end that is not after the start, steps that
    do not fill the time or have no length, and days, which are not of one length."""
    with pytest.raises(ValueError, match=r"time zone|do not fill"):
        read_series(log, start, end, step)


SOME = [
    Point(START, 5, 20.0, 90.0),
    Point(START + HOUR, 7, 21.0, 80.0),
    Point(START + 2 * HOUR, 0, None, None),
    Point(START + 3 * HOUR, 4, 20.0, 70.0),
    Point(START + 4 * HOUR, 4, 20.0, 70.0),
]


def test_an_outage_is_a_gap():
    """The lines stop before an outage and begin anew after it."""
    figure, _ = draw(SOME, HOUR, "UTC")
    for line in figure.axes[1].lines:
        drawn = [value == value for value in line.get_ydata()]
        assert drawn == [True, True, False, True, True]
    assert [bar.get_height() for bar in figure.axes[0].patches] == [5, 7, 0, 4, 4]


def test_the_clock_of_the_chart():
    """The hours of the chart, and of its description, are those of the zone."""
    figure, says = draw(SOME, HOUR, "Asia/Kolkata")
    svg = to_svg(figure, says)
    labels = re.findall(r">(\d\d:\d\d)<", svg)
    assert "06:00" in labels
    assert "00:00" not in labels
    assert says == (
        "Requests and latency in Asia/Kolkata. Most requests: 7, from 10 March 06:30."
        " Without any, from: 10 March 07:30."
    )


def test_the_length_of_a_step_when_clocks_change():
    """On the day on which the clocks go back the bars are of one width, and the dots of
    the lines are in their middle."""
    start = datetime(2025, 10, 25, 22, tzinfo=UTC)
    day = [Point(start + n * HOUR, 1, 1.0, 1.0) for n in range(25)]
    figure, says = draw(day, HOUR, "Europe/Berlin")
    bars = figure.axes[0].patches
    assert {round(bar.get_width() * 24, 6) for bar in bars} == {1}
    lefts = [bar.get_x() * 24 for bar in bars]
    steps = {round(b - a, 6) for a, b in pairwise(lefts)}
    assert steps == {1}
    dots = figure.axes[1].lines[0].get_xdata(orig=False) * 24
    assert list(dots) == pytest.approx([left + 0.5 for left in lefts])
    assert says.endswith("Without any, from: never.")


def test_a_screen_reader_gets_the_sentences():
    """The chart is one image, and its label is the description, quotes and all."""
    svg = ElementTree.fromstring(to_svg(Figure(), 'a "quoted" <label> & more'))
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == 'a "quoted" <label> & more'


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_colors_on_light_and_dark(background):
    """Text and axes take the color of the page, the background is the page's, and
    every other color has a contrast of 3 to 1 on white and on black."""
    svg = to_svg(*draw(SOME, HOUR, "UTC"))
    colors = set(re.findall(r"#[0-9a-fA-F]{6}\b", svg))
    assert len(colors) == 2
    for color in colors:
        dark, light = sorted(map(luminance, (color, background)))
        assert (light + 0.05) / (dark + 0.05) >= 3
    root = ElementTree.fromstring(svg)
    assert root.get("fill") == "currentColor"
    assert "currentColor" in svg


def test_two_charts_on_a_page():
    """A chart brings no style for the rest of the page, and two charts share no id."""
    one, other = (to_svg(draw(SOME, HOUR, "UTC")[0], says) for says in ("one", "other"))
    assert "<style" not in one
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, other)]
    assert all(ids)
    assert ids[0].isdisjoint(ids[1])
    for svg in (one, other):
        used = re.findall(r'(?:url\(|href=")#([^")]+)', svg)
        assert set(used) <= set(re.findall(r'\bid="([^"]+)"', svg))


def test_the_same_chart_twice():
    """The same data make the same file, byte for byte."""
    assert to_svg(*draw(SOME, HOUR, "UTC")) == to_svg(*draw(SOME, HOUR, "UTC"))


# --8<-- [start:wrong]
def series_as_copied(conn, start, end):
    return conn.execute(
        """
        SELECT date_trunc('hour', at) AS hour, count(*), avg(ms)
        FROM request
        WHERE at BETWEEN %s AND %s
        GROUP BY hour ORDER BY hour
        """,
        (start, end),
    ).fetchall()


# --8<-- [end:wrong]


def test_often_copied_hides_the_outage(log):
    """Often copied: hours without requests are not in the result, and a chart draws a
    line from the one before to the one after."""
    add(log, START, 20)
    add(log, START + 3 * HOUR, 20)
    rows = series_as_copied(log, START, START + 4 * HOUR)
    assert [at for at, _, _ in rows] == [START, START + 3 * HOUR]


def test_often_copied_counts_a_moment_too_much(log):
    """Often copied: BETWEEN takes in the first moment after the end, and makes a last
    hour of it that looks like a collapse."""
    add(log, START, 20, 20)
    add(log, START + HOUR, 20)
    rows = series_as_copied(log, START, START + HOUR)
    assert [count for _, count, _ in rows] == [2, 1]


def test_often_copied_averages(log):
    """Often copied: the average is a time that no request took."""
    add(log, START, *[20] * 9, 10_000)
    [(_, _, average)] = series_as_copied(log, START, START + HOUR)
    assert average == 1018


def test_often_copied_moves_with_the_connection(log, postgresql):
    """Often copied: `date_trunc` counts the hours of the connection's time zone, which
    begin at half past in Kolkata."""
    add(log, START, 20)
    add(log, START + HOUR / 2, 20)
    counts = []
    for zone in ("UTC", "Asia/Kolkata"):
        with psycopg.connect(postgresql, options=f"-c timezone={zone}") as conn:
            rows = series_as_copied(conn, START, START + HOUR)
            counts.append([count for _, count, _ in rows])
    assert counts == [[2], [1, 1]]


def test_notebook(run_notebook):
    """The notebook runs to its last cell, and each of its charts has a description."""
    charts = run_notebook("analytics/time_series_dashboard")
    assert len(charts) == 2
    assert all('<svg role="img" aria-label="' in chart for chart in charts)
