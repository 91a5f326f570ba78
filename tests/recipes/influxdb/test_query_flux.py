"""query_flux: values stay values, and half a result is never taken for the whole."""

import tracemalloc
from datetime import UTC, datetime, timedelta, timezone

import pytest
from influxdb_client import Point
from influxdb_client.client.flux_csv_parser import FluxQueryException
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

from recipes.influxdb.query_flux import Mean, means

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def reading(sensor: str, moment: datetime, celsius: float) -> Point:
    return Point("room").tag("sensor", sensor).field("celsius", celsius).time(moment)


@pytest.fixture
def ask(client, bucket):
    """means() over a day, as a list."""

    def ask(sensors, start=NOON, stop=NOON + 24 * HOUR, every=HOUR) -> list[Mean]:
        return list(means(client, bucket, sensors, start, stop, every))

    return ask


def test_means(ask, put):
    """The mean of each hour and sensor, by sensor and time, under the hour's start."""
    put(
        reading("hall", NOON, 10.0),
        reading("hall", NOON + HOUR - SECOND, 20.0),
        reading("hall", NOON + 2 * HOUR, 30.0),
        reading("attic", NOON + HOUR, 40.0),
    )
    assert ask(["hall", "attic"]) == [
        Mean("attic", NOON + HOUR, 40),
        Mean("hall", NOON, 15),
        Mean("hall", NOON + 2 * HOUR, 30),
    ]


def test_other_tags(ask, put):
    """A sensor has one mean, whatever other tags tell its readings apart."""
    for celsius, version in ((10.0, "1"), (20.0, "2")):
        put(reading("hall", NOON, celsius).tag("firmware", version))
    assert ask(["hall"]) == [Mean("hall", NOON, 15)]


def test_range_is_half_open(ask, put):
    """The start belongs to the range, the stop does not."""
    put(*(reading("hall", NOON + n * SECOND, float(n)) for n in range(4)))
    found = ask(["hall"], NOON + SECOND, NOON + 3 * SECOND, every=SECOND)
    assert [mean.celsius for mean in found] == [1, 2]


def test_only_the_sensors_asked_for(ask, put):
    """A list is a parameter too; an empty one finds nothing."""
    put(*(reading(name, NOON, 1.0) for name in ("attic", "hall", "kitchen")))
    assert {mean.sensor for mean in ask(["hall", "kitchen"])} == {"hall", "kitchen"}
    assert ask([]) == []


HOSTILE = [
    'hall" or r.sensor != "',
    'x") |> to(bucket: "other") |> filter(fn: (r) => r.sensor != "',
    "${string(v: now())}",
    "back\\slash",
    "// comment",
    "new\\nline",
    "Ü 漢字 🌡",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(ask, put, name):
    """Quotes, comments, `${}`, back slashes: a parameter is never part of the query."""
    put(reading("hall", NOON, 1.0))
    assert ask([name]) == []
    put(reading(name, NOON, 2.0))
    assert ask([name]) == [Mean(name, NOON, 2)]


def test_any_zone(ask, put):
    """Times may be in any zone."""
    put(reading("hall", NOON, 1.0))
    local = NOON.astimezone(timezone(timedelta(hours=-8)))
    assert ask(["hall"], start=local, stop=local + HOUR) == [Mean("hall", NOON, 1)]


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        pytest.param(NOON.replace(tzinfo=None), NOON + HOUR, id="start-without-zone"),
        pytest.param(NOON, datetime(2026, 2, 1), id="stop-without-zone"),
        pytest.param(NOON, NOON, id="empty"),
        pytest.param(NOON + HOUR, NOON, id="backwards"),
    ],
)
def test_bad_range(ask, start, stop):
    """A time without a zone, or an empty range, is a ValueError."""
    with pytest.raises(ValueError):
        ask(["hall"], start, stop)


def test_unknown_bucket(client):
    """A bucket that is not there is an error, not an empty result."""
    with pytest.raises(ApiException, match="could not find bucket"):
        list(means(client, "nowhere", ["hall"], NOON, NOON + HOUR))


