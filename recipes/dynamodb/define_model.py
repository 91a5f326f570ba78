# /// script
# requires-python = ">=3.11"
# dependencies = ["pynamodb>=6.1"]
# ///
"""Define a model.

A PynamoDB class names the table, its key and the attributes of an item, and turns them
into Python's types and back. Use it where an application owns the table.
"""

import os
import sys
from datetime import UTC, datetime

from pynamodb.attributes import (
    BooleanAttribute,
    MapAttribute,
    UnicodeAttribute,
    UnicodeSetAttribute,
    UTCDateTimeAttribute,
)
from pynamodb.models import Model


# --8<-- [start:model]
class AwareDateTimeAttribute(UTCDateTimeAttribute):
    """A moment in time, read back in UTC; a datetime without a zone is refused."""

    def serialize(self, value: datetime) -> str:
        if value.utcoffset() is None:
            raise ValueError(f"{value} has no time zone")
        return str(super().serialize(value))


class Address(MapAttribute[str, str]):
    street = UnicodeAttribute()
    city = UnicodeAttribute()


class Customer(Model):
    class Meta:
        table_name = "customer"
        billing_mode = "PAY_PER_REQUEST"
        connect_timeout_seconds = 2
        read_timeout_seconds = 5
        max_retry_attempts = 2

    email = UnicodeAttribute(hash_key=True)
    name = UnicodeAttribute()
    joined = AwareDateTimeAttribute()
    newsletter = BooleanAttribute(default=False)  # also for items that lack it
    phone = UnicodeAttribute(null=True)  # null=True: an item need not have it
    tags = UnicodeSetAttribute(null=True)
    address = Address(null=True)


# --8<-- [end:model]


# --8<-- [start:use]
def register(customer: Customer) -> None:
    """Store a new customer.

    Raises PutError if the e-mail address is taken (its `cause_response_code` is
    "ConditionalCheckFailedException"), AttributeNullError (a ValueError) if an
    attribute that must be there is missing.
    """
    customer.save(Customer.email.does_not_exist())


def find(email: str) -> Customer | None:
    """The customer as of now; None if there is none."""
    try:
        return Customer.get(email, consistent_read=True)
    except Customer.DoesNotExist:
        return None


def rename(email: str, name: str) -> Customer:
    """Change this one attribute, whatever else the item holds; return the customer.

    Raises UpdateError if there is none.
    """
    customer = Customer(email)
    customer.update([Customer.name.set(name)], condition=Customer.email.exists())
    return customer


# --8<-- [end:use]

NO_SERVER = (
    "Set AWS_ENDPOINT_URL, for example http://127.0.0.1:18000, with AWS_ACCESS_KEY_ID,"
    " AWS_SECRET_ACCESS_KEY and AWS_DEFAULT_REGION"
    " after `docker compose up -d --wait dynamodb`"
)


def main() -> None:
    os.environ.get("AWS_ENDPOINT_URL") or sys.exit(NO_SERVER)
    Customer.create_table(wait=True)
    anna = Customer("anna@example.com", name="Anna", tags={"new", "press"})
    anna.joined = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)
    anna.address = Address(street="Example Road 1", city="Berlin")
    register(anna)
    found = rename("anna@example.com", "Anna B.")
    print(f"{found.name} of {found.address.city}, since {found.joined:%d %B %Y}")
    print(f"tags {sorted(found.tags)}, newsletter {found.newsletter}")
    print("phone", found.phone)
    print("ben:", find("ben@example.com"))


if __name__ == "__main__":
    main()
