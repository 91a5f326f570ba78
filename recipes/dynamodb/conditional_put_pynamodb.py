# /// script
# requires-python = ">=3.11"
# dependencies = ["pynamodb>=6.1"]
# ///
"""Put an item without overwriting another, with PynamoDB.

`save()` replaces whatever has the same key, and says nothing. A condition makes it
create only, or replace only, also when the answer is lost and it is sent again.
"""

import os
import sys

from pynamodb.attributes import UnicodeAttribute
from pynamodb.exceptions import PutError
from pynamodb.models import Model

TAKEN = "ConditionalCheckFailedException"


class Account(Model):
    class Meta:
        table_name = "account"
        billing_mode = "PAY_PER_REQUEST"
        connect_timeout_seconds = 2
        read_timeout_seconds = 5
        max_retry_attempts = 2

    email = UnicodeAttribute(hash_key=True)
    name = UnicodeAttribute()


# --8<-- [start:create]
def create(account: Account) -> bool:
    """Store a new account; return False if exactly this one is there already.

    Raises ValueError if the key belongs to another account: it stays as it is.
    """
    try:
        account.save(Account.email.does_not_exist())
    except PutError as error:
        if error.cause_response_code != TAKEN:
            raise
        found = Account.get(account.email, consistent_read=True)
        if found.serialize() == account.serialize():  # an answer was lost
            return False
        raise ValueError(f"{account.email} is taken") from error
    return True


# --8<-- [end:create]


# --8<-- [start:replace]
def replace(account: Account) -> Account:
    """Replace an account that is there, and return it. Raises LookupError."""
    try:
        account.save(Account.email.exists())
    except PutError as error:
        if error.cause_response_code != TAKEN:
            raise
        raise LookupError(f"there is no {account.email}") from error
    return account


# --8<-- [end:replace]

NO_SERVER = (
    "Set AWS_ENDPOINT_URL, for example http://127.0.0.1:18000, with AWS_ACCESS_KEY_ID,"
    " AWS_SECRET_ACCESS_KEY and AWS_DEFAULT_REGION"
    " after `docker compose up -d --wait dynamodb`"
)


def main() -> None:
    os.environ.get("AWS_ENDPOINT_URL") or sys.exit(NO_SERVER)
    Account.create_table(wait=True)
    anna = Account("anna@example.com", name="Anna")
    print("created:", create(anna))
    print("sent again:", create(anna))
    try:
        create(Account("anna@example.com", name="Another Anna"))
    except ValueError as error:
        print("refused:", error)
    print("replaced:", replace(Account("anna@example.com", name="Anna B.")).name)


if __name__ == "__main__":
    main()
