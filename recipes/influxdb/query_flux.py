# /// script
# requires-python = ">=3.11"
# dependencies = ["influxdb-client>=1.50"]
# ///
"""Query with Flux and parameters.

Values go beside the query, never into its text: Flux can write as well as read. Rows
come one by one, so a large result does not fill the memory.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from influxdb_client import InfluxDBClient, Point
from influxdb_client.client.write_api import SYNCHRONOUS

NO_SERVER = (
    "Set INFLUXDB_V2_URL, INFLUXDB_V2_TOKEN, INFLUXDB_V2_ORG and INFLUXDB_V2_BUCKET,"
    " for example to what .env.example says"
    " after `docker compose up -d --wait influxdb`"
)

# --8<-- [start:query]
HOURLY = """
from(bucket: _bucket)
    |> range(start: _start, stop: _stop)
    |> filter(fn: (r) => r._measurement == "room" and r._field == "celsius")
    |> filter(fn: (r) => contains(value: r.sensor, set: _sensors))
    |> group(columns: ["sensor"])
    |> aggregateWindow(every: _every, fn: mean, createEmpty: false, timeSrc: "_start")
    |> group()
    |> sort(columns: ["sensor", "_time"])
"""


@dataclass(frozen=True)
class Mean:
    sensor: str
    start: datetime
    celsius: float


def means(
    client: InfluxDBClient,
    bucket: str,
    sensors: list[str],
    start: datetime,
    stop: datetime,
    every: timedelta = timedelta(hours=1),
) -> Iterator[Mean]:
    """The mean of each window in [start, stop), by sensor and time, one at a time.

    Raises ValueError (a time without a zone, an empty range), ApiException (refused),
    FluxQueryException (failed half-way: what came before is not the whole).
    """
    if start.tzinfo is None or stop.tzinfo is None:
        raise ValueError("a time without a zone")
    if start >= stop:
        raise ValueError(f"nothing lies between {start} and {stop}")
    params = {
        "_bucket": bucket,
        "_sensors": sensors,
        "_start": start,
        "_stop": stop,
        "_every": every,
    }
    for record in client.query_api().query_stream(HOURLY, params=params):
        yield Mean(record["sensor"], record["_time"], record["_value"])


# --8<-- [end:query]


def main() -> None:
    url, token, org, bucket = (
        os.environ.get(f"INFLUXDB_V2_{name}") or sys.exit(NO_SERVER)
        for name in ("URL", "TOKEN", "ORG", "BUCKET")
    )
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    points = [
        Point("room")
        .tag("sensor", sensor)
        .field("celsius", 20.0 + minutes / 60)
        .time(noon + timedelta(minutes=minutes))
        for sensor in ("attic", "hall", "kitchen")
        for minutes in range(0, 120, 15)
    ]
    with InfluxDBClient(url, token, org=org, timeout=(2_000, 30_000)) as client:
        client.write_api(SYNCHRONOUS).write(bucket, record=points)
        tomorrow = noon + timedelta(days=1)
        for mean in means(client, bucket, ["attic", "hall"], noon, tomorrow):
            print(f"{mean.sensor} {mean.start:%H:%M} {mean.celsius}")
        hostile = 'hall" or r.sensor != "'
        found = list(means(client, bucket, [hostile], noon, tomorrow))
        print("hostile name:", found)


if __name__ == "__main__":
    main()
