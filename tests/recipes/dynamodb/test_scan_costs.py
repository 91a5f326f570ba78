"""scan_costs: what is read is what is paid for."""

import time

import pytest
from boto3.dynamodb.conditions import Attr, Key

from recipes.dynamodb.scan_costs import Cost, cost, scan_gently


@pytest.fixture
def table(dynamodb_local, open_resource):
    """200 visits of a thousand bytes and a little, four for each of 50 pages."""
    table = open_resource(dynamodb_local).create_table(
        TableName="visit",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": "page", "AttributeType": "S"},
            {"AttributeName": "number", "AttributeType": "N"},
        ],
        KeySchema=[
            {"AttributeName": "page", "KeyType": "HASH"},
            {"AttributeName": "number", "KeyType": "RANGE"},
        ],
    )
    with table.batch_writer() as batch:
        for number in range(200):
            item = {"page": f"p{number % 50}", "number": number, "text": "x" * 1000}
            batch.put_item(Item=item)
    return table


def test_all_of_it(table):
    """A scan pays for all that it reads: 200 KB are 25 units of 8 KB."""
    assert cost(table, "scan") == Cost(200, 200, 25)


def test_consistent(table):
    """A consistent read costs twice as much."""
    assert cost(table, "scan", ConsistentRead=True) == Cost(200, 200, 50)


@pytest.mark.parametrize(
    ("less", "found"),
    [
        pytest.param({"FilterExpression": Attr("page").eq("p7")}, 4, id="filter"),
        pytest.param({"ProjectionExpression": "page"}, 200, id="projection"),
        pytest.param({"Select": "COUNT"}, 200, id="count"),
    ],
)
def test_less_for_the_same_price(table, less, found):
    """A filter, a projection, a mere count: a smaller answer for the same price."""
    assert cost(table, "scan", **less) == Cost(found, 200, 25)


def test_query(table):
    """A query pays for the items of its key alone."""
    condition = Key("page").eq("p7")
    assert cost(table, "query", KeyConditionExpression=condition) == Cost(4, 4, 0.5)


def test_query_with_a_filter(table):
    """The filter of a query saves nothing either: four are read, none is found."""
    read = cost(
        table,
        "query",
        KeyConditionExpression=Key("page").eq("p7"),
        FilterExpression=Attr("text").eq("y"),
    )
    assert read == Cost(0, 4, 0.5)


def test_adds_up_the_pages(table):
    """The cost is that of all pages, each rounded up."""
    read = cost(table, "scan", Limit=50)
    assert (read.found, read.read) == (200, 200)
    assert 25 <= read.units <= 28


def test_gently_reads_everything(table):
    """The slow scan gives every item once."""
    items = list(scan_gently(table, 100_000))
    assert sorted(int(item["number"]) for item in items) == list(range(200))


def test_gently_keeps_to_the_limit(table, monkeypatch):
    """It waits between the pages, so that units a second stay below the limit."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(
        time, "sleep", lambda pause: clock.__setitem__(0, clock[0] + pause)
    )
    assert len(list(scan_gently(table, 5, page=50))) == 200
    assert 3.8 <= clock[0] <= 5.6  # 25 units and a little, but for the last page


def test_gently_does_not_wait_for_a_slow_reader(table, monkeypatch):
    """Who takes longer than that with the items does not wait in addition."""
    pauses = []
    monkeypatch.setattr(time, "monotonic", iter(range(0, 10**6, 1000)).__next__)
    monkeypatch.setattr(time, "sleep", pauses.append)
    list(scan_gently(table, 5, page=50))
    assert set(pauses) == {0}


# --8<-- [start:wrong]
def visits_as_copied(table, page):
    visits = table.scan(FilterExpression=Attr("page").eq(page))["Items"]
    return len(visits)


# --8<-- [end:wrong]


def test_often_copied_pays_for_the_table(table):
    """Often copied: four visits for the price of two hundred, fifty times a query's."""
    filtered = cost(table, "scan", FilterExpression=Attr("page").eq("p7"))
    asked = cost(table, "query", KeyConditionExpression=Key("page").eq("p7"))
    assert visits_as_copied(table, "p7") == filtered.found == asked.found == 4
    assert filtered.units / asked.units == 50


def test_often_copied_counts_the_first_megabyte(table):
    """Often copied: in a larger table it counts the first megabyte, and no more."""
    with table.batch_writer() as batch:
        for number in range(1000, 1030):
            item = {"page": "p7", "number": number, "text": "x" * 100_000}
            batch.put_item(Item=item)
    assert visits_as_copied(table, "p7") < 34
    assert cost(table, "query", KeyConditionExpression=Key("page").eq("p7")).found == 34
