# /// script
# requires-python = ">=3.11"
# dependencies = ["influxdb-client>=1.50"]
# ///
"""Write many points in requests of a fixed size.

No thread, no callback: the first error stops the load and reaches the caller, and the
memory does not grow. Use this where the points are already there: a file, a query.
"""

import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice

from influxdb_client import InfluxDBClient, Point
from influxdb_client.client.write_api import SYNCHRONOUS

NO_SERVER = (
    "Set INFLUXDB_V2_URL, INFLUXDB_V2_TOKEN, INFLUXDB_V2_ORG and INFLUXDB_V2_BUCKET,"
    " for example to what .env.example says"
    " after `docker compose up -d --wait influxdb`"
)


# --8<-- [start:chunks]
def write_all(
    client: InfluxDBClient, bucket: str, points: Iterable[Point], size: int = 5_000
) -> int:
    """Write them in requests of that size, and return how many points there were.

    Raises ApiException (refused), urllib3's errors (line lost), ValueError (a point
    without a field: the client would drop it). The chunks before are stored.
    """
    writer, rest, written = client.write_api(SYNCHRONOUS), iter(points), 0
    while chunk := list(islice(rest, size)):
        if not all(point.to_line_protocol() for point in chunk):
            raise ValueError("a point without a field")
        writer.write(bucket, record=chunk)
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
    with InfluxDBClient(url, token, org=org, timeout=5_000) as client:
        print("written:", write_all(client, bucket, points, size=1_000))
        query = "from(bucket: _bucket) |> range(start: 2026-01-01) |> count()"
        ((found,),) = client.query_api().query(query, params={"_bucket": bucket})
        print("stored:", found.get_value())


if __name__ == "__main__":
    main()
