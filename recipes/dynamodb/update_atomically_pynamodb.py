# /// script
# requires-python = ">=3.11"
# dependencies = ["pynamodb>=6.1"]
# ///
"""Update without losing updates, with PynamoDB.

Two programs that read an item, change it and write it back lose one of the changes.
Send the change instead and let DynamoDB apply it: to a set, a number, on a condition.
"""

import os
import sys

from pynamodb.attributes import NumberAttribute, UnicodeAttribute, UnicodeSetAttribute
from pynamodb.connection import Connection
from pynamodb.exceptions import TransactWriteError
from pynamodb.models import Model
from pynamodb.transactions import TransactWrite


class Course(Model):
    class Meta:
        table_name = "course"
        billing_mode = "PAY_PER_REQUEST"
        connect_timeout_seconds = 2
        read_timeout_seconds = 5
        max_retry_attempts = 2

    course = UnicodeAttribute(hash_key=True)
    seats = NumberAttribute(null=True)
    visits = NumberAttribute(default=0)
    tags = UnicodeSetAttribute(null=True)


# --8<-- [start:add]
def add_tag(course: str, tag: str) -> set[str]:
    """Add a tag, and return all of them. One that is there already changes nothing."""
    found = Course(course)
    found.update([Course.tags.add({tag})])  # and reads what is there now
    return found.tags


def count_visit(course: str) -> int:
    """Count one visit more, and return how many there are now.

    It may count twice: when an answer is lost, the client sends the request again.
    """
    found = Course(course)
    found.update([Course.visits.add(1)])  # from nothing, it starts at zero
    return int(found.visits)


# --8<-- [end:add]


# --8<-- [start:book]
def book(connection: Connection, course: str, seats: int, booking: str) -> None:
    """Take seats: once for each booking, as long as it is asked for within 10 minutes.

    `booking` has up to 36 characters. Raises LookupError if so many seats are not left,
    or there is no such course; ValueError for less than one seat. Then none was taken.
    """
    if seats < 1:
        raise ValueError(f"{seats} seats")
    try:
        # A transaction of one: the token makes it safe to send it again.
        with TransactWrite(connection=connection, client_request_token=booking) as one:
            one.update(
                Course(course),
                actions=[Course.seats.set(Course.seats - seats)],
                condition=Course.seats >= seats,
            )
    except TransactWriteError as error:
        reasons = [reason.code for reason in error.cancellation_reasons if reason]
        if reasons != ["ConditionalCheckFailed"]:  # such as a conflict: ask again
            raise
        raise LookupError(f"no {seats} seats left in {course}") from error


# --8<-- [end:book]

NO_SERVER = (
    "Set AWS_ENDPOINT_URL, for example http://127.0.0.1:18000, with AWS_ACCESS_KEY_ID,"
    " AWS_SECRET_ACCESS_KEY and AWS_DEFAULT_REGION"
    " after `docker compose up -d --wait dynamodb`"
)


def main() -> None:
    os.environ.get("AWS_ENDPOINT_URL") or sys.exit(NO_SERVER)
    Course.create_table(wait=True)
    Course("SQL", seats=3).save(Course.course.does_not_exist())
    for tag in ("data", "evening", "data"):
        tags = add_tag("SQL", tag)
    print("tags:", *sorted(tags))
    print("visits:", [count_visit("SQL") for _ in range(3)])
    connection = Connection(connect_timeout_seconds=2, read_timeout_seconds=5)
    for booking, seats in (("b-1", 2), ("b-1", 2), ("b-2", 2)):
        try:
            book(connection, "SQL", seats, booking)
            print(f"{booking}: booked")
        except LookupError as error:
            print(f"{booking}: {error}")
    print("seats left:", Course.get("SQL").seats)


if __name__ == "__main__":
    main()
