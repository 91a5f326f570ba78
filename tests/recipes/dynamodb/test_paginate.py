"""paginate: to the end, and no page of somebody else's."""

import base64
import json
import tracemalloc

import pytest
from boto3.dynamodb.conditions import Attr, Key

from recipes.dynamodb.paginate import page, purchases


@pytest.fixture
def table(resource):
    return resource.create_table(
        TableName="purchase",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": "customer", "AttributeType": "S"},
            {"AttributeName": "number", "AttributeType": "N"},
        ],
        KeySchema=[
            {"AttributeName": "customer", "KeyType": "HASH"},
            {"AttributeName": "number", "KeyType": "RANGE"},
        ],
    )


def fill(table, count: int, customer: str = "anna", size: int = 1) -> None:
    with table.batch_writer() as batch:
        for number in range(1, count + 1):
            item = {"customer": customer, "number": number, "text": "x" * size}
            batch.put_item(Item=item)


def numbers(items) -> list[int]:
    return [int(item["number"]) for item in items]


def test_all_of_them(table):
    """Three megabytes come in several answers, in one order, none missing or twice."""
    fill(table, 30, size=100_000)
    assert numbers(purchases(table, "anna")) == list(range(30, 0, -1))


def test_none(table):
    """A customer without purchases has none, and one empty page."""
    assert numbers(purchases(table, "anna")) == []
    assert page(table, "anna", 3) == ([], None)


def test_of_one_customer(table):
    """The purchases of others are not among them."""
    fill(table, 2)
    fill(table, 9, customer="ben")
    assert numbers(purchases(table, "anna")) == [2, 1]


def test_one_page_in_memory(table):
    """Reading goes on while you work: ten megabytes never are in memory at once."""
    fill(table, 100, size=100_000)
    tracemalloc.start()
    count = sum(1 for _ in purchases(table, "anna"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 100
    assert peak < 8_000_000


def test_pages(table):
    """The pages follow each other without a gap; the last one has no token."""
    fill(table, 7)
    items, token = page(table, "anna", 3)
    seen = [numbers(items)]
    while token:
        items, token = page(table, "anna", 3, token)
        seen.append(numbers(items))
    assert seen == [[7, 6, 5], [4, 3, 2], [1]]


def test_new_purchases_move_nothing(table):
    """What is bought in the meantime neither repeats nor hides anything."""
    fill(table, 4)
    items, token = page(table, "anna", 2)
    table.put_item(Item={"customer": "anna", "number": 5})
    table.delete_item(Key={"customer": "anna", "number": 4})
    assert numbers(items + page(table, "anna", 2, token)[0]) == [4, 3, 2, 1]


def test_token_of_another_customer(table):
    """A token from another customer's pages shows nothing of that customer."""
    fill(table, 3)
    fill(table, 3, customer="ben")
    _, token = page(table, "ben", 1)
    items, _ = page(table, "anna", 3, token)
    assert {item["customer"] for item in items} == {"anna"}


def token_of(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "token",
    [
        "%%%",
        "x",
        "ÿ",
        token_of("x"),
        token_of({"number": 1}),
        token_of(3),
        token_of([1, 2]),
        token_of([True]),
        token_of([1.5]),
        base64.urlsafe_b64encode(b"\xff").decode(),
    ],
)
def test_not_a_token(table, token):
    """What is no token is refused with a ValueError, and asks nothing of the server."""
    with pytest.raises(ValueError, match="not a token"):
        page(table, "anna", 3, token)


# --8<-- [start:wrong]
def purchases_as_copied(table, customer):
    answer = table.query(KeyConditionExpression=Key("customer").eq(customer))
    return answer["Items"]


def large_purchases_as_copied(table, customer):
    query = {
        "KeyConditionExpression": Key("customer").eq(customer),
        "FilterExpression": Attr("size").eq("large"),
        "Limit": 10,
    }
    answer = table.query(**query)
    items = answer["Items"]
    while answer["Items"] and "LastEvaluatedKey" in answer:
        answer = table.query(**query, ExclusiveStartKey=answer["LastEvaluatedKey"])
        items += answer["Items"]
    return items


# --8<-- [end:wrong]


def test_often_copied_ends_after_a_megabyte(table):
    """Often copied: one answer is taken for all of them, and 20 of 30 are missing."""
    fill(table, 30, size=100_000)
    assert len(purchases_as_copied(table, "anna")) in (10, 11)


def test_often_copied_stops_at_an_empty_page(table):
    """Often copied: a page is empty after the filter, and the rest is not read."""
    fill(table, 30)
    table.put_item(Item={"customer": "anna", "number": 99, "size": "large"})
    assert large_purchases_as_copied(table, "anna") == []
