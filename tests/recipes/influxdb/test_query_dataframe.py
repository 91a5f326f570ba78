"""query_dataframe: one frame, every value and every type as the server has them."""

import warnings
from datetime import UTC, datetime, timedelta, timezone

import pandas as pd
import pytest
from influxdb_client import Point
from influxdb_client.client.warnings import MissingPivotFunction
from influxdb_client.rest import ApiException

from recipes.influxdb.query_dataframe import read_measurement, to_frame

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
BIG = 2**53 + 1  # no float is this number


def reading(sensor: str, minute: int = 0, **fields) -> Point:
    point = Point("room").tag("sensor", sensor).time(NOON + minute * MINUTE)
    for name, value in fields.items():
        point.field(name, value)
    return point


@pytest.fixture
def read(client, bucket):
    """The measurement "room" of two hours, as a frame."""

    def read(name="room", start=NOON, stop=NOON + 120 * MINUTE) -> pd.DataFrame:
        return read_measurement(client, bucket, name, start, stop)

    return read


def test_one_row_for_each_time(read, put):
    """A row for each series and time, sorted by time; a column for each field."""
    put(
        reading("hall", 0, celsius=20.5, lux=300),
        reading("attic", 1, celsius=10.5, lux=100),
        reading("hall", 2, celsius=21.5, lux=310),
    )
    assert read().to_dict("list") == {
        "time": [pd.Timestamp(NOON + n * MINUTE) for n in range(3)],
        "sensor": ["hall", "attic", "hall"],
        "celsius": [20.5, 10.5, 21.5],
        "lux": [300, 100, 310],
    }


def test_series_that_differ(read, put):
    """Series with other tags and other fields are rows of the same frame."""
    put(reading("hall", 0, celsius=20.5), reading("attic", 1, lux=1).tag("floor", "3"))
    frame = read()
    assert set(frame) == {"time", "sensor", "floor", "celsius", "lux"}
    assert frame["floor"].isna().tolist() == [True, False]
    assert frame["lux"].isna().tolist() == [True, False]
    assert frame["celsius"].isna().tolist() == [False, True]


def test_whole_numbers_with_gaps(read, put):
    """A whole number of 64 bits stays exact, also where others are missing."""
    put(reading("hall", 0, lux=BIG, other=1.0), reading("hall", 1, other=2.0))
    frame = read()
    assert frame["lux"].dtype == "Int64"
    assert frame["lux"].dropna().tolist() == [BIG]


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        pytest.param(1.0, "float64", id="float"),
        pytest.param(1, "Int64", id="int"),
        pytest.param(True, "boolean", id="bool"),
        pytest.param('a "b", c', "str", id="str"),
    ],
)
def test_types_are_those_of_the_server(read, put, value, dtype):
    """float, int, bool and str have their type with a gap and without."""
    put(reading("hall", 0, value=value))
    assert read()["value"].dtype == dtype
    put(reading("hall", 1, other=1.0))
    frame = read()
    assert frame["value"].dtype == dtype
    assert frame["value"].dropna().tolist() == [value]


def test_unsigned(read, put):
    """Unsigned numbers use all 64 bits."""
    put(f"room,sensor=hall n={2**64 - 1}u {int(NOON.timestamp())}000000000")
    assert read()["n"].tolist() == [2**64 - 1]


def test_times_are_aware(read, put):
    """Times are UTC, with microseconds; the range may be in any zone."""
    moment = NOON + timedelta(microseconds=1)
    put(Point("room").field("celsius", 1.0).time(moment))
    frame = read(start=NOON.astimezone(timezone(timedelta(hours=9))))
    assert frame["time"].dtype == "datetime64[us, UTC]"
    assert frame["time"].tolist() == [pd.Timestamp(moment)]


