# /// script
# requires-python = ">=3.11"
# dependencies = ["influxdb-client>=1.50"]
# ///
"""Write times with the right precision.

InfluxDB stores nanoseconds; the precision only says in which unit a number is sent.
The client computes coarser units in floating point, and can be off by one. So count
the units yourself, and read nanoseconds as numbers.
"""

import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from influxdb_client import InfluxDBClient, Point, WritePrecision
from influxdb_client.client.write_api import SYNCHRONOUS

NO_SERVER = (
    "Set INFLUXDB_V2_URL, INFLUXDB_V2_TOKEN, INFLUXDB_V2_ORG and INFLUXDB_V2_BUCKET,"
    " for example to what .env.example says"
    " after `docker compose up -d --wait influxdb`"
)

# --8<-- [start:units]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNITS = {
    WritePrecision.S: timedelta(seconds=1),
    WritePrecision.MS: timedelta(milliseconds=1),
    WritePrecision.US: timedelta(microseconds=1),
}


def count_units(moment: datetime, precision: str) -> int:
    """The time as a whole number of seconds, ms or us since 1970, rounded down.

    Raises ValueError for a time without a zone: the client would take it for UTC.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone")
    return (moment - EPOCH) // UNITS[precision]


# --8<-- [end:units]


# --8<-- [start:write]
def write_readings(
    client: InfluxDBClient,
    bucket: str,
    readings: Iterable[tuple[str, datetime, float]],
    precision: str = WritePrecision.MS,
) -> int:
    """Write (sensor, time, celsius), and return their number.

    Raises ValueError where two readings of a sensor fall into one unit of time: the
    second would replace the first.
    """
    points: dict[tuple[str, int], Point] = {}
    for sensor, moment, celsius in readings:
        time = count_units(moment, precision)
        if (sensor, time) in points:
            raise ValueError(f"two readings of {sensor} in one {precision} at {moment}")
        point = Point("room").tag("sensor", sensor).field("celsius", float(celsius))
        points[sensor, time] = point.time(time, precision)
    client.write_api(SYNCHRONOUS).write(bucket, record=points.values())
    return len(points)


# --8<-- [end:write]


# --8<-- [start:read]
def read_nanoseconds(
    client: InfluxDBClient, bucket: str, start: datetime, stop: datetime
) -> list[tuple[int, float]]:
    """(nanoseconds since 1970, value), oldest first: a datetime would lose three
    digits."""
    flux = """
        from(bucket: _bucket) |> range(start: _start, stop: _stop) |> group()
            |> sort(columns: ["_time"])
            |> map(fn: (r) => ({nanoseconds: int(v: r._time), _value: r._value}))
    """
    params = {"_bucket": bucket, "_start": start, "_stop": stop}
    tables = client.query_api().query(flux, params=params)
    return [(row["nanoseconds"], row["_value"]) for table in tables for row in table]


# --8<-- [end:read]


def main() -> None:
    url, token, org, bucket = (
        os.environ.get(f"INFLUXDB_V2_{name}") or sys.exit(NO_SERVER)
        for name in ("URL", "TOKEN", "ORG", "BUCKET")
    )
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    readings = [
        ("hall", noon + n * timedelta(milliseconds=250), 20.5 + n) for n in range(3)
    ]
    with InfluxDBClient(url, token, org=org, timeout=5_000) as client:
        print("written:", write_readings(client, bucket, readings))
        for nanoseconds, celsius in read_nanoseconds(
            client, bucket, noon, noon + timedelta(seconds=1)
        ):
            print(nanoseconds, celsius)
        try:
            write_readings(client, bucket, readings, WritePrecision.S)
        except ValueError as error:
            print("refused:", error)


if __name__ == "__main__":
    main()
