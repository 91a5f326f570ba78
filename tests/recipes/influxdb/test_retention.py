"""retention: what is too old is refused, and forgotten."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from influxdb_client import BucketRetentionRules, Point
from influxdb_client.rest import ApiException

from cookbook.engines import engine
from recipes.influxdb.retention import DAY, HOUR, ensure_bucket, find_bucket

GROUPS = {
    None: 7 * DAY,
    HOUR: HOUR,
    47 * HOUR: HOUR,
    2 * DAY: DAY,
    179 * DAY: DAY,
    180 * DAY: 7 * DAY,
    3650 * DAY: 7 * DAY,
}


def reading(age: timedelta) -> Point:
    return Point("room").field("hours", age / HOUR).time(datetime.now(UTC) - age)


@pytest.fixture
def rule(client, bucket):
    """The bucket's rule, as the server tells it: (period, group)."""

    def read() -> tuple[timedelta, timedelta]:
        (stored,) = client.buckets_api().find_bucket_by_name(bucket).retention_rules
        return (
            timedelta(seconds=stored.every_seconds),
            timedelta(seconds=stored.shard_group_duration_seconds),
        )

    return read


@pytest.mark.parametrize("before", [None, HOUR, 30 * DAY, 3650 * DAY], ids=str)
@pytest.mark.parametrize("keep", GROUPS, ids=str)
def test_any_change(client, bucket, rule, before, keep):
    """From any period to any other, shorter or longer, or for ever."""
    ensure_bucket(client, bucket, before)
    stored = ensure_bucket(client, bucket, keep)
    assert stored.every_seconds == (keep.total_seconds() if keep else 0)
    assert rule() == (keep or timedelta(0), GROUPS[keep])


@pytest.mark.parametrize("keep", GROUPS, ids=str)
def test_new_bucket(client, bucket, keep):
    """A new bucket has the period, and the same groups that the server would choose."""
    ours = ensure_bucket(client, f"{bucket}_ours", keep)
    seconds = int(keep.total_seconds()) if keep else 0
    (theirs,) = (
        client.buckets_api()
        .create_bucket(
            bucket_name=f"{bucket}_theirs",
            retention_rules=BucketRetentionRules(type="expire", every_seconds=seconds),
        )
        .retention_rules
    )
    assert ours.every_seconds == theirs.every_seconds == seconds
    group = GROUPS[keep].total_seconds()
    assert ours.shard_group_duration_seconds == group
    assert theirs.shard_group_duration_seconds == group


def test_again_changes_nothing(client, bucket, put, stored, rule):
    """Called again, the bucket and its data stay."""
    ensure_bucket(client, bucket, 30 * DAY)
    put(reading(29 * DAY))
    ensure_bucket(client, bucket, 30 * DAY)
    assert rule() == (30 * DAY, DAY)
    assert len(stored()) == 1


def test_too_old_is_refused(client, bucket, put, stored):
    """A point that is too old is refused with 422; the rest of its batch is stored."""
    ensure_bucket(client, bucket, HOUR)
    with pytest.raises(ApiException, match="outside retention policy") as caught:
        put(reading(0 * HOUR), reading(DAY))
    assert caught.value.status == 422
    assert stored() == [0]


def test_forgets(client, bucket, put, stored):
    """After the period was shortened, what is too old is gone at the server's next
    look, and the rest is there."""
    ensure_bucket(client, bucket, 30 * DAY)
    put(reading(DAY / 2), reading(3 * DAY), reading(9 * DAY))
    ensure_bucket(client, bucket, 2 * DAY)
    deadline = time.monotonic() + 20  # the servers of the cookbook look every second
    while len(stored()) > 1:
        assert time.monotonic() < deadline, "nothing was forgotten"
        threading.Event().wait(0.05)
    assert stored() == [12]


def test_for_ever(client, bucket, put, stored):
    """For ever is for ever: a point of 1970 is taken."""
    ensure_bucket(client, bucket, HOUR)
    ensure_bucket(client, bucket, None)
    put("room hours=1 1")
    assert stored() == [1]


@pytest.mark.parametrize(
    "keep",
    [
        HOUR - timedelta(seconds=1),
        timedelta(0),
        -DAY,
        HOUR + timedelta(milliseconds=1),
    ],
    ids=str,
)
def test_bad_period(client, bucket, keep):
    """Less than an hour, or a part of a second, is a ValueError; nothing is made."""
    with pytest.raises(ValueError, match="at least an hour"):
        ensure_bucket(client, f"{bucket}_new", keep)
    assert find_bucket(client, f"{bucket}_new") is None


def test_other_organizations(client, bucket):
    """A bucket of the same name in another organization is left alone."""
    api = client.organizations_api()
    other = api.create_organization(name=bucket)
    try:
        name = f"{bucket}_same"
        client.buckets_api().create_bucket(bucket_name=name, org=other.id)
        ensure_bucket(client, name, HOUR)
        assert find_bucket(client, name).org_id != other.id
        (theirs,) = client.buckets_api().find_buckets(name=name, org=bucket).buckets
        assert theirs.retention_rules[0].every_seconds == 0
    finally:
        api.delete_organization(other.id)


def test_wrong_token(influxdb, bucket, connect):
    """An error of the server reaches the caller."""
    token = engine("influxdb").variables(influxdb)["INFLUXDB_V2_TOKEN"]
    client = connect(influxdb.replace(token, "wrong"))
    with pytest.raises(ApiException, match="unauthorized"):
        ensure_bucket(client, bucket, HOUR)
    with pytest.raises(ApiException, match="unauthorized"):
        find_bucket(client, bucket)


# --8<-- [start:wrong]
def ensure_bucket_as_copied(client, name, seconds):
    buckets = client.buckets_api()
    if not buckets.find_bucket_by_name(name):
        rule = BucketRetentionRules(type="expire", every_seconds=seconds)
        buckets.create_bucket(bucket_name=name, retention_rules=rule)


# --8<-- [end:wrong]


def test_often_copied_keeps_the_old_period(client, bucket, rule):
    """Often copied: a bucket that is there keeps its old period, without a word."""
    ensure_bucket_as_copied(client, bucket, 86_400)
    assert rule() == (timedelta(0), 7 * DAY)


def test_often_copied_empty_list(client, bucket, rule):
    """Often copied: an empty list of rules does not mean for ever: nothing changes."""
    ensure_bucket(client, bucket, HOUR)
    found = client.buckets_api().find_bucket_by_name(bucket)
    found.retention_rules = []
    client.buckets_api().update_bucket(found)
    assert rule() == (HOUR, HOUR)


def test_often_copied_without_group(client, bucket):
    """Often copied: a period that is shorter than the bucket's groups is refused."""
    found = client.buckets_api().find_bucket_by_name(bucket)
    found.retention_rules = [BucketRetentionRules(type="expire", every_seconds=86_400)]
    with pytest.raises(ApiException, match="shard-group duration must also"):
        client.buckets_api().update_bucket(found)


def test_often_copied_no_rule(client, bucket, put, stored):
    """Often copied: a bucket without a rule keeps everything, for ever."""
    name = f"{bucket}_plain"
    client.buckets_api().create_bucket(bucket_name=name)
    put("room hours=1 1", bucket=name)
    assert stored(bucket=name) == [1]


def test_often_copied_too_short(client, bucket):
    """Often copied: half an hour is answered with 500, as if the server were broken."""
    with pytest.raises(ApiException) as caught:
        ensure_bucket_as_copied(client, f"{bucket}_short", 1_800)
    assert caught.value.status == 500
