# /// script
# requires-python = ">=3.11"
# dependencies = ["boto3>=1.40", "botocore>=1.40"]
# ///
"""Notice that somebody else was faster, with boto3.

Between your read and your write the item may change. With a version in the item the
write is refused then, so you read again and repeat your change on what is there now.
"""

import os
import sys
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import boto3
from botocore.config import Config

Table = Any  # boto3 makes its classes at run time


# --8<-- [start:edit]
def edit(
    table: Table, name: str, change: Callable[[str], str], tries: int = 5
) -> dict[str, Any]:
    """Replace the text by `change(text)`, and return the page.

    `change` may be called again, with a newer text. Raises KeyError if there is no such
    page, RuntimeError if others were faster `tries` times: then nothing has changed.
    """
    mark = uuid4().hex
    for _ in range(tries):
        answer = table.get_item(Key={"name": name}, ConsistentRead=True)
        page: dict[str, Any] = answer["Item"]
        if page.get("edit") == mark:  # it was stored: only the answer was lost
            return page
        seen = page["version"]
        page |= {"text": change(page["text"]), "edit": mark, "version": seen + 1}
        try:
            table.put_item(
                Item=page,
                ConditionExpression="version = :seen",
                ExpressionAttributeValues={":seen": seen},
            )
        except table.meta.client.exceptions.ConditionalCheckFailedException:
            continue
        return page
    raise RuntimeError(f"{name} was changed by others {tries} times")


# --8<-- [end:edit]

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
        TableName="page",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "name", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "name", "KeyType": "HASH"}],
    )
    table.wait_until_exists()
    table.put_item(Item={"name": "news", "text": "draft", "version": 1})
    print("version", edit(table, "news", str.upper)["version"])
    page = edit(table, "news", lambda text: f"{text}, by Ben")
    print(f"version {page['version']}: {page['text']}")
    dynamodb.meta.client.close()


if __name__ == "__main__":
    main()
