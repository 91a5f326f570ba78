"""downsample_task: whole hours, each of them right, however often they are computed."""

import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
from influxdb_client import InfluxDBClient, Point, TaskCreateRequest
from influxdb_client.rest import ApiException

from recipes.influxdb.downsample_task import (
    Hourly,
    compute,
    ensure_task,
    last_failure,
)

TEN = datetime(2026, 1, 1, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


def reading(minutes: float, celsius: float, **tags) -> Point:
    point = Point("room").field("celsius", celsius).time(TEN + minutes * HOUR / 60)
    for name, value in tags.items():
        point.tag(name, value)
    return point


@pytest.fixture
def job(client, bucket) -> Hourly:
    target = f"{bucket}_hourly"
    client.buckets_api().create_bucket(bucket_name=target)
    return Hourly(bucket, target, "room")


@pytest.fixture
def hours(stored, job):
    """A field of the target: [(hour, value)]."""

    def read(field: str) -> list[tuple[int, float]]:
        rows = stored("_time", "_field", "_value", bucket=job.target)
        return [(time.hour, value) for time, name, value in rows if name == field]

    return read


def run(client: InfluxDBClient, task_id: str, at: datetime) -> str:
    """Run the task as at that time; return how it ended."""
    tasks = client.tasks_api()
    run_id = tasks.run_manually(task_id, at).id
    for _ in range(1_000):
        try:
            status = tasks.get_run(task_id, run_id).status
        except ApiException as error:
            # While the server moves the run to where it keeps those that are over, it
            # does not find it, or stumbles over it.
            if error.status not in {404, 500}:
                raise
            status = "moving"
        told = tasks.find_task_by_id(task_id).last_run_status  # a moment later
        if status in {"success", "failed"} and told == status:
            return status
        threading.Event().wait(0.02)
    raise AssertionError(f"the run is still {status}")


def test_hours(client, put, job, hours):
    """Count, sum, min and max of each hour, under the time of its start."""
    put(*(reading(minutes, float(minutes)) for minutes in (0, 59, 60, 119, 120)))
    compute(client, job, TEN + 2 * HOUR, hours=2)
    assert hours("celsius_count") == [(10, 2), (11, 2)]
    assert hours("celsius_sum") == [(10, 59), (11, 179)]
    assert hours("celsius_min") == [(10, 0), (11, 60)]
    assert hours("celsius_max") == [(10, 59), (11, 119)]


def test_right_mean_of_a_day(client, put, job, hours):
    """Sum and count give the mean of the day, where the mean of means is wrong."""
    put(*(reading(minutes, 10.0) for minutes in range(9)), reading(60, 20.0))
    compute(client, job, TEN + 2 * HOUR, hours=2)
    sums, counts = (dict(hours(f"celsius_{name}")) for name in ("sum", "count"))
    assert sum(sums.values()) / sum(counts.values()) == 11
    assert sum(sums[hour] / counts[hour] for hour in sums) / 2 == 15


def test_series_stay_apart(client, put, job, stored):
    """Each sensor has its own hours, with its tags."""
    put(reading(0, 1.0, sensor="hall"), reading(1, 2.0, sensor="attic"))
    compute(client, job, TEN + HOUR, hours=1)
    rows = stored("sensor", "_field", "_value", bucket=job.target)
    sums = [(sensor, value) for sensor, name, value in rows if name == "celsius_sum"]
    assert sums == [("attic", 2), ("hall", 1)]


def test_only_whole_hours(client, put, job, hours):
    """Computed in the middle of an hour, that hour waits until it is over."""
    put(reading(0, 1.0), reading(60, 2.0))
    compute(client, job, TEN + 1.5 * HOUR, hours=5)
    assert hours("celsius_sum") == [(10, 1)]


def test_again_changes_nothing(client, put, job, hours):
    """Computed again, also at another minute, the hours are the same."""
    put(*(reading(minutes, float(minutes)) for minutes in range(0, 120, 10)))
    for minutes in (120, 130, 179):
        compute(client, job, TEN + minutes * HOUR / 60, hours=2)
        assert hours("celsius_sum") == [(10, 150), (11, 510)]


def test_late_data(client, put, job, hours):
    """Data that come late are counted when their hour is computed again."""
    put(reading(0, 1.0))
    compute(client, job, TEN + HOUR, hours=3)
    put(reading(1, 2.0))
    compute(client, job, TEN + 3 * HOUR, hours=3)
    assert hours("celsius_count") == [(10, 2)]


def test_other_fields_and_measurements(client, put, job, stored):
    """Text and booleans, and other measurements, are left out; integers are not."""
    put(
        reading(0, 1.0).field("state", "on").field("open", True).field("lux", 5),
        Point("garden").field("celsius", 9.0).time(TEN),
    )
    compute(client, job, TEN + HOUR, hours=1)
    names = stored("_measurement", "_field", bucket=job.target)
    both = ("celsius", "lux")
    kinds = ("count", "max", "min", "sum")
    assert names == [("room", f"{name}_{kind}") for name in both for kind in kinds]


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=30))])
def test_any_zone(client, put, job, hours, zone):
    """The time may be in any zone; the hours are those of UTC."""
    put(reading(0, 1.0))
    compute(client, job, (TEN + HOUR).astimezone(zone), hours=1)
    assert hours("celsius_count") == [(10, 1)]


