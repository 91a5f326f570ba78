# /// script
# requires-python = ">=3.11"
# dependencies = ["boto3>=1.40", "botocore>=1.40"]
# ///
"""Query an index.

A table answers questions about its own key. A global secondary index answers another
question, here: which deliveries are still to be made from a depot, the first one first?
"""

import os
import sys
from collections.abc import Iterator
from datetime import date
from typing import Any

import boto3
from boto3.dynamodb.conditions import Key
from botocore.config import Config

Table = Any  # boto3 makes its classes at run time

# --8<-- [start:index]
DELIVERY: Any = {
    "TableName": "delivery",
    "BillingMode": "PAY_PER_REQUEST",
    "AttributeDefinitions": [
        {"AttributeName": "number", "AttributeType": "S"},
        {"AttributeName": "depot", "AttributeType": "S"},
        {"AttributeName": "due", "AttributeType": "S"},
    ],
    "KeySchema": [{"AttributeName": "number", "KeyType": "HASH"}],
    "GlobalSecondaryIndexes": [
        {
            # An item is in it as long as it has both attributes.
            "IndexName": "open",
            "KeySchema": [
                {"AttributeName": "depot", "KeyType": "HASH"},
                {"AttributeName": "due", "KeyType": "RANGE"},
            ],
            "Projection": {
                "ProjectionType": "INCLUDE",
                "NonKeyAttributes": ["address"],
            },
        }
    ],
}
# --8<-- [end:index]


# --8<-- [start:query]
def still_open(table: Table, depot: str, until: date) -> Iterator[dict[str, Any]]:
    """The depot's open deliveries that are due by that day, the first one first.

    Each has the keys of table and index and the address, from all pages of the answer.
    """
    query = {
        "IndexName": "open",
        "KeyConditionExpression": Key("depot").eq(depot)
        & Key("due").lte(until.isoformat()),
    }
    while True:
        answer = table.query(**query)
        yield from answer["Items"]
        if "LastEvaluatedKey" not in answer:
            return
        query["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


def deliver(table: Table, number: str, day: date) -> bool:
    """Close a delivery; return False if it is not open. Without `due` it leaves the
    index."""
    try:
        table.update_item(
            Key={"number": number},
            UpdateExpression="SET delivered = :day REMOVE due",
            ConditionExpression="attribute_exists(due)",
            ExpressionAttributeValues={":day": day.isoformat()},
        )
    except table.meta.client.exceptions.ConditionalCheckFailedException:
        return False
    return True


# --8<-- [end:query]

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
    table = dynamodb.create_table(**DELIVERY)
    table.wait_until_exists()
    for number, due in (("1", "2026-05-03"), ("2", "2026-05-01"), ("3", "2026-06-01")):
        table.put_item(
            Item={
                "number": number,
                "depot": "Berlin",
                "due": due,
                "address": f"Example Road {number}",
                "weight": 7,
            }
        )
    may = date(2026, 5, 31)
    for delivery in still_open(table, "Berlin", may):
        print(*(delivery[name] for name in ("due", "number", "address")))
    print("delivered:", deliver(table, "2", date(2026, 5, 1)))
    print("still open:", [one["number"] for one in still_open(table, "Berlin", may)])
    dynamodb.meta.client.close()


if __name__ == "__main__":
    main()
