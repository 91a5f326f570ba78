# /// script
# requires-python = ">=3.11"
# dependencies = ["influxdb-client>=1.50"]
# ///
"""Keep hourly values with a task, and compute those of the past.

A task runs on the server, and nobody hears of its failures. Let it compute whole hours,
and the last few of them each time: then late data count, and no run spoils an hour.
"""

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from influxdb_client import InfluxDBClient, Point, TaskCreateRequest, TaskUpdateRequest
from influxdb_client.client.write_api import SYNCHRONOUS

NO_SERVER = (
    "Set INFLUXDB_V2_URL, INFLUXDB_V2_TOKEN, INFLUXDB_V2_ORG and INFLUXDB_V2_BUCKET,"
    " for example to what .env.example says"
    " after `docker compose up -d --wait influxdb`"
)

# --8<-- [start:flux]
FLUX = """
import "date"
import "types"

%(option)s
stop = date.truncate(t: now(), unit: 1h)
numbers =
    from(bucket: %(source)s)
        |> range(start: date.sub(d: %(hours)dh, from: stop), stop: stop)
        |> filter(fn: (r) => r._measurement == %(measurement)s)
        |> filter(fn: (r) => types.isNumeric(v: r._value))
save = (fn, name) =>
    numbers
        |> aggregateWindow(every: 1h, fn: fn, createEmpty: false, timeSrc: "_start")
        |> map(fn: (r) => ({r with _field: r._field + "_" + name}))
        |> to(bucket: %(target)s)
        |> yield(name: name)
save(fn: count, name: "count")
save(fn: sum, name: "sum")
save(fn: min, name: "min")
save(fn: max, name: "max")
"""


class Hourly(NamedTuple):
    """Count, sum, min and max of each number of a measurement, for each hour."""

    source: str  # bucket
    target: str  # bucket
    measurement: str

    @property
    def name(self) -> str:
        return f"{self.measurement}: {self.source} to {self.target}"

    def flux(self, option: str, hours: int) -> str:
        """The query for the last whole hours. Raises ValueError if there is none."""
        if hours < 1:
            raise ValueError(f"{hours} hours")
        names = {key: quote(value) for key, value in self._asdict().items()}
        return FLUX % {**names, "option": option, "hours": hours}


def quote(text: str) -> str:
    """A string of Flux: a task has no parameters."""
    return json.dumps(text, ensure_ascii=False).replace("${", r"\${")


# --8<-- [end:flux]


# --8<-- [start:task]
def ensure_task(client: InfluxDBClient, job: Hourly, look_back: int = 3) -> str:
    """Create the task, or bring it up to date; return its id. It runs hourly at :05.

    look_back: how many hours to compute each time; data may be late by that much.
    """
    tasks = client.tasks_api()
    option = f"option task = {{name: {quote(job.name)}, every: 1h, offset: 5m}}"
    flux = job.flux(option, look_back)
    if found := tasks.find_tasks(name=job.name):  # names need not be unique
        update = TaskUpdateRequest(flux=flux, status="active")
        return str(tasks.update_task_request(found[0].id, update).id)
    create = TaskCreateRequest(org=client.org, flux=flux)
    return str(tasks.create_task(task_create_request=create).id)


def last_failure(client: InfluxDBClient, task_id: str) -> str | None:
    """Why the task's last run failed; None if it did not, or none was yet."""
    task = client.tasks_api().find_task_by_id(task_id)
    return str(task.last_run_error) if task.last_run_status == "failed" else None


# --8<-- [end:task]


# --8<-- [start:past]
def compute(client: InfluxDBClient, job: Hourly, stop: datetime, hours: int) -> None:
    """Compute that many whole hours before stop, now. Doing it again changes nothing.

    Raises ApiException, FluxQueryException; ValueError (no hours, stop has no zone).
    """
    if stop.tzinfo is None:
        raise ValueError(f"{stop} has no time zone")
    now = f"option now = () => {stop.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    client.query_api().query(job.flux(now, hours))


# --8<-- [end:past]


def main() -> None:
    url, token, org, bucket = (
        os.environ.get(f"INFLUXDB_V2_{name}") or sys.exit(NO_SERVER)
        for name in ("URL", "TOKEN", "ORG", "BUCKET")
    )
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    job = Hourly(bucket, f"{bucket}_hourly", "room")
    with InfluxDBClient(url, token, org=org, timeout=30_000) as client:
        client.buckets_api().create_bucket(bucket_name=job.target)
        for n in range(5):
            point = Point("room").field("celsius", 20.0 + n)
            point.time(noon + n * timedelta(minutes=30))
            client.write_api(SYNCHRONOUS).write(bucket, record=point)
        compute(client, job, stop=noon + timedelta(hours=2), hours=24)
        flux = "from(bucket: _bucket) |> range(start: 2026-01-01)"
        for table in client.query_api().query(flux, params={"_bucket": job.target}):
            for row in table:
                print(f"{row['_time']:%H:%M} {row['_field']} {row['_value']}")
        print("failed:", last_failure(client, ensure_task(client, job)))


if __name__ == "__main__":
    main()
