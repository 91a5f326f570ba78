# /// script
# requires-python = ">=3.11"
# dependencies = ["influxdb-client>=1.50", "urllib3>=2.8"]
# ///
"""Handle write errors by what they mean.

A busy server wants the same points again, later. A bad point must not take its
neighbours with it. A wrong token or bucket is nothing that a retry can mend.
"""

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from influxdb_client import InfluxDBClient, Point
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException
from urllib3.util import Retry

NO_SERVER = (
    "Set INFLUXDB_V2_URL, INFLUXDB_V2_TOKEN, INFLUXDB_V2_ORG and INFLUXDB_V2_BUCKET,"
    " for example to what .env.example says"
    " after `docker compose up -d --wait influxdb`"
)


# --8<-- [start:connect]
def connect(url: str, token: str, org: str, tries: int = 5) -> InfluxDBClient:
    """A client that writes again after 429, 5xx and a lost connection.

    For points that have a time: such a write may be repeated. For nothing else: a task
    that is created again is there twice.
    """
    retries = Retry(
        total=tries - 1,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=["POST"],
        backoff_factor=0.5,  # s: 0, 1, 2, 4 ... where the server says no Retry-After
        backoff_jitter=0.5,
        backoff_max=30,
        retry_after_max=60,  # s: the default is six hours
        raise_on_status=False,  # after the last try: ApiException, with the answer
    )
    timeout = (2_000, 10_000)  # ms: to connect, to answer
    return InfluxDBClient(url, token, org=org, timeout=timeout, retries=retries)


# --8<-- [end:connect]


# --8<-- [start:write]
def write(
    client: InfluxDBClient, bucket: str, points: Sequence[Point]
) -> list[tuple[Point, str]]:
    """Write the points; return those that the server refuses, each with the reason.

    Raises ApiException where it is not the points' fault (401, 404, 503 ...), and
    urllib3's errors: then write all of them again later. Raises ValueError for a point
    without a field: the client would drop it.
    """
    if not all(point.to_line_protocol() for point in points):
        raise ValueError("a point without a field")
    try:
        client.write_api(SYNCHRONOUS).write(bucket, record=points)
    except ApiException as error:
        if error.status not in {400, 413, 422}:  # malformed, too large, partial write
            raise
        if len(points) == 1:
            return [(points[0], error.message)]
        half = len(points) // 2  # the answer does not name them all: look closer
        return [
            *write(client, bucket, points[:half]),
            *write(client, bucket, points[half:]),
        ]
    return []


# --8<-- [end:write]


def main() -> None:
    url, token, org, bucket = (
        os.environ.get(f"INFLUXDB_V2_{name}") or sys.exit(NO_SERVER)
        for name in ("URL", "TOKEN", "ORG", "BUCKET")
    )
    start = datetime(2026, 1, 1, tzinfo=UTC)
    values: list[object] = [20.5] * 100
    values[7], values[42] = "warm", True
    points = [
        Point("room").field("celsius", value).time(start + timedelta(minutes=minute))
        for minute, value in enumerate(values)
    ]
    with connect(url, token, org) as client:
        for point, reason in write(client, bucket, points):
            print("refused:", point)
            print(" ", reason.partition("conflict: ")[2])
        query = "from(bucket: _bucket) |> range(start: 2026-01-01) |> count()"
        ((found,),) = client.query_api().query(query, params={"_bucket": bucket})
        print("stored:", found.get_value())
        try:
            write(client, "nowhere", points)
        except ApiException as error:
            print(error.status, error.message.replace('"', "'"))


if __name__ == "__main__":
    main()
