"""handle_write_errors: what can be stored is, once; what cannot comes back."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from influxdb_client import BucketRetentionRules, InfluxDBClient, Point
from influxdb_client.client.write.retry import WritesRetry
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError, MaxRetryError

from cookbook.engines import engine
from recipes.influxdb.handle_write_errors import connect as connect_for_writes
from recipes.influxdb.handle_write_errors import write


def reading(number: int, value: object = 20.5) -> Point:
    return Point("room").field("celsius", value).time(number)


@pytest.fixture
def writer():
    """Make the recipe's client for an address; closed after the test."""
    clients = []

    def make(address: str, **options) -> InfluxDBClient:
        url, token, org, _ = engine("influxdb").variables(address).values()
        clients.append(connect_for_writes(url, token, org, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def test_all_good(influxdb, writer, bucket, stored):
    """All points are stored, none comes back; none at all is fine too."""
    client = writer(influxdb)
    assert write(client, bucket, [reading(n, float(n)) for n in range(10)]) == []
    assert write(client, bucket, []) == []
    assert stored() == list(range(10))


@pytest.mark.parametrize(
    "bad", [{1}, {9}, {1, 2}, {4, 5, 9}, set(range(1, 10))], ids=str
)
def test_points_of_another_type(influxdb, writer, bucket, stored, bad):
    """Points of another type come back with the reason; all others are stored."""
    points = [reading(n, "warm" if n in bad else float(n)) for n in range(10)]
    refused = write(writer(influxdb), bucket, points)
    assert [point for point, _ in refused] == [points[n] for n in sorted(bad)]
    assert all("field type conflict" in reason for _, reason in refused)
    assert stored() == [n for n in range(10) if n not in bad]


def test_malformed_point(influxdb, writer, bucket, stored):
    """For one malformed point the server refuses all: only that one comes back."""
    points = [reading(n, float(n)) for n in range(4)]
    points[2].tag("time", "noon")  # a reserved name
    ((point, reason),) = write(writer(influxdb), bucket, points)
    assert point is points[2]
    assert "reserved tag key" in reason
    assert stored() == [0, 1, 3]


def test_too_old(influxdb, client, writer, bucket, stored):
    """Points that the bucket's retention does not take come back."""
    buckets = client.buckets_api()
    name = f"{bucket}_short"
    rule = BucketRetentionRules(type="expire", every_seconds=3_600)
    buckets.create_bucket(bucket_name=name, retention_rules=rule)
    now = datetime.now(UTC)
    times = [now, now - timedelta(days=2), now - timedelta(days=3)]
    points = [Point("room").field("celsius", 20.5).time(time) for time in times]
    refused = write(writer(influxdb), name, points)
    assert [point for point, _ in refused] == points[1:]
    assert stored(bucket=name) == [20.5]


def test_few_requests(gateway, writer, bucket, stored):
    """One bad point of a thousand is found with 21 requests."""
    points = [reading(n, "warm" if n == 700 else 20.5) for n in range(1_000)]
    assert len(write(writer(gateway.url), bucket, points)) == 1
    assert gateway.writes <= 21
    assert len(stored()) == 999


def test_point_without_a_field(influxdb, writer, bucket, stored):
    """A point without a field is a ValueError, and nothing is written."""
    with pytest.raises(ValueError, match="without a field"):
        write(writer(influxdb), bucket, [reading(1), reading(2, None)])
    assert stored() == []


def test_waits_as_long_as_it_is_told(gateway, writer, bucket, stored):
    """A gateway answers 503 with Retry-After: the write waits, and is stored."""
    gateway.answers = [(503, {"Retry-After": "1"})]
    started = time.monotonic()
    assert write(writer(gateway.url), bucket, [reading(1)]) == []
    assert time.monotonic() - started >= 1
    assert gateway.writes == 2
    assert stored() == [20.5]


def test_waits_no_longer_than_a_minute(influxdb, writer):
    """Of a Retry-After of a day, it waits a minute."""
    assert writer(influxdb).retries.parse_retry_after("86400") == 60


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_busy(gateway, writer, bucket, stored, status):
    """A gateway answers 429 or 5xx, without a Retry-After: it is tried again."""
    gateway.answers = [(status, {})]
    assert write(writer(gateway.url), bucket, [reading(1)]) == []
    assert stored() == [20.5]


def test_gives_up(gateway, writer, bucket, stored):
    """After the last try, the gateway's answer reaches the caller."""
    gateway.answers = [(503, {})] * 9
    with pytest.raises(ApiException) as caught:
        write(writer(gateway.url, tries=2), bucket, [reading(1)])
    assert caught.value.status == 503
    assert gateway.writes == 2
    assert stored() == []


@pytest.mark.parametrize("cut", ["cut_before", "cut_answer_to"])
def test_line_lost(influxdb, writer, bucket, stored, fault_proxy, cut):
    """The request or its answer is lost: the points are written again, stored once."""
    proxy = fault_proxy(influxdb)
    getattr(proxy, cut)(b"/api/v2/write")
    assert write(writer(proxy.url), bucket, [reading(1), reading(2)]) == []
    assert proxy.was_cut.is_set()
    assert len(stored()) == 2


def test_server_gone(influxdb, writer, bucket, fault_proxy):
    """A server that is not there is an error after the last try."""
    proxy = fault_proxy(influxdb)
    proxy.refuse()
    with pytest.raises(MaxRetryError):
        write(writer(proxy.url, tries=2), bucket, [reading(1)])
    assert proxy.connections == 2


def test_unknown_bucket(gateway, writer):
    """A bucket that is not there is an error at once: one request."""
    with pytest.raises(ApiException, match="not found") as caught:
        write(writer(gateway.url), "nowhere", [reading(1), reading(2)])
    assert caught.value.status == 404
    assert gateway.writes == 1


def with_token(address: str, token: str) -> str:
    ours = engine("influxdb").variables(address)["INFLUXDB_V2_TOKEN"]
    return address.replace(f":{ours}@", f":{token}@")


def test_wrong_token(gateway, writer, bucket):
    """A wrong token is an error at once: one request."""
    with pytest.raises(ApiException, match="unauthorized") as caught:
        write(writer(with_token(gateway.url, "wrong")), bucket, [reading(1)])
    assert caught.value.status == 401
    assert gateway.writes == 1


# --8<-- [start:wrong]
def write_as_copied(client, bucket, points):
    with client.write_api() as write_api:
        write_api.write(bucket=bucket, record=points)


# --8<-- [end:wrong]


# --8<-- [start:wrong_retries]
RETRIES = WritesRetry(total=3, retry_interval=1, exponential_base=2)
# client = InfluxDBClient(url, token, org=org, retries=RETRIES)
# --8<-- [end:wrong_retries]


def test_often_copied_wrong_token(influxdb, connect, bucket, stored):
    """Often copied: with a wrong token, all points are lost without an exception."""
    client = connect(with_token(influxdb, "wrong"))
    write_as_copied(client, bucket, [reading(1), reading(2)])
    assert stored() == []


def test_often_copied_unknown_bucket(client, stored):
    """Often copied: with a bucket that is not there, too."""
    write_as_copied(client, "nowhere", [reading(1), reading(2)])
    assert stored() == []


def test_often_copied_partial_write(client, bucket, stored):
    """Often copied: of a batch with a point of another type, that one is lost without
    an exception."""
    write_as_copied(client, bucket, [reading(1), reading(2, "warm"), reading(3)])
    assert stored() == [20.5, 20.5]


def test_often_copied_malformed_point(client, bucket, stored):
    """Often copied: one malformed point, and its whole batch is lost without an
    exception."""
    bad = reading(2).tag("time", "noon")
    write_as_copied(client, bucket, [reading(1), bad, reading(3)])
    assert stored() == []


def test_often_copied_no_retry(gateway, connect, bucket):
    """Often copied: SYNCHRONOUS alone tries nothing again."""
    gateway.answers = [(503, {"Retry-After": "1"})]
    api = connect(gateway.url).write_api(write_options=SYNCHRONOUS)
    with pytest.raises(ApiException):
        api.write(bucket, record=reading(1))
    assert gateway.writes == 1


def test_often_copied_retries_nothing(gateway, connect, bucket):
    """Often copied: with `WritesRetry(total=3)` a write is not tried again after 503:
    POST is not among the methods that it retries."""
    api = connect(gateway.url, retries=RETRIES).write_api(write_options=SYNCHRONOUS)
    gateway.answers = [(503, {})]
    with pytest.raises(ApiException):
        api.write(bucket, record=reading(1))
    assert gateway.writes == 1


def test_often_copied_retries_end_with_time(gateway, connect, bucket):
    """Often copied: with POST allowed, the time of `WritesRetry` runs from its making:
    when it is over, 180 seconds by default, the client tries nothing again, ever."""
    retries = WritesRetry(
        total=3, retry_interval=0, max_retry_time=0.5, allowed_methods=["POST"]
    )
    client = connect(gateway.url, retries=retries)
    api = client.write_api(write_options=SYNCHRONOUS)
    gateway.answers = [(503, {})]
    api.write(bucket, record=reading(1))
    assert gateway.writes == 2
    threading.Event().wait(0.5)
    gateway.answers = [(503, {})]
    with pytest.raises(HTTPError):
        api.write(bucket, record=reading(2))
    assert gateway.writes == 3


def test_often_copied_point_without_time(influxdb, writer, bucket, stored, fault_proxy):
    """Often copied: a point without a time is stored twice when an answer is lost."""
    proxy = fault_proxy(influxdb)
    proxy.cut_answer_to(b"/api/v2/write")
    write(writer(proxy.url), bucket, [Point("room").field("celsius", 20.5)])
    assert stored() == [20.5, 20.5]


def test_often_copied_other_type_next_week(client, bucket, put, stored):
    """Often copied: the type of a field is checked within a week only. An integer of
    the next week is taken, and a query over both weeks does not show it."""
    week = 7 * 86_400 * 10**9
    put(reading(0, 20.5))
    put(reading(week, 20))
    assert stored() == [20.5]
