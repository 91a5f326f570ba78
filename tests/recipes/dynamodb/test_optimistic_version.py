"""optimistic_version: nobody overwrites what they have not seen."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import Any

import pytest
from botocore.exceptions import ClientError
from pynamodb.exceptions import GetError, PutError

from recipes.dynamodb import optimistic_version, optimistic_version_boto3
from recipes.dynamodb.optimistic_version import Page
from tests.recipes.dynamodb.conftest import connected


class WithPynamoDB:
    missing = Page.DoesNotExist

    def edit(self, change, tries: int = 5) -> tuple[str, int]:
        page = optimistic_version.edit("news", change, tries)
        return page.text, page.version


class WithBoto3:
    missing = KeyError

    def __init__(self, resource: Any) -> None:
        self.table = resource.Table("page")

    def edit(self, change, tries: int = 5) -> tuple[str, int]:
        page = optimistic_version_boto3.edit(self.table, "news", change, tries)
        return page["text"], page["version"]


@pytest.fixture
def table(resource):
    table = resource.create_table(
        TableName="page",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "name", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "name", "KeyType": "HASH"}],
    )
    table.put_item(Item={"name": "news", "text": "draft", "version": 1})
    return table


@pytest.fixture(params=["pynamodb", "boto3"])
def driver(request, aws, open_resource):
    """Make one of the two, for an address."""

    @contextmanager
    def make(address: str):
        aws(address)
        if request.param == "boto3":
            yield WithBoto3(open_resource(address, optimistic_version_boto3.CONFIG))
        else:
            with connected(Page):
                yield WithPynamoDB()

    return make


@pytest.fixture
def pages(driver, dynamodb, table):
    with driver(dynamodb) as one:
        yield one


def stored(table) -> tuple[str, int]:
    item = table.get_item(Key={"name": "news"}, ConsistentRead=True)["Item"]
    return item["text"], int(item["version"])


def write(table, text: str) -> None:
    """What somebody else does in between."""
    table.update_item(
        Key={"name": "news"},
        UpdateExpression="SET #text = :text, version = version + :one",
        ExpressionAttributeNames={"#text": "text"},
        ExpressionAttributeValues={":text": text, ":one": 1},
    )


def test_edits(pages, table):
    """The text is changed, and the version counted."""
    assert pages.edit(str.upper) == ("DRAFT", 2)
    assert stored(table) == ("DRAFT", 2)


def test_somebody_was_faster(pages, table):
    """The page changed after it was read: the change is repeated on the newer text."""
    texts = []

    def change(text: str) -> str:
        texts.append(text)
        if len(texts) == 1:
            write(table, "by somebody else")
        return f"{text}!"

    assert pages.edit(change) == ("by somebody else!", 3)
    assert texts == ["draft", "by somebody else"]
    assert stored(table) == ("by somebody else!", 3)


def test_eight_at_once(pages, table):
    """Eight add a line at the same moment: all eight lines are there."""
    start = Barrier(8)

    def run(number: int) -> None:
        start.wait()
        pages.edit(lambda text: f"{text} {number}", tries=8)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8)))
    text, version = stored(table)
    assert sorted(text.split()) == [*"01234567", "draft"]
    assert version == 9


def test_reads_what_is_there_now(driver, table, stage):
    """The page is read with a consistent read, and not as it was a moment ago."""
    asked = []

    def get(request, ask):
        asked.append(request.get("ConsistentRead"))
        return ask(request)

    stage.plays["GetItem"] = get
    with driver(stage.url) as pages:
        pages.edit(str.upper)
    assert asked == [True]


def test_gives_up(pages, table):
    """Always too late: an error after the last try, and nothing of it is stored."""
    calls = []

    def change(text: str) -> str:
        calls.append(text)
        write(table, f"{len(calls)} by somebody else")
        return "mine"

    with pytest.raises(RuntimeError, match="news was changed by others 3 times"):
        pages.edit(change, tries=3)
    assert stored(table) == ("3 by somebody else", 4)


def test_lost_answer(driver, table, dynamodb, fault_proxy):
    """The answer is lost: the own change is recognised, and not made a second time."""
    proxy = fault_proxy(dynamodb)
    proxy.cut_answer_to(b"DynamoDB_20120810.PutItem")
    with driver(proxy.url) as pages:
        assert pages.edit(lambda text: f"{text}!") == ("draft!", 2)
    assert proxy.was_cut.is_set()
    assert stored(table) == ("draft!", 2)


def test_no_page(pages, table):
    """No such page is an error, and none is made."""
    table.delete_item(Key={"name": "news"})
    with pytest.raises(pages.missing):
        pages.edit(str.upper)
    assert table.scan()["Count"] == 0


def test_error_in_the_change(pages, table):
    """An error in the change reaches the caller, and the page stays."""
    with pytest.raises(ZeroDivisionError):
        pages.edit(lambda text: text * (1 // 0))
    assert stored(table) == ("draft", 1)


def test_other_errors_reach_the_caller(pages, table):
    """A text that is too large, no such table: the error reaches the caller."""
    with pytest.raises((ClientError, PutError), match="ValidationException"):
        pages.edit(lambda text: text * 100_000)
    table.delete()
    with pytest.raises((ClientError, GetError), match="ResourceNotFound"):
        pages.edit(str.upper)


def test_save_with_an_old_version(table, aws):
    """`save()` of an object that is out of date is refused, and the object says which
    version it has."""
    with connected(Page):
        page = Page.get("news")
        write(table, "by somebody else")
        with pytest.raises(PutError) as caught:
            page.save()
        assert caught.value.cause_response_code == "ConditionalCheckFailedException"
        assert stored(table) == ("by somebody else", 2)


def test_new_page(table, aws):
    """`save()` of a new object does not overwrite a page that is there."""
    with connected(Page):
        with pytest.raises(PutError):
            Page("news", text="mine").save()
        Page("more", text="mine").save()
        assert Page.get("more").version == 1


# --8<-- [start:wrong]
def edit_as_copied(table, name, change):
    page = table.get_item(Key={"name": name})["Item"]
    page["text"] = change(page["text"])
    page["version"] += 1
    table.put_item(Item=page)


# --8<-- [end:wrong]


def test_often_copied_a_version_that_nobody_checks(table):
    """Often copied: the version is counted, not compared: the other change is lost."""

    def change(text: str) -> str:
        write(table, "by somebody else")
        return f"{text}!"

    edit_as_copied(table, "news", change)
    assert stored(table) == ("draft!", 2)
