# /// script
# requires-python = ">=3.11"
# dependencies = ["pynamodb>=6.1"]
# ///
"""Query an index, with PynamoDB.

A table answers questions about its own key. A global secondary index answers another
question, here: which deliveries are still to be made from a depot, the first one first?
"""

import os
import sys
from collections.abc import Iterator
from datetime import date

from pynamodb.attributes import UnicodeAttribute
from pynamodb.exceptions import UpdateError
from pynamodb.indexes import GlobalSecondaryIndex, IncludeProjection
from pynamodb.models import Model


# --8<-- [start:index]
class OpenIndex(GlobalSecondaryIndex["Delivery"]):
    """An item is in it as long as it has both attributes."""

    class Meta:
        index_name = "open"
        projection = IncludeProjection(["address"])

    depot = UnicodeAttribute(hash_key=True)
    due = UnicodeAttribute(range_key=True)


class Delivery(Model):
    class Meta:
        table_name = "delivery"
        billing_mode = "PAY_PER_REQUEST"
        connect_timeout_seconds = 2
        read_timeout_seconds = 5
        max_retry_attempts = 2

    number = UnicodeAttribute(hash_key=True)
    depot = UnicodeAttribute()
    address = UnicodeAttribute(null=True)
    due = UnicodeAttribute(null=True)
    delivered = UnicodeAttribute(null=True)
    open = OpenIndex()


# --8<-- [end:index]


# --8<-- [start:query]
def still_open(depot: str, until: date) -> Iterator[Delivery]:
    """The depot's open deliveries that are due by that day, the first one first.

    Each has the keys of table and index and the address, from all pages of the answer.
    """
    yield from Delivery.open.query(depot, Delivery.due <= until.isoformat())


def deliver(number: str, day: date) -> bool:
    """Close a delivery; return False if it is not open. Without `due` it leaves the
    index."""
    try:
        Delivery(number).update(
            [Delivery.delivered.set(day.isoformat()), Delivery.due.remove()],
            condition=Delivery.due.exists(),
        )
    except UpdateError as error:
        if error.cause_response_code != "ConditionalCheckFailedException":
            raise
        return False
    return True


# --8<-- [end:query]

NO_SERVER = (
    "Set AWS_ENDPOINT_URL, for example http://127.0.0.1:18000, with AWS_ACCESS_KEY_ID,"
    " AWS_SECRET_ACCESS_KEY and AWS_DEFAULT_REGION"
    " after `docker compose up -d --wait dynamodb`"
)


def main() -> None:
    os.environ.get("AWS_ENDPOINT_URL") or sys.exit(NO_SERVER)
    Delivery.create_table(wait=True)
    for number, due in (("1", "2026-05-03"), ("2", "2026-05-01"), ("3", "2026-06-01")):
        one = Delivery(number, depot="Berlin", due=due)
        one.address = f"Example Road {number}"
        one.save(Delivery.number.does_not_exist())
    may = date(2026, 5, 31)
    for delivery in still_open("Berlin", may):
        print(delivery.due, delivery.number, delivery.address)
    print("delivered:", deliver("2", date(2026, 5, 1)))
    print("still open:", [one.number for one in still_open("Berlin", may)])


if __name__ == "__main__":
    main()
