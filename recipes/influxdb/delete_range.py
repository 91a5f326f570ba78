# /// script
# requires-python = ">=3.11"
# dependencies = ["influxdb-client>=1.50"]
# ///
"""Delete a range of points, and know how much it was.

InfluxDB answers a deletion with "no content", whether it deleted a million points or a
tag was misspelt. So count first. And its end is included: the next day's first point
would go too.
"""

import os
import sys
from datetime import UTC, datetime, timedelta

from influxdb_client import InfluxDBClient, Point
from influxdb_client.client.write_api import SYNCHRONOUS

NO_SERVER = (
    "Set INFLUXDB_V2_URL, INFLUXDB_V2_TOKEN, INFLUXDB_V2_ORG and INFLUXDB_V2_BUCKET,"
    " for example to what .env.example says"
    " after `docker compose up -d --wait influxdb`"
)


# --8<-- [start:delete]
def delete_range(
    client: InfluxDBClient,
    bucket: str,
    measurement: str,
    start: datetime,
    stop: datetime,
    tags: dict[str, str],
) -> int:
    """Delete the points in [start, stop) with all of these tags; {} means any.

    Returns how many values there were. Raises LookupError where there was none,
    ValueError (a time without a zone, an empty range), ApiException.
    """
    if start.tzinfo is None or stop.tzinfo is None:
        raise ValueError("a time without a zone")
    if start >= stop:
        raise ValueError(f"nothing lies between {start} and {stop}")
    wanted = {"_measurement": measurement, **tags}
    found = count_values(client, bucket, start, stop, wanted)
    if not found:
        raise LookupError(f"no points of {wanted} between {start} and {stop}")
    pairs = [f"{quote(name)} = {quote(value)}" for name, value in wanted.items()]
    last = stop.astimezone(UTC) - timedelta(microseconds=1)
    client.delete_api().delete(
        start.astimezone(UTC).isoformat(),
        f"{last:%Y-%m-%dT%H:%M:%S.%f}999Z",  # the end is included: stop minus 1 ns
        " AND ".join(pairs),
        bucket,
    )
    return found


def count_values(
    client: InfluxDBClient,
    bucket: str,
    start: datetime,
    stop: datetime,
    wanted: dict[str, str],
) -> int:
    """How many values match: each field of a point is one."""
    filters = "".join(
        f"|> filter(fn: (r) => r[{quote(name, '${')}] == _value{number})\n"
        for number, name in enumerate(wanted)
    )
    flux = f"""from(bucket: _bucket) |> range(start: _start, stop: _stop)
        {filters} |> count() |> group() |> sum()"""
    params = {"_bucket": bucket, "_start": start, "_stop": stop}
    params |= {f"_value{number}": text for number, text in enumerate(wanted.values())}
    tables = client.query_api().query(flux, params=params)
    return sum(record.get_value() for table in tables for record in table)


def quote(text: str, *others: str) -> str:
    """A string of a predicate; with "${", of Flux. Raises ValueError for a line end."""
    if "\n" in text:
        raise ValueError(f"a line end in {text!r}")
    for special in ("\\", '"', *others):
        text = text.replace(special, "\\" + special)
    return f'"{text}"'


# --8<-- [end:delete]


def main() -> None:
    url, token, org, bucket = (
        os.environ.get(f"INFLUXDB_V2_{name}") or sys.exit(NO_SERVER)
        for name in ("URL", "TOKEN", "ORG", "BUCKET")
    )
    start, day = datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=1)
    points = [
        Point("room")
        .tag("sensor", sensor)
        .field("celsius", 20.5)
        .time(start + timedelta(hours=hour))
        for sensor in ("attic", "hall")
        for hour in range(48)
    ]
    with InfluxDBClient(url, token, org=org, timeout=30_000) as client:
        client.write_api(SYNCHRONOUS).write(bucket, record=points)
        room = (client, bucket, "room", start, start + day)
        print("deleted:", delete_range(*room, {"sensor": "hall"}))
        left = {"_measurement": "room", "sensor": "hall"}
        print("left:", count_values(client, bucket, start, start + 9 * day, left))
        try:
            delete_range(*room, {"senzor": "attic"})
        except LookupError as error:
            print("refused:", error)


if __name__ == "__main__":
    main()
