"""write_batches: the last batch arrives, and no loss stays secret."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from influxdb_client import InfluxDBClient, Point, WritePrecision
from influxdb_client.client.write_api import WriteOptions
from influxdb_client.rest import ApiException
from influxdb_client_3 import InfluxDB3ClientQueryError, InfluxDBError
from influxdb_client_3 import Point as Point3
from urllib3.exceptions import HTTPError

from cookbook.engines import engine
from recipes.influxdb import (
    write_batches_chunks,
    write_batches_influxdb3,
)
from recipes.influxdb.write_batches import LostPointsError, batch_writer


def reading(number: int, value: object = 20.5) -> Point:
    return Point("room").field("celsius", value).time(number)


def options(**changes) -> WriteOptions:
    """A batch is sent when it is full or at the end: never because time went by."""
    defaults = {"flush_interval": 4_000, "max_retries": 0, "max_close_wait": 10_000}
    return WriteOptions(**defaults | changes)


def write_each(client, bucket, points, **changes) -> None:
    with batch_writer(client, bucket, options(**changes)) as write:
        for point in points:
            write(point)


def test_last_batch_arrives(client, bucket, stored):
    """The end of the block sends the last batch, full or not, and waits for it."""
    points = (reading(number, float(number)) for number in range(250))
    write_each(client, bucket, points, batch_size=100)
    assert stored() == list(range(250))


def test_many_threads(client, bucket, stored):
    """Eight threads write through one writer: every point arrives."""
    with (
        batch_writer(client, bucket, options(batch_size=7)) as write,
        ThreadPoolExecutor(8) as threads,
    ):
        list(threads.map(write, map(reading, range(400))))
    assert len(stored()) == 400


def test_points_of_several_precisions(client, bucket, stored):
    """Points keep their precision, mixed as they may be."""
    precisions = (WritePrecision.S, WritePrecision.MS, WritePrecision.NS)
    points = (Point("room").field("celsius", 1.0).time(5, p) for p in precisions)
    write_each(client, bucket, points)
    times = [moment.timestamp() for (moment, _) in stored("_time", "_value")]
    assert times == [0, 0.005, 5]


def test_batch_in_the_background(client, bucket, stored):
    """A full batch is written at once, while the block goes on."""
    with batch_writer(client, bucket, options(batch_size=10)) as write:
        for number in range(10):
            write(reading(number))
        wait_for(lambda: len(stored()) == 10)


def wait_for(condition) -> None:
    for _ in range(500):
        if condition():
            return
        threading.Event().wait(0.01)
    pytest.fail("it never came")


def test_refused_batch_reaches_the_caller(client, bucket, stored):
    """A batch that the server refuses is an error at the end, with its lines."""
    with pytest.raises(LostPointsError, match="field type conflict") as caught:
        write_each(client, bucket, [reading(1), reading(2, "warm")])
    ((lines, error),) = caught.value.batches
    assert lines.splitlines() == [b"room celsius=20.5 1", b'room celsius="warm" 2']
    assert error.status == 422
    assert stored() == [20.5]


def test_fails_early(client, stored):
    """After a lost batch the next point is refused, with the error of the batch."""

    def points():
        for number in range(1_000):
            yield reading(number)
            threading.Event().wait(0.01)

    with pytest.raises(LostPointsError, match="not found") as caught:
        write_each(client, "nowhere", points(), batch_size=1)
    assert len(caught.value.batches) < 500


def test_error_of_the_block(client, bucket, stored):
    """An error in the block reaches the caller, and what was taken is written."""
    points = (reading(1 // (2 - number)) for number in (1, 2))
    with pytest.raises(ZeroDivisionError):
        write_each(client, bucket, points)
    assert stored() == [20.5]


def test_not_sent_in_time(influxdb, bucket, fault_proxy, connect):
    """A server that is silent until the time is up is an error, not a log line."""
    proxy = fault_proxy(influxdb)
    proxy.black_hole()
    client = connect(proxy.url, timeout=5_000)
    with pytest.raises(LostPointsError, match="20 bytes not sent"):
        write_each(client, bucket, [reading(1)], max_close_wait=200)


def test_queue_has_no_end(influxdb, bucket, fault_proxy, connect):
    """While the server is silent, the background writer takes points without an end."""
    proxy = fault_proxy(influxdb)
    proxy.black_hole()
    client = connect(proxy.url, timeout=5_000)
    changes = {"batch_size": 10, "max_close_wait": 200}
    with pytest.raises(LostPointsError, match="bytes not sent") as caught:
        write_each(client, bucket, map(reading, range(2_000)), **changes)
    assert caught.value.batches == []


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_point_without_a_field(client, bucket, stored, value):
    """A point whose only value is None, NaN or infinite is a ValueError."""
    with batch_writer(client, bucket) as write, pytest.raises(ValueError):
        write(reading(1, value))
    with pytest.raises(ValueError):
        write_batches_chunks.write_all(client, bucket, [reading(1), reading(2, value)])
    assert stored() == []


@pytest.mark.parametrize("size", [1, 3, 10, 100])
def test_chunks(client, bucket, stored, size):
    """In chunks: all points arrive, whatever their number and the size."""
    points = map(reading, range(10))
    assert write_batches_chunks.write_all(client, bucket, points, size) == 10
    assert len(stored()) == 10


def test_chunks_stop_at_the_first_error(client, bucket, stored):
    """In chunks: the first refused chunk ends the load; those before are stored."""
    taken = []

    def points():
        for number in range(20):
            taken.append(number)
            yield reading(number, "warm" if number == 5 else 20.5)

    with pytest.raises(ApiException, match="field type conflict"):
        write_batches_chunks.write_all(client, bucket, points(), size=5)
    assert len(taken) == 10
    assert len(stored()) == 9


def test_chunks_line_lost(influxdb, bucket, fault_proxy, connect, stored):
    """In chunks: a lost line reaches the caller."""
    proxy = fault_proxy(influxdb)
    proxy.cut_before(b"/api/v2/write")
    with pytest.raises(HTTPError):
        write_batches_chunks.write_all(connect(proxy.url), bucket, [reading(1)])
    assert stored() == []


@pytest.fixture
def client3(influxdb):
    given = engine("influxdb").variables(influxdb).values()
    with write_batches_influxdb3.connect(*given) as client:
        yield client


def test_influxdb3(client3, stored):
    """influxdb3-python writes to InfluxDB 2: all points arrive."""
    points = (Point3("room").field("celsius", 20.5).time(n) for n in range(10))
    assert write_batches_influxdb3.write_all(client3, points, size=3) == 10
    assert len(stored()) == 10


def test_influxdb3_errors(client3, stored):
    """influxdb3-python: a refused chunk, or a point without a field, is an error."""
    bad = [Point3("room").field("celsius", v).time(n) for n, v in enumerate([1.0, "x"])]
    with pytest.raises(InfluxDBError, match="field type conflict"):
        write_batches_influxdb3.write_all(client3, bad)
    with pytest.raises(ValueError):
        write_batches_influxdb3.write_all(
            client3, [bad[0], Point3("room").field("celsius", None).time(2)]
        )
    assert stored() == [1]


def test_influxdb3_cannot_query(client3):
    """influxdb3-python cannot query InfluxDB 2."""
    with pytest.raises(InfluxDB3ClientQueryError):
        client3.query("SELECT 1")


# --8<-- [start:wrong]
def write_as_copied(client, bucket, points):
    write_api = client.write_api()
    for point in points:
        write_api.write(bucket=bucket, record=point)
    write_api.flush()


# --8<-- [end:wrong]


class Patient(InfluxDBClient):
    """A batch is sent when it is full: the test does not race with the clock."""

    def write_api(self):
        self.writer = super().write_api(options())
        return self.writer


def test_often_copied_flushes_nothing(influxdb, bucket, stored):
    """Often copied: after flush() not one of the points is there."""
    url, token, org, _ = engine("influxdb").variables(influxdb).values()
    with Patient(url, token, org=org) as client:
        write_as_copied(client, bucket, map(reading, range(10)))
        assert stored() == []
        client.writer.close()
        assert len(stored()) == 10


SCRIPT = """
import sys
from influxdb_client import InfluxDBClient, Point
url, token, org, bucket = sys.argv[1:]
client = InfluxDBClient(url, token, org=org)
writer = client.write_api()
writer.write(bucket, record=Point("room").field("celsius", 20.5))
"""


def test_often_copied_script_loses_the_last_batch(influxdb, stored):
    """Often copied: a script that ends without close() loses its last batch, and ends
    with exit code 0."""
    given = engine("influxdb").variables(influxdb).values()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *given], capture_output=True, timeout=60
    )
    assert done.returncode == 0
    assert stored() == []


def test_often_copied_hides_the_refusal(client, caplog, stored):
    """Often copied: without a callback, a refused batch is only a line in the log."""
    with client.write_api() as writer:
        writer.write("nowhere", record=reading(1))
    assert 'bucket \\"nowhere\\" not found' in caplog.text
    assert stored() == []


def test_often_copied_drops_the_point(client, bucket, stored):
    """Often copied: a point whose only value is None is dropped without a word."""
    with client.write_api() as writer:
        writer.write(bucket, record=reading(1, None))
    assert stored() == []