def test_bad_times(client, job):
    """No hours, or a time without a zone, is a ValueError."""
    with pytest.raises(ValueError):
        compute(client, job, TEN, hours=0)
    with pytest.raises(ValueError):
        compute(client, job, TEN.replace(tzinfo=None), hours=1)
    with pytest.raises(ValueError):
        ensure_task(client, job, look_back=0)


def test_hostile_names(client, put, bucket, stored):
    """Quotes, back slashes and `${}` in a name are only a name."""
    target = f"{bucket} \\ ${{1 + 1}} %s"
    client.buckets_api().create_bucket(bucket_name=target)
    job = Hourly(bucket, target, 'a "b" c\\d ${1 + 1} %d Ü')
    put(Point(job.measurement).field("v", 1.0).time(TEN))
    compute(client, job, TEN + HOUR, hours=1)
    rows = stored("_measurement", "_field", bucket=target)
    assert rows[0] == (job.measurement, "v_count")
    task = client.tasks_api().find_task_by_id(ensure_task(client, job))
    assert task.name == job.name


def test_the_task_runs(client, put, job, hours):
    """The server runs the task as it would at noon: the last whole hours are there."""
    put(reading(0, 1.0), reading(60, 2.0), reading(119, 3.0))
    task_id = ensure_task(client, job)
    assert last_failure(client, task_id) is None
    assert run(client, task_id, TEN + 2.1 * HOUR) == "success"
    assert hours("celsius_count") == [(10, 1), (11, 2)]
    assert last_failure(client, task_id) is None
    task = client.tasks_api().find_task_by_id(task_id)
    assert (task.every, task.offset, task.status) == ("1h", "5m", "active")


def test_task_is_made_once(client, job):
    """Called again, it brings the task up to date, and makes no second one."""
    task_id = ensure_task(client, job)
    assert ensure_task(client, job, look_back=7) == task_id
    (task,) = client.tasks_api().find_tasks(name=job.name)
    assert "date.sub(d: 7h" in task.flux


def test_failure_is_found(client, put, bucket, stored):
    """A task whose target is gone fails, and says why to those who ask."""
    put(reading(0, 1.0))
    task_id = ensure_task(client, Hourly(bucket, f"{bucket}_gone", "room"))
    assert run(client, task_id, TEN + HOUR) == "failed"
    assert "could not find bucket" in last_failure(client, task_id)


# --8<-- [start:wrong]
TASK_AS_COPIED = """
option task = {name: "%(target)s", every: 1h}

from(bucket: "%(source)s")
    |> range(start: -1h)
    |> filter(fn: (r) => r._measurement == "room")
    |> aggregateWindow(every: 1h, fn: mean)
    |> to(bucket: "%(target)s")
"""
# --8<-- [end:wrong]


def make_as_copied(client, job) -> str:
    request = TaskCreateRequest(org=client.org, flux=TASK_AS_COPIED % job._asdict())
    return client.tasks_api().create_task(task_create_request=request).id


def test_often_copied_spoils_an_hour(client, put, job, hours):
    """Often copied: run by hand at 11:30, it replaces the right value of an hour by
    that of half an hour."""
    put(*(reading(minutes, float(minutes)) for minutes in range(60)))
    task_id = make_as_copied(client, job)
    run(client, task_id, TEN + HOUR)
    assert hours("celsius") == [(11, 29.5)]  # and named after the hour's end
    run(client, task_id, TEN + 1.5 * HOUR)
    assert dict(hours("celsius"))[11] == 44.5


def test_often_copied_forgets_late_data(client, put, job, hours):
    """Often copied: what comes late is never counted."""
    task_id = make_as_copied(client, job)
    put(reading(0, 1.0))
    run(client, task_id, TEN + HOUR)
    put(reading(1, 2.0))
    run(client, task_id, TEN + 2 * HOUR)
    assert hours("celsius") == [(11, 1)]


def test_often_copied_makes_two(client, job):
    """Often copied: deployed twice, there are two tasks of the same name."""
    make_as_copied(client, job)
    make_as_copied(client, job)
    assert len(client.tasks_api().find_tasks(name=job.target)) == 2
