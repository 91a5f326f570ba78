# /// script
# requires-python = ">=3.11"
# dependencies = ["boto3>=1.40", "botocore>=1.40"]
# ///
"""Create a table.

Every start of a program may call this: the first call makes the table and waits until
it can be used, the others find it. On demand, so nobody has to guess a capacity.
"""

import os
import sys
from typing import Any

import boto3
from botocore.config import Config

Client = Any  # boto3 makes its classes at run time

# --8<-- [start:definition]
PURCHASE: Any = {
    "TableName": "purchase",
    "BillingMode": "PAY_PER_REQUEST",
    "DeletionProtectionEnabled": True,
    # Attributes of keys alone: the others need no definition.
    "AttributeDefinitions": [
        {"AttributeName": "customer", "AttributeType": "S"},
        {"AttributeName": "number", "AttributeType": "N"},
    ],
    "KeySchema": [
        {"AttributeName": "customer", "KeyType": "HASH"},
        {"AttributeName": "number", "KeyType": "RANGE"},
    ],
}
# --8<-- [end:definition]


# --8<-- [start:ensure]
def ensure_table(
    client: Client, definition: dict[str, Any], every: float = 2, tries: int = 60
) -> bool:
    """Make the table unless it is there; return True if this call made it.

    Asks up to `tries` times, `every` so many seconds, whether it can be used. Raises
    WaiterError if it cannot, ValueError if a table of that name has other keys or
    indexes, and ClientError for anything else.
    """
    name = definition["TableName"]
    try:
        client.create_table(**definition)
        created = True
    except client.exceptions.ResourceInUseException:  # it is there, or being made
        created = False
    client.get_waiter("table_exists").wait(
        TableName=name, WaiterConfig={"Delay": every, "MaxAttempts": tries}
    )
    found = client.describe_table(TableName=name)["Table"]
    if keys(found) != keys(definition):
        raise ValueError(f"the table {name} has other keys: {keys(found)}")
    return created


def keys(table: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """The key of the table (under "") and of each index: names and types."""
    types = {
        one["AttributeName"]: one["AttributeType"]
        for one in table["AttributeDefinitions"]
    }
    schemas = {"": table["KeySchema"]}
    for kind in ("GlobalSecondaryIndexes", "LocalSecondaryIndexes"):
        schemas |= {one["IndexName"]: one["KeySchema"] for one in table.get(kind, ())}
    return {
        name: [(one["AttributeName"], types[one["AttributeName"]]) for one in schema]
        for name, schema in schemas.items()
    }


# --8<-- [end:ensure]

NO_SERVER = (
    "Set AWS_ENDPOINT_URL, for example http://127.0.0.1:18000, with AWS_ACCESS_KEY_ID,"
    " AWS_SECRET_ACCESS_KEY and AWS_DEFAULT_REGION"
    " after `docker compose up -d --wait dynamodb`"
)


def main() -> None:
    os.environ.get("AWS_ENDPOINT_URL") or sys.exit(NO_SERVER)
    config = Config(
        connect_timeout=2,
        read_timeout=5,
        retries={"mode": "standard", "total_max_attempts": 3},
    )
    client = boto3.client("dynamodb", config=config)
    print("created:", ensure_table(client, PURCHASE))
    print("created again:", ensure_table(client, PURCHASE))
    found = client.describe_table(TableName="purchase")["Table"]
    print("billing:", found["BillingModeSummary"]["BillingMode"])
    print("key:", ", ".join(" ".join(key) for key in keys(dict(found))[""]))
    client.close()


if __name__ == "__main__":
    main()
