# /// script
# requires-python = ">=3.11"
# dependencies = ["boto3>=1.40", "botocore>=1.40"]
# ///
"""Read page by page.

An answer ends after a megabyte, whatever you asked for. Follow its key to the end, or
give your callers a page and a token with which they ask for the next one.
"""

import base64
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import boto3
from boto3.dynamodb.conditions import Key
from botocore.config import Config

Table = Any  # boto3 makes its classes at run time


# --8<-- [start:all]
def purchases(table: Table, customer: str) -> Iterator[dict[str, Any]]:
    """All purchases of a customer, the latest first; one page in memory at a time."""
    query = {
        "KeyConditionExpression": Key("customer").eq(customer),
        "ScanIndexForward": False,
    }
    while True:
        answer = table.query(**query)
        yield from answer["Items"]
        if "LastEvaluatedKey" not in answer:  # an empty page is not the end
            return
        query["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


# --8<-- [end:all]


# --8<-- [start:page]
def page(
    table: Table, customer: str, size: int, token: str | None = None
) -> tuple[list[dict[str, Any]], str | None]:
    """Up to `size` purchases, the latest first, and the token of the next page.

    No token: it was the last page. Raises ValueError if token is none of ours.
    """
    query: dict[str, Any] = {
        "KeyConditionExpression": Key("customer").eq(customer),
        "ScanIndexForward": False,
        "Limit": size,
    }
    if token:
        # Not the customer: a token must not lead to the purchases of another one.
        query["ExclusiveStartKey"] = {"customer": customer, "number": _number(token)}
    answer = table.query(**query)
    if "LastEvaluatedKey" not in answer:
        return answer["Items"], None
    last = json.dumps([int(answer["LastEvaluatedKey"]["number"])])
    return answer["Items"], base64.urlsafe_b64encode(last.encode()).decode()


def _number(token: str) -> int:
    try:
        (number,) = json.loads(base64.urlsafe_b64decode(token))
    except (ValueError, TypeError) as error:
        raise ValueError(f"not a token: {token!r}") from error
    if type(number) is not int:
        raise ValueError(f"not a token: {token!r}")
    return number


# --8<-- [end:page]

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
        TableName="purchase",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": "customer", "AttributeType": "S"},
            {"AttributeName": "number", "AttributeType": "N"},
        ],
        KeySchema=[
            {"AttributeName": "customer", "KeyType": "HASH"},
            {"AttributeName": "number", "KeyType": "RANGE"},
        ],
    )
    table.wait_until_exists()
    for number in range(1, 8):
        table.put_item(Item={"customer": "anna", "number": number})
    print("all:", *(item["number"] for item in purchases(table, "anna")))
    items, token = page(table, "anna", size=3)
    while token:
        print("page:", *(item["number"] for item in items))
        items, token = page(table, "anna", 3, token)
    print("last page:", *(item["number"] for item in items))
    dynamodb.meta.client.close()


if __name__ == "__main__":
    main()