def test_range_is_half_open(read, put):
    """The start belongs to the range, the stop does not."""
    put(*(reading("hall", minute, n=minute) for minute in range(4)))
    assert read(start=NOON + MINUTE, stop=NOON + 3 * MINUTE)["n"].tolist() == [1, 2]


def test_nothing(read, put):
    """Nothing found is an empty frame."""
    put(reading("hall", celsius=1.0))
    assert read("garden").empty
    assert len(read("garden").columns) == 0


def test_hostile_name(read, put):
    """The measurement's name is a parameter, never part of the query."""
    put(reading("hall", celsius=1.0))
    assert read('x" or r._measurement != "').empty


def test_two_types_in_one_column(client):
    """A column with two types is a TypeError, not a column of objects."""
    tables = client.query_api().query("""
        import "array"
        array.from(rows: [{v: 1}]) |> yield(name: "whole")
        array.from(rows: [{v: 1.5}]) |> yield(name: "real")
    """)
    with pytest.raises(TypeError, match=r"v is (Int64|float64) and "):
        to_frame(tables)


# --8<-- [start:wrong]
def read_as_copied(client, bucket):
    return client.query_api().query_data_frame(f"""
        from(bucket: "{bucket}") |> range(start: 2026-01-01)
            |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
    """)


# --8<-- [end:wrong]


def test_often_copied_is_a_list(client, bucket, put):
    """Often copied: with one more tag in one series, the frame becomes a list."""
    put(reading("hall", celsius=1.0))
    assert isinstance(read_as_copied(client, bucket), pd.DataFrame)
    put(reading("attic", celsius=1.0).tag("floor", "3"))
    assert isinstance(read_as_copied(client, bucket), list)


def test_often_copied_loses_digits(client, bucket, put):
    """Often copied: with one gap, whole numbers become floats, and digits are lost."""
    put(reading("hall", 0, lux=BIG, other=1.0), reading("hall", 1, other=2.0))
    frame = read_as_copied(client, bucket)
    assert frame["lux"].dtype == "float64"
    assert frame["lux"].dropna().tolist() == [BIG - 1]


def test_often_copied_guesses_types(client, bucket, put):
    """Often copied, with `use_extension_dtypes`: floats that happen to be whole become
    integers, until one is not."""
    query = client.query_api().query_data_frame
    flux = f'from(bucket: "{bucket}") |> range(start: 2026-01-01)'
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingPivotFunction)
        put(reading("hall", 0, celsius=20.0))
        assert query(flux, use_extension_dtypes=True)["_value"].dtype == "Int64"
        put(reading("hall", 1, celsius=20.5))
        assert query(flux, use_extension_dtypes=True)["_value"].dtype == "Float64"


def test_often_copied_writes_other_text(put, stored):
    """Often copied: writing a frame with a gap in its first field takes a comma out of
    the text of another."""
    index = pd.DatetimeIndex([NOON, NOON + MINUTE])
    frame = pd.DataFrame({"a": [1.0, None], "note": ["one ,two", "three"]}, index)
    put(frame, data_frame_measurement_name="room")
    texts = {value for field, value in stored("_field", "_value") if field == "note"}
    assert texts == {"one two", "three"}


def test_often_copied_writes_broken_tags(put):
    """Often copied: writing a frame with a gap in a tag, a space in another is not
    escaped, and the server refuses the batch."""
    index = pd.DatetimeIndex([NOON, NOON + MINUTE])
    frame = pd.DataFrame({"city": ["New York", None], "t": [1.0, 2.0]}, index)
    with pytest.raises(ApiException, match="unable to parse"):
        put(frame, data_frame_measurement_name="room", data_frame_tag_columns=["city"])


def test_often_copied_writes_into_1970(put, stored):
    """Often copied: a frame whose index is no time is written to 1970, row by row."""
    put(pd.DataFrame({"celsius": [1.0, 2.0]}), data_frame_measurement_name="room")
    assert {moment.year for moment, _ in stored("_time", "_value")} == {1970}
