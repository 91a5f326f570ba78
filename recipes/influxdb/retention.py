# /// script
# requires-python = ">=3.11"
# dependencies = ["influxdb-client>=1.50"]
# ///
"""Keep data for so long, and no longer.

A bucket forgets what is older than its retention period, in pieces: the shard groups.
Say both in one place, for a new bucket and for one that is there.
"""

import os
import sys
from datetime import UTC, datetime, timedelta

from influxdb_client import Bucket, BucketRetentionRules, InfluxDBClient, Point
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

NO_SERVER = (
    "Set INFLUXDB_V2_URL, INFLUXDB_V2_TOKEN, INFLUXDB_V2_ORG and INFLUXDB_V2_BUCKET,"
    " for example to what .env.example says"
    " after `docker compose up -d --wait influxdb`"
)

# --8<-- [start:bucket]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def retention_rule(keep: timedelta | None) -> BucketRetentionRules:
    """The rule for data that are kept so long; None means for ever.

    Raises ValueError for less than an hour, and for parts of a second.
    """
    if keep is not None and (keep < HOUR or keep.microseconds):
        raise ValueError(f"at least an hour, in whole seconds: {keep}")
    # A group goes when all of it is too old. These are the server's own sizes, which
    # it chooses for a new bucket, but not for one whose period changes.
    if keep is None or keep >= 180 * DAY:
        group = 7 * DAY
    else:
        group = DAY if keep >= 2 * DAY else HOUR
    return BucketRetentionRules(
        type="expire",
        every_seconds=int(keep.total_seconds()) if keep else 0,
        shard_group_duration_seconds=int(group.total_seconds()),
    )


def find_bucket(client: InfluxDBClient, name: str) -> Bucket | None:
    """The bucket of that name in the client's organization."""
    try:
        found = client.buckets_api().find_buckets(name=name, org=client.org)
    except ApiException as error:
        if error.status != 404:
            raise
        return None
    return found.buckets[0] if found.buckets else None


def ensure_bucket(
    client: InfluxDBClient, name: str, keep: timedelta | None
) -> BucketRetentionRules:
    """Create the bucket, or change how long it keeps data; return its rule.

    Shortening the period deletes data, for good. Raises ValueError, ApiException.
    """
    rule, buckets = retention_rule(keep), client.buckets_api()
    bucket = find_bucket(client, name)
    if bucket is None:
        bucket = buckets.create_bucket(bucket_name=name, retention_rules=rule)
    else:
        bucket.retention_rules = [rule]  # an empty list would change nothing
        bucket = buckets.update_bucket(bucket)
    stored: BucketRetentionRules = bucket.retention_rules[0]
    return stored


# --8<-- [end:bucket]


def main() -> None:
    url, token, org, bucket = (
        os.environ.get(f"INFLUXDB_V2_{name}") or sys.exit(NO_SERVER)
        for name in ("URL", "TOKEN", "ORG", "BUCKET")
    )
    with InfluxDBClient(url, token, org=org, timeout=5_000) as client:
        name = f"{bucket}_raw"
        for keep in (30 * DAY, 12 * HOUR, None):
            rule = ensure_bucket(client, name, keep)
            groups = timedelta(seconds=rule.shard_group_duration_seconds)
            print(f"keep {keep}: {rule.every_seconds} s, in groups of {groups}")
        ensure_bucket(client, name, keep=HOUR)
        old = Point("room").field("celsius", 20.5).time(datetime.now(UTC) - DAY)
        try:
            client.write_api(SYNCHRONOUS).write(name, record=old)
        except ApiException as error:
            print("a point of yesterday:", error.status, error.reason)


if __name__ == "__main__":
    main()
