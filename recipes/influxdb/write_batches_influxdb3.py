# /// script
# requires-python = ">=3.11"
# dependencies = ["influxdb3-python>=0.21"]
# ///
"""Write many points with influxdb3-python.

The client of InfluxDB 3 writes to InfluxDB 2 as well, so a program can change its
server later. It cannot query InfluxDB 2: it speaks SQL over Flight, not Flux.
"""

import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice

from influxdb_client_3 import InfluxDBClient3, Point

NO_SERVER = (
    "Set INFLUXDB_V2_URL, INFLUXDB_V2_TOKEN, INFLUXDB_V2_ORG and INFLUXDB_V2_BUCKET,"
    " for example to what .env.example says"
    " after `docker compose up -d --wait influxdb`"
)


# --8<-- [start:connect]
def connect(url: str, token: str, org: str, bucket: str) -> InfluxDBClient3:
    """A client that writes through the endpoint that versions 2 and 3 both have."""
    return InfluxDBClient3(
        host=url,
        token=token,
        org=org,
        database=bucket,
        write_use_v2_api=True,
        write_timeout=5_000,  # ms
    )


# --8<-- [end:connect]


# --8<-- [start:chunks]
def write_all(
    client: InfluxDBClient3, points: Iterable[Point], size: int = 5_000
) -> int:
    """Write them in requests of that size, and return how many points there were.

    Raises InfluxDBError (refused), urllib3's errors (line lost), ValueError (a point
    without a field: the client would drop it). The chunks before are stored.
    """
    rest, written = iter(points), 0
    while chunk := list(islice(rest, size)):
        if not all(point.to_line_protocol() for point in chunk):
            raise ValueError("a point without a field")
        client.write(chunk)
        written += len(chunk)
    return written


# --8<-- [end:chunks]


def main() -> None:
    url, token, org, bucket = (
        os.environ.get(f"INFLUXDB_V2_{name}") or sys.exit(NO_SERVER)
        for name in ("URL", "TOKEN", "ORG", "BUCKET")
    )
    start = datetime(2026, 1, 1, tzinfo=UTC)
    points = (
        Point("room").field("celsius", 20.5).time(start + timedelta(seconds=second))
        for second in range(2_500)
    )
    with connect(url, token, org, bucket) as client:
        print("written:", write_all(client, points, size=1_000))


if __name__ == "__main__":
    main()
