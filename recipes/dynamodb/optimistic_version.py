# /// script
# requires-python = ">=3.11"
# dependencies = ["pynamodb>=6.1"]
# ///
"""Notice that somebody else was faster.

Between your read and your write the item may change. With a version in the item the
write is refused then, so you read again and repeat your change on what is there now.
"""

import os
import sys
from collections.abc import Callable
from uuid import uuid4

from pynamodb.attributes import UnicodeAttribute, VersionAttribute
from pynamodb.exceptions import PutError
from pynamodb.models import Model


# --8<-- [start:edit]
class Page(Model):
    class Meta:
        table_name = "page"
        billing_mode = "PAY_PER_REQUEST"
        connect_timeout_seconds = 2
        read_timeout_seconds = 5
        max_retry_attempts = 2

    name = UnicodeAttribute(hash_key=True)
    text = UnicodeAttribute()
    edit = UnicodeAttribute(null=True)  # who wrote last
    version = VersionAttribute()  # save() counts it, on condition that it is unchanged


def edit(name: str, change: Callable[[str], str], tries: int = 5) -> Page:
    """Replace the text by `change(text)`, and return the page.

    `change` may be called again, with a newer text. Raises Page.DoesNotExist, or
    RuntimeError if others were faster `tries` times: then nothing has changed.
    """
    mark = uuid4().hex
    for _ in range(tries):
        page = Page.get(name, consistent_read=True)
        if page.edit == mark:  # it was stored: only the answer was lost
            return page
        page.text, page.edit = change(page.text), mark
        try:
            page.save()
        except PutError as error:
            if error.cause_response_code != "ConditionalCheckFailedException":
                raise
        else:
            return page
    raise RuntimeError(f"{name} was changed by others {tries} times")


# --8<-- [end:edit]

NO_SERVER = (
    "Set AWS_ENDPOINT_URL, for example http://127.0.0.1:18000, with AWS_ACCESS_KEY_ID,"
    " AWS_SECRET_ACCESS_KEY and AWS_DEFAULT_REGION"
    " after `docker compose up -d --wait dynamodb`"
)


def main() -> None:
    os.environ.get("AWS_ENDPOINT_URL") or sys.exit(NO_SERVER)
    Page.create_table(wait=True)
    Page("news", text="draft").save()
    print("version", edit("news", str.upper).version)
    anna, ben = Page.get("news"), Page.get("news")
    anna.text = "by Anna"
    anna.save()
    ben.text = "by Ben"
    try:
        ben.save()
    except PutError as error:
        print("Ben is too late:", error.cause_response_code)
    page = edit("news", lambda text: f"{text}, then by Ben")
    print(f"version {page.version}: {page.text}")


if __name__ == "__main__":
    main()
