# /// script
# requires-python = ">=3.11"
# dependencies = ["influxdb-client>=1.50"]
# ///
"""Write points in batches, and hear of every one that is lost.

The client can collect points and send them from a thread of its own: for points that
come one at a time. What goes wrong there reaches only a callback.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Lock

from influxdb_client import InfluxDBClient, Point
from influxdb_client.client.write_api import WriteOptions

NO_SERVER = (
    "Set INFLUXDB_V2_URL, INFLUXDB_V2_TOKEN, INFLUXDB_V2_ORG and INFLUXDB_V2_BUCKET,"
    " for example to what .env.example says"
    " after `docker compose up -d --wait influxdb`"
)

# --8<-- [start:writer]
OPTIONS = WriteOptions(
    batch_size=1_000,
    flush_interval=1_000,  # ms: a batch that is not full waits no longer
    max_retries=3,
    max_retry_time=20_000,  # ms, for one batch
    max_close_wait=60_000,  # ms, for all that is left at the end
)


class LostPointsError(Exception):
    """`batches` are those the server refused: (line protocol, error)."""

    def __init__(self, batches: list[tuple[bytes, Exception]], unsent: int = 0) -> None:
        why = [str(getattr(error, "message", error)) for _, error in batches]
        super().__init__("; ".join(why + [f"{unsent} bytes not sent"] * bool(unsent)))
        self.batches = batches


@contextmanager
def batch_writer(
    client: InfluxDBClient, bucket: str, options: WriteOptions = OPTIONS
) -> Iterator[Callable[[Point], None]]:
    """Give a function that takes a point; any thread may call it.

    Leaving the block sends the last batch, and waits. Raises LostPointsError there, and
    from the function as soon as a batch has failed.
    """
    failed: list[tuple[bytes, Exception]] = []
    unsent, lock = 0, Lock()  # bytes that were taken, and not answered yet

    def count(size: int) -> None:
        nonlocal unsent
        with lock:
            unsent += size

    def on_error(_: object, lines: bytes, error: Exception) -> None:
        failed.append((lines, error))
        count(-len(lines) - 1)

    writer = client.write_api(
        options,
        success_callback=lambda _, lines: count(-len(lines) - 1),
        error_callback=on_error,
    )

    def write(point: Point) -> None:
        if failed:
            raise LostPointsError(failed)
        line = point.to_line_protocol().encode()
        if not line:  # the client would drop it
            raise ValueError("a point without a field")
        count(len(line) + 1)  # as in a batch: with the end of the line
        writer.write(bucket, record=line, write_precision=point.write_precision)

    try:
        yield write
    finally:
        writer.close()  # flush() does nothing
        if failed or unsent:
            raise LostPointsError(failed, unsent)


# --8<-- [end:writer]


def main() -> None:
    url, token, org, bucket = (
        os.environ.get(f"INFLUXDB_V2_{name}") or sys.exit(NO_SERVER)
        for name in ("URL", "TOKEN", "ORG", "BUCKET")
    )
    start = datetime(2026, 1, 1, tzinfo=UTC)
    with InfluxDBClient(url, token, org=org, timeout=5_000) as client:
        with batch_writer(client, bucket) as write:
            for second in range(2_500):
                point = Point("room").tag("sensor", "hall").field("celsius", 20.5)
                write(point.time(start + timedelta(seconds=second)))
        query = "from(bucket: _bucket) |> range(start: 2026-01-01) |> count()"
        ((found,),) = client.query_api().query(query, params={"_bucket": bucket})
        print("stored:", found.get_value())
        try:
            with batch_writer(client, bucket) as write:
                write(Point("room").field("celsius", "warm").time(start))
        except LostPointsError as error:
            print("lost:", error)


if __name__ == "__main__":
    main()
