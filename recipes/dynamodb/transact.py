# /// script
# requires-python = ">=3.11"
# dependencies = ["boto3>=1.40", "botocore>=1.40"]
# ///
"""Change several items together.

A transaction changes all of its items or none. Here it moves money between accounts,
once for each payment, also when the answer is lost and the caller asks again.
"""

import os
import sys
from decimal import Decimal
from typing import Any

import boto3
from boto3.dynamodb.types import TypeDeserializer
from botocore.config import Config

Client = Any  # boto3 makes its classes at run time


# --8<-- [start:transfer]
def transfer(
    client: Client, payment: str, payer: str, payee: str, amount: Decimal
) -> bool:
    """Move amount, and return True; return False if this payment was made before.

    `client` is that of a resource, which takes Python's types. Raises ValueError (bad
    amount, payer is payee, the key of another payment), LookupError (no such account,
    or too little in it). Then nothing moved. After any other error, such as a conflict
    with another transaction or a lost line, call again with the same payment.
    """
    cents = amount.is_finite() and 0 < amount < 10**12 and amount == round(amount, 2)
    if not cents or payer == payee:
        raise ValueError(f"cannot move {amount} from {payer} to {payee}")
    order = {"id": f"payment#{payment}", "to": payee, "from": payer, "amount": amount}
    try:
        client.transact_write_items(
            TransactItems=[
                {
                    "Put": {
                        "TableName": "bank",
                        "Item": order,
                        "ConditionExpression": "attribute_not_exists(id)",
                        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                    }
                },
                _change(payer, -amount, least=amount),
                _change(payee, amount, least=Decimal(0)),
            ]
        )
    except client.exceptions.TransactionCanceledException as error:
        paid, debit, credit = error.response["CancellationReasons"]
        if paid["Code"] == "ConditionalCheckFailed":
            read = TypeDeserializer().deserialize  # in errors boto3 leaves this to us
            if {name: read(it) for name, it in paid["Item"].items()} == order:
                return False
            raise ValueError(f"{payment} is the key of another payment") from error
        for account, reason in ((payer, debit), (payee, credit)):
            if reason["Code"] == "ConditionalCheckFailed":
                raise LookupError(f"no account {account} with enough in it") from error
        raise
    return True


def _change(account: str, by: Decimal, least: Decimal) -> dict[str, Any]:
    return {
        "Update": {
            "TableName": "bank",
            "Key": {"id": f"account#{account}"},
            "UpdateExpression": "SET balance = balance + :by",
            "ConditionExpression": "balance >= :least",
            "ExpressionAttributeValues": {":by": by, ":least": least},
        }
    }


# --8<-- [end:transfer]

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
        TableName="bank",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    table.wait_until_exists()
    for name, balance in (("anna", 100), ("ben", 50)):
        table.put_item(Item={"id": f"account#{name}", "balance": Decimal(balance)})
    client = dynamodb.meta.client
    for call in ("first", "second"):
        moved = transfer(client, "2026-17", "anna", "ben", Decimal("30.10"))
        print(f"{call} call moved money: {moved}")
    try:
        transfer(client, "2026-18", "anna", "ben", Decimal(500))
    except LookupError as error:
        print("refused:", error)
    for name in ("anna", "ben"):
        key = {"id": f"account#{name}"}
        account: Any = table.get_item(Key=key, ConsistentRead=True)["Item"]
        print(f"{name} has {account['balance']:.2f}")
    client.close()


if __name__ == "__main__":
    main()
