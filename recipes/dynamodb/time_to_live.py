# /// script
# requires-python = ">=3.11"
# dependencies = ["boto3>=1.40", "botocore>=1.40"]
# ///
"""Let items expire.

DynamoDB deletes an item some time after the second that one of its attributes holds.
Some time may be days, so whoever reads has to look at that second as well.
"""

import os
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from botocore.config import Config

Client = Any  # boto3 makes its classes at run time
Table = Any


# --8<-- [start:enable]
def let_expire(client: Client, table: str, attribute: str = "expires") -> bool:
    """Switch expiry on, and return True; return False if it was on.

    Raises ValueError if it is on for another attribute.
    """
    asked = client.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    if asked["TimeToLiveStatus"] in ("ENABLED", "ENABLING"):
        if asked["AttributeName"] != attribute:
            raise ValueError(f"{table} expires by {asked['AttributeName']}")
        return False
    client.update_time_to_live(
        TableName=table,
        TimeToLiveSpecification={"Enabled": True, "AttributeName": attribute},
    )
    return True


# --8<-- [end:enable]


# --8<-- [start:session]
def seconds(moment: datetime) -> int:
    """Whole seconds since 1970. Raises ValueError for a moment without a zone."""
    if moment.utcoffset() is None:
        raise ValueError(f"{moment} has no time zone")
    return int(moment.timestamp())


def start(table: Table, session: str, user: str, expires: datetime) -> None:
    """Store a session that ends at that moment."""
    item = {"session": session, "user": user, "expires": seconds(expires)}
    table.put_item(
        Item=item,
        ConditionExpression="attribute_not_exists(#s)",
        ExpressionAttributeNames={"#s": "session"},
    )


def user_of(table: Table, session: str, now: datetime) -> str | None:
    """Whose session it is; None if it has ended, deleted already or not."""
    item = table.get_item(Key={"session": session}, ConsistentRead=True).get("Item")
    if item is None or item["expires"] <= seconds(now):
        return None
    return str(item["user"])


def prolong(table: Table, session: str, now: datetime, expires: datetime) -> bool:
    """Let the session end later; False if it has ended: it is not brought back."""
    try:
        table.update_item(
            Key={"session": session},
            UpdateExpression="SET expires = :expires",
            ConditionExpression="expires > :now",
            ExpressionAttributeValues={
                ":expires": seconds(expires),
                ":now": seconds(now),
            },
        )
    except table.meta.client.exceptions.ConditionalCheckFailedException:
        return False
    return True


# --8<-- [end:session]

NO_SERVER = (
    "Set AWS_ENDPOINT_URL, for example http://127.0.0.1:18000, with AWS_ACCESS_KEY_ID,"
    " AWS_SECRET_ACCESS_KEY and AWS_DEFAULT_REGION"
    " after `docker compose up -d --wait dynamodb`"
)
CONFIG = Config(
    connect_timeout=2,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": 3},
)


def main() -> None:
    os.environ.get("AWS_ENDPOINT_URL") or sys.exit(NO_SERVER)
    dynamodb = boto3.resource("dynamodb", config=CONFIG)
    table = dynamodb.create_table(
        TableName="session",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "session", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "session", "KeyType": "HASH"}],
    )
    table.wait_until_exists()
    client = dynamodb.meta.client
    print("switched on:", let_expire(client, "session"))
    now, hour = datetime.now(UTC), timedelta(hours=1)
    start(table, "s-1", "anna", now + hour)
    for hours in (0, 1, 2):
        print(f"after {hours} h:", user_of(table, "s-1", now + hours * hour))
    print("prolonged in time:", prolong(table, "s-1", now, now + 3 * hour))
    print("prolonged too late:", prolong(table, "s-1", now + 3 * hour, now + 9 * hour))
    client.close()


if __name__ == "__main__":
    main()
