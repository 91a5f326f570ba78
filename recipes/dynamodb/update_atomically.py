# /// script
# requires-python = ">=3.11"
# dependencies = ["boto3>=1.40", "botocore>=1.40"]
# ///
"""Update without losing updates.

Two programs that read an item, change it and write it back lose one of the changes.
Send the change instead and let DynamoDB apply it: to a set, a number, on a condition.
"""

import os
import sys
from typing import Any

import boto3
from botocore.config import Config

Client = Any  # boto3 makes its classes at run time
Table = Any


# --8<-- [start:add]
def add_tag(table: Table, course: str, tag: str) -> set[str]:
    """Add a tag, and return all of them. One that is there already changes nothing."""
    answer = table.update_item(
        Key={"course": course},
        UpdateExpression="ADD tags :tag",
        ExpressionAttributeValues={":tag": {tag}},
        ReturnValues="UPDATED_NEW",
    )
    tags: set[str] = answer["Attributes"]["tags"]
    return tags


def count_visit(table: Table, course: str) -> int:
    """Count one visit more, and return how many there are now.

    It may count twice: when an answer is lost, the client sends the request again.
    """
    answer = table.update_item(
        Key={"course": course},
        UpdateExpression="ADD visits :one",  # from nothing, it starts at zero
        ExpressionAttributeValues={":one": 1},
        ReturnValues="UPDATED_NEW",
    )
    return int(answer["Attributes"]["visits"])


# --8<-- [end:add]


# --8<-- [start:book]
def book(client: Client, course: str, seats: int, booking: str) -> None:
    """Take seats: once for each booking, as long as it is asked for within 10 minutes.

    `client` is that of a resource, which takes Python's types; `booking` has up to 36
    characters. Raises LookupError if so many seats are not left, or there is no such
    course; ValueError for less than one seat. Then none was taken.
    """
    if seats < 1:
        raise ValueError(f"{seats} seats")
    update = {
        "TableName": "course",
        "Key": {"course": course},
        "UpdateExpression": "SET seats = seats - :seats",
        "ConditionExpression": "seats >= :seats",
        "ExpressionAttributeValues": {":seats": seats},
    }
    try:
        # A transaction of one: the token makes it safe to send it again.
        client.transact_write_items(
            TransactItems=[{"Update": update}], ClientRequestToken=booking
        )
    except client.exceptions.TransactionCanceledException as error:
        (reason,) = error.response["CancellationReasons"]
        if reason["Code"] != "ConditionalCheckFailed":  # such as a conflict: ask again
            raise
        raise LookupError(f"no {seats} seats left in {course}") from error


# --8<-- [end:book]

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
        TableName="course",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "course", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "course", "KeyType": "HASH"}],
    )
    table.wait_until_exists()
    table.put_item(Item={"course": "SQL", "seats": 3})
    for tag in ("data", "evening", "data"):
        tags = add_tag(table, "SQL", tag)
    print("tags:", *sorted(tags))
    print("visits:", [count_visit(table, "SQL") for _ in range(3)])
    client = dynamodb.meta.client
    for booking, seats in (("b-1", 2), ("b-1", 2), ("b-2", 2)):
        try:
            book(client, "SQL", seats, booking)
            print(f"{booking}: booked")
        except LookupError as error:
            print(f"{booking}: {error}")
    print("seats left:", table.get_item(Key={"course": "SQL"})["Item"]["seats"])
    client.close()


if __name__ == "__main__":
    main()
