# /// script
# requires-python = ">=3.11"
# dependencies = ["boto3>=1.40", "botocore>=1.40"]
# ///
"""Store money exactly.

DynamoDB's numbers are decimal, with 38 digits. Give it `Decimal`, made from text or an
integer and never from a float, and no cent is lost on the way in, out, or in a sum.
"""

import os
import sys
from decimal import Decimal
from typing import Any

import boto3
from boto3.dynamodb.conditions import Key
from botocore.config import Config

Table = Any  # boto3 makes its classes at run time

# --8<-- [start:money]
CENT = Decimal("0.01")


def cents(amount: Decimal) -> Decimal:
    """The amount with two decimals. Raises TypeError if it is no Decimal, ValueError if
    it has fractions of a cent, or is a trillion or more."""
    if not isinstance(amount, Decimal):
        raise TypeError(f"{amount!r} is not a Decimal")
    if not amount.is_finite() or abs(amount) >= 10**12 or amount != round(amount, 2):
        raise ValueError(f"{amount} is no amount of whole cents")
    return amount.quantize(CENT)  # 100.10 is stored as 100.1


def book(table: Table, account: str, entry: str, amount: Decimal) -> None:
    """Book an amount; the same entry again changes nothing.

    Raises ValueError if that entry has another amount, and what cents() raises.
    """
    try:
        table.put_item(
            Item={"account": account, "entry": entry, "amount": cents(amount)},
            ConditionExpression="attribute_not_exists(account) OR amount = :amount",
            ExpressionAttributeValues={":amount": cents(amount)},
        )
    except table.meta.client.exceptions.ConditionalCheckFailedException as error:
        raise ValueError(f"entry {entry} of {account} has another amount") from error


def balance(table: Table, account: str) -> Decimal:
    """The sum of the account's entries."""
    total = Decimal("0.00")
    query = {
        "KeyConditionExpression": Key("account").eq(account),
        "ProjectionExpression": "amount",
        "ConsistentRead": True,
    }
    while True:
        answer = table.query(**query)
        total += sum((cents(it["amount"]) for it in answer["Items"]), Decimal(0))
        if "LastEvaluatedKey" not in answer:
            return total
        query["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


# --8<-- [end:money]

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
        TableName="entry",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": "account", "AttributeType": "S"},
            {"AttributeName": "entry", "AttributeType": "S"},
        ],
        KeySchema=[
            {"AttributeName": "account", "KeyType": "HASH"},
            {"AttributeName": "entry", "KeyType": "RANGE"},
        ],
    )
    table.wait_until_exists()
    for entry, amount in (("1", "0.10"), ("2", "0.20"), ("3", "99.80"), ("3", "99.80")):
        book(table, "anna", entry, Decimal(amount))
        print(f"entry {entry} of {amount}, balance {balance(table, 'anna')}")
    try:
        book(table, "anna", "4", Decimal("0.005"))
    except ValueError as error:
        print("refused:", error)
    dynamodb.meta.client.close()


if __name__ == "__main__":
    main()