def test_memory_does_not_grow(client, bucket, put):
    """Ten thousand rows are read in less than 2 MB."""
    count = 10_000
    put(*(f"room,sensor=hall celsius=1 {n * 10**9}" for n in range(count)))
    start = datetime(1970, 1, 1, tzinfo=UTC)
    rows = means(client, bucket, ["hall"], start, start + count * SECOND, SECOND)
    next(rows)
    tracemalloc.start()
    try:
        assert sum(1 for _ in rows) == count - 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


def test_line_lost_half_way(influxdb, bucket, put, connect, fault_proxy):
    """The line is lost half-way: an error, not a shorter result."""
    put(*(f"room,sensor=hall celsius=1 {n * 10**9}" for n in range(20_000)))
    proxy = fault_proxy(influxdb)
    start = datetime(1970, 1, 1, tzinfo=UTC)
    rows = means(
        connect(proxy.url), bucket, ["hall"], start, start + 20_000 * SECOND, SECOND
    )
    next(rows)
    proxy.reset_all()
    with pytest.raises((HTTPError, OSError)):
        list(rows)


# The second result fails at its last row, long after the first one is ready.
FAILS_HALF_WAY = """
import "generate"
numbers = (count) => generate.from(
    count: count, start: 2026-01-01, stop: 2026-01-02, fn: (n) => n
)
numbers(count: 100) |> yield(name: "a")
numbers(count: 200000)
    |> map(fn: (r) => ({_value: 1 / (199999 - r._value)}))
    |> yield(name: "b")
"""


def half_way(ask):
    """Ask until the server has begun to answer before it failed: seldom it has not."""
    while True:
        try:
            return ask(FAILS_HALF_WAY)
        except ApiException as error:
            if "cannot divide by zero" not in error.message:
                raise


def test_query_fails_half_way(client):
    """The server fails after the first rows: FluxQueryException ends the stream."""

    def first_row(flux):
        rows = client.query_api().query_stream(flux)
        return next(rows), rows

    first, rows = half_way(first_row)
    others = (next(rows)["_value"] for _ in range(99))
    assert [first["_value"], *others] == list(range(100))
    with pytest.raises(FluxQueryException, match="cannot divide by zero"):
        next(rows)


def test_silent_server(influxdb, bucket, connect, fault_proxy):
    """A server that does not answer is an error when the client's time is up."""
    proxy = fault_proxy(influxdb)
    proxy.black_hole()
    client = connect(proxy.url, timeout=(1_000, 100))
    with pytest.raises(HTTPError, match="timed out"):
        list(means(client, bucket, ["hall"], NOON, NOON + HOUR))


# --8<-- [start:wrong]
def query_as_copied(client, bucket, sensor):
    flux = f"""
        from(bucket: "{bucket}") |> range(start: 2026-01-01)
            |> filter(fn: (r) => r.sensor == "{sensor}")
    """
    return client.query_api().query(flux)


# --8<-- [end:wrong]


def test_often_copied_reads_everything(client, bucket, put):
    """Often copied: a name with a quote in it reads the data of all sensors."""
    put(*(reading(name, NOON, 1.0) for name in ("attic", "hall", "kitchen")))
    assert len(query_as_copied(client, bucket, 'x" or r.sensor != "')) == 3


def test_often_copied_writes(client, bucket, put, stored):
    """Often copied: through a value in its text, a query copies the data into another
    bucket."""
    put(reading("hall", NOON, 1.0))
    loot = f"{bucket}_loot"
    client.buckets_api().create_bucket(bucket_name=loot)
    hostile = f'hall") |> to(bucket: "{loot}") |> filter(fn: (r) => r.sensor != "'
    query_as_copied(client, bucket, hostile)
    assert stored(bucket=loot) == [1]


def test_often_copied_none(client, bucket):
    """Often copied: a parameter that is None is left out: "undefined identifier"."""
    flux = "from(bucket: _bucket) |> range(start: _start)"
    with pytest.raises(ApiException, match="undefined identifier _start"):
        client.query_api().query(flux, params={"_bucket": bucket, "_start": None})


def test_often_copied_csv(client):
    """Often copied: `query_csv` gives an error half-way as if it were two more rows."""
    *_, names, last = half_way(client.query_api().query_csv)
    assert names == ["", "error", "reference"]
    assert "cannot divide by zero" in last[1]
