# /// script
# requires-python = ">=3.11"
# dependencies = ["boto3>=1.40", "botocore>=1.40"]
# ///
"""Write many items.

A batch writes 25 items with one request. What the table had no capacity for comes back
in an answer without an error, and has to be sent again, later.
"""

import os
import random
import sys
import time
from collections.abc import Iterable
from itertools import islice
from typing import Any

import boto3
from botocore.config import Config

Client = Any  # boto3 makes its classes at run time


# --8<-- [start:write]
def write(
    client: Client,
    table: str,
    items: Iterable[dict[str, Any]],
    key: tuple[str, ...],
    tries: int = 8,
    pause: float = 0.05,
) -> int:
    """Put the items, of which each replaces what has its key; return how many.

    `client` is that of a resource, which takes Python's types; `key` names the
    attributes of the table's key. Of two items with one key the later one is stored.
    A batch is sent up to `tries` times, after up to `pause` seconds, then twice that,
    and so on. Raises RuntimeError if items are left: the batches before are stored.
    """
    count = 0
    items = iter(items)
    while batch := list(islice(items, 25)):
        count += len(batch)
        # One request with the same key twice is refused as a whole.
        newest = {tuple(item[name] for name in key): item for item in batch}
        todo = [{"PutRequest": {"Item": item}} for item in newest.values()]
        for attempt in range(tries):
            answer = client.batch_write_item(RequestItems={table: todo})
            todo = answer["UnprocessedItems"].get(table, [])
            if not todo:
                break
            time.sleep(random.uniform(0, pause * 2**attempt))
        else:
            raise RuntimeError(f"{len(todo)} items were not written to {table}")
    return count


# --8<-- [end:write]

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
        TableName="reading",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": "sensor", "AttributeType": "S"},
            {"AttributeName": "minute", "AttributeType": "N"},
        ],
        KeySchema=[
            {"AttributeName": "sensor", "KeyType": "HASH"},
            {"AttributeName": "minute", "KeyType": "RANGE"},
        ],
    )
    table.wait_until_exists()
    readings = (
        {"sensor": f"s{number % 4}", "minute": number // 4, "value": number}
        for number in range(120)
    )
    client = dynamodb.meta.client
    print("written:", write(client, "reading", readings, ("sensor", "minute")))
    print("stored:", table.scan(Select="COUNT")["Count"])
    client.close()


if __name__ == "__main__":
    main()
