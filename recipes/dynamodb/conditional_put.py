# /// script
# requires-python = ">=3.11"
# dependencies = ["boto3>=1.40", "botocore>=1.40"]
# ///
"""Put an item without overwriting another.

A plain put replaces whatever has the same key, and says nothing. A condition makes it
create only, or replace only, also when the answer is lost and the put is sent again.
"""

import os
import sys
from typing import Any

import boto3
from boto3.dynamodb.conditions import Attr
from boto3.dynamodb.types import TypeDeserializer
from botocore.config import Config

Table = Any  # boto3 makes its classes at run time


# --8<-- [start:create]
def create(table: Table, item: dict[str, Any]) -> bool:
    """Store a new item; return False if exactly this item is there already.

    The key of the table is `email`. Raises ValueError if the key belongs to another
    item: it stays as it is.
    """
    try:
        table.put_item(
            Item=item,
            ConditionExpression=Attr("email").not_exists(),
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    except table.meta.client.exceptions.ConditionalCheckFailedException as error:
        read = TypeDeserializer().deserialize  # in errors boto3 leaves this to us
        found = {name: read(value) for name, value in error.response["Item"].items()}
        if found == item:  # the answer to an earlier attempt was lost
            return False
        raise ValueError(f"{item['email']} is taken") from error
    return True


# --8<-- [end:create]


# --8<-- [start:replace]
def replace(table: Table, item: dict[str, Any]) -> dict[str, Any]:
    """Replace an item that is there; return the old one. Raises LookupError."""
    try:
        answer = table.put_item(
            Item=item,
            ConditionExpression=Attr("email").exists(),
            ReturnValues="ALL_OLD",
        )
    except table.meta.client.exceptions.ConditionalCheckFailedException as error:
        raise LookupError(f"there is no {item['email']}") from error
    old: dict[str, Any] = answer["Attributes"]
    return old


# --8<-- [end:replace]

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
        TableName="account",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "email", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "email", "KeyType": "HASH"}],
    )
    table.wait_until_exists()
    anna = {"email": "anna@example.com", "name": "Anna"}
    print("created:", create(table, anna))
    print("sent again:", create(table, anna))
    try:
        create(table, {**anna, "name": "Another Anna"})
    except ValueError as error:
        print("refused:", error)
    print("replaced:", replace(table, {**anna, "name": "Anna B."})["name"])
    dynamodb.meta.client.close()


if __name__ == "__main__":
    main()
