"""time_to_live: expired is expired, whether or not DynamoDB has deleted it yet."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from botocore.exceptions import ClientError

from recipes.dynamodb.time_to_live import (
    let_expire,
    prolong,
    seconds,
    start,
    user_of,
)

NOW = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def table(resource):
    return resource.create_table(
        TableName="session",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "session", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "session", "KeyType": "HASH"}],
    )


@pytest.fixture
def client(table):
    return table.meta.client


def test_switched_on(client):
    """Expiry is on, for that attribute; the second call finds it on."""
    assert let_expire(client, "session")
    found = client.describe_time_to_live(TableName="session")["TimeToLiveDescription"]
    assert found["TimeToLiveStatus"] in ("ENABLED", "ENABLING")
    assert found["AttributeName"] == "expires"
    assert not let_expire(client, "session")


def test_on_for_another_attribute(client):
    """Expiry by another attribute is an error, not a silent difference."""
    let_expire(client, "session", "ends")
    with pytest.raises(ValueError, match="session expires by ends"):
        let_expire(client, "session")


def test_while_it_lasts(table):
    """A session is there up to the second before its end."""
    start(table, "s-1", "anna", NOW + HOUR)
    assert user_of(table, "s-1", NOW) == "anna"
    assert user_of(table, "s-1", NOW + HOUR - SECOND) == "anna"


def test_ended_and_not_deleted(table):
    """A session has ended at that second, though its item is still in the table."""
    start(table, "s-1", "anna", NOW + HOUR)
    assert user_of(table, "s-1", NOW + HOUR) is None
    assert table.scan()["Count"] == 1


def test_deleted(table):
    """A session that has been deleted has ended."""
    assert user_of(table, "s-1", NOW) is None


def test_stored_as_seconds(table):
    """The end is a number of whole seconds: what DynamoDB wants, and nothing else."""
    start(table, "s-1", "anna", NOW.replace(microsecond=999_999))
    (item,) = table.scan()["Items"]
    assert item["expires"] == 1_777_627_800


def test_another_zone():
    """A moment in another time zone is the same second."""
    berlin = timezone(timedelta(hours=2))
    assert seconds(NOW.astimezone(berlin)) == seconds(NOW) == 1_777_627_800


def test_no_zone(table):
    """A datetime without a time zone is refused: it would be off by hours."""
    with pytest.raises(ValueError, match="no time zone"):
        start(table, "s-1", "anna", NOW.replace(tzinfo=None))
    assert table.scan()["Count"] == 0


def test_prolong(table):
    """A session can be prolonged while it lasts."""
    start(table, "s-1", "anna", NOW + HOUR)
    assert prolong(table, "s-1", NOW, NOW + 3 * HOUR)
    assert user_of(table, "s-1", NOW + 2 * HOUR) == "anna"


@pytest.mark.parametrize("session", ["s-1", "unknown"])
def test_prolong_too_late(table, session):
    """A session that has ended, or never was, is not brought back."""
    start(table, "s-1", "anna", NOW + HOUR)
    assert not prolong(table, session, NOW + HOUR, NOW + 3 * HOUR)
    (item,) = table.scan()["Items"]
    assert item["expires"] == seconds(NOW + HOUR)


def test_no_session_is_taken_over(table):
    """The name of a session that is there cannot be used for another one."""
    start(table, "s-1", "anna", NOW + HOUR)
    with pytest.raises(ClientError, match="ConditionalCheckFailed"):
        start(table, "s-1", "ben", NOW + HOUR)
    assert user_of(table, "s-1", NOW) == "anna"


# --8<-- [start:wrong]
def start_as_copied(table, session, user, expires):
    milliseconds = int(expires.timestamp() * 1000)
    item = {"session": session, "user": user, "expires": milliseconds}
    table.put_item(Item=item)


def user_of_as_copied(table, session):
    item = table.get_item(Key={"session": session}).get("Item")
    return item["user"] if item else None


# --8<-- [end:wrong]


def test_often_copied_milliseconds(table):
    """Often copied: milliseconds are seconds to DynamoDB: it ends in the year 58300."""
    start_as_copied(table, "s-1", "anna", NOW)
    (item,) = table.scan()["Items"]
    year = 1970 + int(item["expires"]) / (365.2425 * 24 * 3600)
    assert int(year) == 58300


def test_often_copied_trusts_the_deletion(client, table):
    """Often copied: the session ended a minute ago, and still lets its user in."""
    let_expire(client, "session")
    start(table, "s-1", "anna", datetime.now(UTC) - timedelta(minutes=1))
    assert user_of_as_copied(table, "s-1") == "anna"
    assert user_of(table, "s-1", datetime.now(UTC)) is None
