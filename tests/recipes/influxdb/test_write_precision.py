"""write_precision: every time arrives as it was, to the unit."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from influxdb_client import Point, WritePrecision

from recipes.influxdb.write_precision import (
    UNITS,
    read_nanoseconds,
    write_readings,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
UNLUCKY = datetime(2026, 1, 1, 2, 38, 55, 234_000, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


@pytest.fixture
def everything(client, bucket):
    """All that is stored: [(nanoseconds, value)]."""

    def read():
        far = datetime(2200, 1, 1, tzinfo=UTC)
        return read_nanoseconds(client, bucket, far.replace(year=1900), far)

    return read


def nanoseconds(moment: datetime) -> int:
    return (
        (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    )


@pytest.mark.parametrize("precision", UNITS)
def test_every_unit_is_exact(client, bucket, everything, precision):
    """A thousand times in a row arrive exactly, in seconds, ms and us."""
    times = [UNLUCKY.replace(microsecond=0) + n * UNITS[precision] for n in range(1000)]
    readings = [("hall", time, 1.0) for time in times]
    assert write_readings(client, bucket, readings, precision) == 1000
    assert [stored for stored, _ in everything()] == list(map(nanoseconds, times))


def test_rounds_down(client, bucket, everything):
    """What is finer than the unit is cut off, also before 1970."""
    early = datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    late = NOON + timedelta(microseconds=999_999)
    readings = [("hall", early, 1.0), ("hall", late, 2.0)]
    write_readings(client, bucket, readings, WritePrecision.S)
    assert everything() == [(-1_000_000_000, 1), (nanoseconds(NOON), 2)]


def test_zones(client, bucket, everything):
    """The same moment in two zones is one time."""
    in_india = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
    write_readings(client, bucket, [("hall", NOON, 1.0), ("attic", in_india, 2.0)])
    assert {time for time, _ in everything()} == {nanoseconds(NOON)}


def test_time_without_a_zone(client, bucket, everything):
    """A time without a zone is a ValueError, and nothing is written."""
    with pytest.raises(ValueError, match="no time zone"):
        write_readings(
            client,
            bucket,
            [("hall", NOON, 1.0), ("hall", NOON.replace(tzinfo=None), 2)],
        )
    assert everything() == []


def test_two_in_one_unit(client, bucket, everything):
    """Two readings of a sensor in one unit are a ValueError, and nothing is written."""
    half = [("hall", NOON + n * MILLISECOND / 2, float(n)) for n in (0, 1)]
    with pytest.raises(ValueError, match="two readings of hall in one ms"):
        write_readings(client, bucket, half)
    assert everything() == []
    assert write_readings(client, bucket, half, WritePrecision.US) == 2
    assert len(everything()) == 2


def test_two_sensors_in_one_unit(client, bucket, everything):
    """Two sensors may have a reading at the same time."""
    readings = [("hall", NOON, 1.0), ("attic", NOON, 2.0)]
    assert write_readings(client, bucket, readings) == 2
    assert sorted(value for _, value in everything()) == [1, 2]


def test_whole_numbers(client, bucket, everything):
    """An int is written as a float: the field keeps its type."""
    write_readings(client, bucket, [("hall", NOON, 20), ("hall", UNLUCKY, 20.5)])
    assert [value for _, value in everything()] == [20.5, 20.0]


def test_again_is_the_same(client, bucket, everything):
    """The same readings written twice are stored once."""
    for _ in range(2):
        write_readings(client, bucket, [("hall", NOON, 1.0)])
    assert everything() == [(nanoseconds(NOON), 1)]


def test_reads_nanoseconds(client, bucket, put, everything):
    """Nanoseconds are read to the last digit, those of all series in order."""
    put(
        *(f"room,sensor=hall v={n} 176722560012345678{n}" for n in (0, 2)),
        "room,sensor=attic v=1 1767225600123456781",
    )
    assert everything() == [(1767225600123456780 + n, n) for n in range(3)]


def test_reads_half_open_range(client, bucket, put):
    """The start belongs to what is read, the stop does not."""
    put(*(f"room v={n} {nanoseconds(NOON) + n}" for n in (-1, 0, 1, 1000)))
    found = read_nanoseconds(client, bucket, NOON, NOON + timedelta(microseconds=1))
    assert [value for _, value in found] == [0, 1]


# --8<-- [start:wrong]
def point_as_copied(celsius, time):
    return Point("room").field("celsius", celsius).time(time, WritePrecision.MS)


# --8<-- [end:wrong]


def test_often_copied_is_one_off(put, everything):
    """Often copied: 02:38:55.234 is stored as 02:38:55.233."""
    put(point_as_copied(20.5, UNLUCKY))
    assert everything() == [(nanoseconds(UNLUCKY - MILLISECOND), 20.5)]


def test_often_copied_loses_readings(put, everything):
    """Often copied: of 1000 readings, one each millisecond, 124 are gone: others were
    stored under their time."""
    times = [UNLUCKY + n * MILLISECOND for n in range(1000)]
    put(*map(point_as_copied, map(float, range(1000)), times))
    assert len(everything()) == 876


def test_often_copied_seconds(put, everything):
    """Often copied: seconds without a precision are taken for nanoseconds: the point
    goes to 1970."""
    put(Point("room").field("celsius", 20.5).time(int(NOON.timestamp())))
    assert everything() == [(1_767_268_800, 20.5)]


def test_often_copied_local_time(put, everything):
    """Often copied: `datetime.now()` of a clock in India is stored 5.5 hours late."""
    offset = timedelta(hours=5, minutes=30)
    local = NOON.astimezone(timezone(offset)).replace(tzinfo=None)
    put(Point("room").field("celsius", 20.5).time(local))
    assert everything() == [(nanoseconds(NOON + offset), 20.5)]


def test_often_copied_whole_seconds(put, everything):
    """Often copied: in whole seconds, the last of four readings replaces the others."""
    quarters = [NOON + n * timedelta(milliseconds=250) for n in range(4)]
    put(
        *(
            Point("room").field("celsius", float(n)).time(time, WritePrecision.S)
            for n, time in enumerate(quarters)
        )
    )
    assert everything() == [(nanoseconds(NOON), 3)]


def test_often_copied_reads_microseconds(put, stored):
    """Often copied: read as datetimes, two nanosecond times become one."""
    put("room v=1 1767225600123456789", "room v=2 1767225600123456788")
    ((first, _), (second, _)) = stored("_time", "_value")
    assert first == second == datetime(2026, 1, 1, 0, 0, 0, 123_456, tzinfo=UTC)
