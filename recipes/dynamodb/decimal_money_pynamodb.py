# /// script
# requires-python = ">=3.11"
# dependencies = ["pynamodb>=6.1"]
# ///
"""Store money exactly, with PynamoDB.

DynamoDB's numbers are decimal, with 38 digits, but PynamoDB's `NumberAttribute` makes
floats of them. An attribute of your own keeps every cent.
"""

import os
import sys
from decimal import Decimal

from pynamodb.attributes import Attribute, UnicodeAttribute
from pynamodb.constants import NUMBER
from pynamodb.exceptions import PutError
from pynamodb.models import Model

# --8<-- [start:money]
CENT = Decimal("0.01")


class MoneyAttribute(Attribute[Decimal]):
    """An amount in whole cents, below a trillion."""

    attr_type = NUMBER

    def serialize(self, value: Decimal) -> str:
        """Raises TypeError if it is no Decimal, ValueError if it is no such amount."""
        if not isinstance(value, Decimal):
            raise TypeError(f"{value!r} is not a Decimal")
        if not value.is_finite() or abs(value) >= 10**12 or value != round(value, 2):
            raise ValueError(f"{value} is no amount of whole cents")
        return str(value)

    def deserialize(self, value: str) -> Decimal:
        return Decimal(value).quantize(CENT)  # 100.10 is stored as 100.1


class Entry(Model):
    class Meta:
        table_name = "entry"
        billing_mode = "PAY_PER_REQUEST"
        connect_timeout_seconds = 2
        read_timeout_seconds = 5
        max_retry_attempts = 2

    account = UnicodeAttribute(hash_key=True)
    entry = UnicodeAttribute(range_key=True)
    amount = MoneyAttribute()


def book(account: str, entry: str, amount: Decimal) -> None:
    """Book an amount; the same entry again changes nothing.

    Raises ValueError if that entry has another amount.
    """
    same = Entry.account.does_not_exist() | (Entry.amount == amount)
    try:
        Entry(account, entry, amount=amount).save(same)
    except PutError as error:
        if error.cause_response_code != "ConditionalCheckFailedException":
            raise
        raise ValueError(f"entry {entry} of {account} has another amount") from error


def balance(account: str) -> Decimal:
    """The sum of the account's entries."""
    entries = Entry.query(account, consistent_read=True)
    return sum((entry.amount for entry in entries), Decimal("0.00"))


# --8<-- [end:money]

NO_SERVER = (
    "Set AWS_ENDPOINT_URL, for example http://127.0.0.1:18000, with AWS_ACCESS_KEY_ID,"
    " AWS_SECRET_ACCESS_KEY and AWS_DEFAULT_REGION"
    " after `docker compose up -d --wait dynamodb`"
)


def main() -> None:
    os.environ.get("AWS_ENDPOINT_URL") or sys.exit(NO_SERVER)
    Entry.create_table(wait=True)
    for entry, amount in (("1", "0.10"), ("2", "0.20"), ("3", "99.80"), ("3", "99.80")):
        book("anna", entry, Decimal(amount))
        print(f"entry {entry} of {amount}, balance {balance('anna')}")
    try:
        book("anna", "4", Decimal("0.005"))
    except ValueError as error:
        print("refused:", error)


if __name__ == "__main__":
    main()
