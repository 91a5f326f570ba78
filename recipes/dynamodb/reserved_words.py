# /// script
# requires-python = ">=3.11"
# dependencies = ["boto3>=1.40", "botocore>=1.40"]
# ///
"""Use names that are reserved.

Over 500 words, `name`, `status` and `date` among them, may not be in an expression.
Give every attribute a placeholder: then any name works, also one that is yet to come.
"""

import os
import sys
from collections.abc import Iterable
from typing import Any

import boto3
from botocore.config import Config

Table = Any  # boto3 makes its classes at run time


# --8<-- [start:update]
def update(
    table: Table, key: dict[str, Any], changes: dict[str, Any]
) -> dict[str, Any]:
    """Set attributes of an item, remove those that are None; return the whole item.

    A name is a name: a dot in it leads to no other attribute. Raises ValueError without
    changes or if they touch the key, LookupError if there is no such item.
    """
    if not changes or key.keys() & changes.keys():
        raise ValueError(f"cannot change {sorted(changes) or 'nothing'}")
    names, values, sets, removes = {}, {}, [], []
    for number, (name, value) in enumerate(changes.items()):
        names[f"#{number}"] = name
        if value is None:
            removes.append(f"#{number}")
        else:
            values[f":{number}"] = value
            sets.append(f"#{number} = :{number}")
    expression = ("SET " + ", ".join(sets) if sets else "") + (
        " REMOVE " + ", ".join(removes) if removes else ""
    )
    names["#key"] = next(iter(key))
    request: dict[str, Any] = {"ExpressionAttributeValues": values} if values else {}
    try:
        answer = table.update_item(
            Key=key,
            UpdateExpression=expression,
            ConditionExpression="attribute_exists(#key)",
            ExpressionAttributeNames=names,
            ReturnValues="ALL_NEW",
            **request,
        )
    except table.meta.client.exceptions.ConditionalCheckFailedException as error:
        raise LookupError(f"there is no {key}") from error
    item: dict[str, Any] = answer["Attributes"]
    return item


# --8<-- [end:update]


# --8<-- [start:read]
def read(
    table: Table, key: dict[str, Any], attributes: Iterable[str]
) -> dict[str, Any]:
    """Those attributes of an item, as far as it has them. Raises LookupError."""
    names = {f"#{number}": name for number, name in enumerate(attributes)}
    answer = table.get_item(
        Key=key,
        ProjectionExpression=", ".join(names),
        ExpressionAttributeNames=names,
        ConsistentRead=True,
    )
    if "Item" not in answer:
        raise LookupError(f"there is no {key}")
    item: dict[str, Any] = answer["Item"]
    return item


# --8<-- [end:read]

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
        TableName="ticket",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    table.wait_until_exists()
    key = {"id": "T-1"}
    table.put_item(Item={**key, "status": "open", "owner": "ben"})
    changes = {"status": "closed", "date": "2026-05-01", "e.mail": "x", "owner": None}
    for name, value in sorted(update(table, key, changes).items()):
        print(f"{name}: {value}")
    print("read:", sorted(read(table, key, ["status", "date"])))
    dynamodb.meta.client.close()


if __name__ == "__main__":
    main()
