# /// script
# requires-python = ">=3.11"
# dependencies = ["boto3>=1.40", "botocore>=1.40"]
# [tool.cookbook]
# needs = ["dynamodb_local"]
# ///
"""See what a read costs.

A scan reads the table and pays for all of it, whatever its filter lets through. Measure
a read before it goes to production, and slow down the one that must read everything.
"""

import os
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import boto3
from boto3.dynamodb.conditions import Attr, Key
from botocore.config import Config

Table = Any  # boto3 makes its classes at run time


# --8<-- [start:cost]
class Cost(NamedTuple):
    found: int  # items that you get
    read: int  # items that you pay for
    units: float  # one for each 8 KB, or each 4 KB if the read is consistent


def cost(table: Table, kind: str, **read: Any) -> Cost:
    """What a `query` or a `scan` costs, all of its pages together."""
    found, scanned, units = 0, 0, 0.0
    while True:
        answer = getattr(table, kind)(**read, ReturnConsumedCapacity="TOTAL")
        found += answer["Count"]
        scanned += answer["ScannedCount"]
        units += answer["ConsumedCapacity"]["CapacityUnits"]
        if "LastEvaluatedKey" not in answer:
            return Cost(found, scanned, units)
        read["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


# --8<-- [end:cost]


# --8<-- [start:gently]
def scan_gently(
    table: Table, units_per_second: float, page: int = 100, **scan: Any
) -> Iterator[dict[str, Any]]:
    """All items, `page` at a time, and no more units a second than that on average."""
    started, units = time.monotonic(), 0.0
    while True:
        answer = table.scan(**scan, Limit=page, ReturnConsumedCapacity="TOTAL")
        yield from answer["Items"]
        if "LastEvaluatedKey" not in answer:
            return
        scan["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
        units += answer["ConsumedCapacity"]["CapacityUnits"]
        ahead = units / units_per_second - (time.monotonic() - started)
        time.sleep(max(0, ahead))


# --8<-- [end:gently]

NO_SERVER = (
    "Set AWS_ENDPOINT_URL, for example http://127.0.0.1:18000, with AWS_ACCESS_KEY_ID,"
    " AWS_SECRET_ACCESS_KEY and AWS_DEFAULT_REGION"
    " after `docker compose up -d --wait dynamodb_local`"
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
        TableName="visit",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": "page", "AttributeType": "S"},
            {"AttributeName": "number", "AttributeType": "N"},
        ],
        KeySchema=[
            {"AttributeName": "page", "KeyType": "HASH"},
            {"AttributeName": "number", "KeyType": "RANGE"},
        ],
    )
    table.wait_until_exists()
    with table.batch_writer() as batch:
        for number in range(200):
            item = {"page": f"p{number % 50}", "number": number, "text": "x" * 1000}
            batch.put_item(Item=item)
    one = Attr("page").eq("p7")
    for name, measured in {
        "scan": cost(table, "scan"),
        "scan, filtered": cost(table, "scan", FilterExpression=one),
        "scan, keys only": cost(table, "scan", ProjectionExpression="page"),
        "scan, counted": cost(table, "scan", Select="COUNT"),
        "query": cost(table, "query", KeyConditionExpression=Key("page").eq("p7")),
    }.items():
        found, read, units = measured
        print(f"{name:15} found {found:3} read {read:3} units {units:5}")
    print("gently:", sum(1 for _ in scan_gently(table, 1000)))
    dynamodb.meta.client.close()


if __name__ == "__main__":
    main()
