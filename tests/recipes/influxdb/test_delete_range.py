"""delete_range: what was meant is gone, and nothing else."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from influxdb_client import Point
from influxdb_client.rest import ApiException

from recipes.influxdb.delete_range import count_values, delete_range

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def reading(hour: float, sensor: str = "hall", name: str = "room", **tags) -> Point:
    point = Point(name).tag("sensor", sensor).field("hour", float(hour))
    for tag, value in tags.items():
        point.tag(tag, value)
    return point.time(START + hour * HOUR)


@pytest.fixture
def delete(client, bucket):
    def delete(tags=None, start=START, stop=START + DAY, name="room") -> int:
        return delete_range(client, bucket, name, start, stop, tags or {})

    return delete


def test_half_open_to_the_nanosecond(delete, put, stored):
    """The start goes, the stop stays, and so does what is a nanosecond outside."""
    start, stop = (int(t.timestamp()) * 10**9 for t in (START, START + DAY))
    times = [start - 1, start, stop - 1, stop]
    put(*(f"room v={number} {time}" for number, time in enumerate(times)))
    assert delete() == 2
    assert stored() == [0, 3]


def test_only_with_all_the_tags(delete, put, stored):
    """Only points with all of the tags go; other measurements stay."""
    put(
        reading(1, "hall", floor="1"),
        reading(2, "hall", floor="2"),
        reading(3, "attic", floor="1"),
        reading(4, "hall", "garden", floor="1"),
    )
    assert delete({"sensor": "hall", "floor": "1"}) == 1
    assert stored() == [2, 3, 4]


def test_without_tags(delete, put, stored):
    """No tags: all points of the measurement in the range."""
    put(reading(1), reading(2, "attic"), reading(3, name="garden"), reading(25))
    assert delete() == 2
    assert stored() == [3, 25]


def test_counts_values(delete, put, stored):
    """It returns the number of values: two fields of a point are two."""
    put(reading(1).field("note", "warm").field("open", True), reading(2))
    assert delete() == 4
    assert stored() == []


def test_counting_deletes_nothing(client, bucket, put, stored):
    """The count alone leaves everything."""
    put(reading(1), reading(2))
    wanted = {"_measurement": "room"}
    assert count_values(client, bucket, START, START + DAY, wanted) == 2
    assert stored() == [1, 2]


@pytest.mark.parametrize(
    "sensor",
    [
        'x" OR sensor = "hall',
        'x" AND _measurement = "room',
        "a AND b",
        "it's",
        "C:\\data",
        "${1 + 1}",
        "Ü 漢字",
        "a,b=c",
    ],
)
def test_hostile_values(delete, put, stored, sensor):
    """Quotes, operators, back slashes in a value: that sensor goes, and no other."""
    put(reading(1), reading(2, sensor))
    assert delete({"sensor": sensor}) == 1
    assert stored() == [1]
    with pytest.raises(LookupError):
        delete({"sensor": sensor})


def test_hostile_tag_name(delete, put, stored):
    """So in the name of a tag."""
    name = 'a "b" ${1 + 1}'
    put(reading(1), reading(2, **{name: "x"}))
    assert delete({name: "x"}) == 1
    assert stored() == [1]


def test_any_zone(delete, put, stored):
    """The range may be in any zone."""
    zone = timezone(timedelta(hours=5, minutes=30))
    put(reading(0), reading(23.75), reading(24))
    assert delete(start=START.astimezone(zone), stop=(START + DAY).astimezone(zone))
    assert stored() == [24]


def test_nothing_there(delete, put, stored):
    """A misspelt tag, measurement or value is a LookupError, and nothing goes."""
    put(reading(1))
    for tags in ({"senzor": "hall"}, {"sensor": "hal"}, {"hour": "1"}):
        with pytest.raises(LookupError, match="no points of"):
            delete(tags)
    with pytest.raises(LookupError):
        delete(name="rooms")
    assert stored() == [1]


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        pytest.param(START.replace(tzinfo=None), START + DAY, id="start-without-zone"),
        pytest.param(START, datetime(2026, 1, 2), id="stop-without-zone"),
        pytest.param(START, START, id="empty"),
        pytest.param(START + DAY, START, id="backwards"),
    ],
)
def test_bad_range(delete, put, stored, start, stop):
    """A time without a zone, or an empty range, is a ValueError, and nothing goes."""
    put(reading(1))
    with pytest.raises(ValueError):
        delete(start=start, stop=stop)
    assert stored() == [1]


def test_line_end(delete, put):
    """A line end in a value is a ValueError: the server cannot read it."""
    put(reading(1))
    with pytest.raises(ValueError, match="a line end"):
        delete({"sensor\n": "hall"})


def test_fields_cannot_be_chosen(delete, put, stored):
    """Single fields cannot be deleted: the server's refusal reaches the caller."""
    put(reading(1).field("other", 2.0))
    with pytest.raises(ApiException, match="delete by field is not supported"):
        delete({"_field": "other"})
    assert stored() == [1, 2]


def test_unknown_bucket(client):
    """A bucket that is not there is an error."""
    with pytest.raises(ApiException, match="could not find bucket"):
        delete_range(client, "nowhere", "room", START, START + DAY, {})


# --8<-- [start:wrong]
def delete_as_copied(client, bucket, day, predicate):
    tomorrow = day + timedelta(days=1)
    client.delete_api().delete(day, tomorrow, predicate, bucket=bucket)


# --8<-- [end:wrong]


def test_often_copied_takes_the_next_day(client, bucket, put, stored):
    """Often copied: the end is included, so midnight of the next day goes as well."""
    put(reading(23), reading(24), reading(25))
    delete_as_copied(client, bucket, START, '_measurement="room"')
    assert stored() == [25]


@pytest.mark.parametrize("predicate", ['senzor="hall"', "hour=1", '_measurement="rum"'])
def test_often_copied_deletes_nothing(client, bucket, put, stored, predicate):
    """Often copied: a misspelt name, or a condition on a field, deletes nothing and is
    no error."""
    put(reading(1))
    delete_as_copied(client, bucket, START, predicate)
    assert stored() == [1]


def test_often_copied_deletes_everything(client, bucket, put, stored):
    """Often copied: an empty predicate deletes all measurements of the range."""
    put(reading(1), reading(2, name="garden"), reading(25))
    delete_as_copied(client, bucket, START, "")
    assert stored() == [25]


def test_often_copied_local_time(client, bucket, put, stored):
    """Often copied: a day without a zone is a day of UTC: in Berlin, the wrong one."""
    put(*map(reading, range(26)))
    delete_as_copied(client, bucket, datetime(2026, 1, 1), '_measurement="room"')
    assert stored() == [25]


def test_often_copied_or(client, bucket):
    """Often copied: OR is refused; only conditions that hold together can be asked."""
    with pytest.raises(ApiException, match="OR is not supported"):
        delete_as_copied(client, bucket, START, 'sensor="a" OR sensor="b"')
