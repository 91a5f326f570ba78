"""query_index: what is in the index, in its order, and what that costs."""

from datetime import date
from typing import Any

import pytest
from boto3.dynamodb.conditions import Attr, Key
from botocore.exceptions import ClientError
from pynamodb.exceptions import UpdateError

from recipes.dynamodb import query_index, query_index_pynamodb
from recipes.dynamodb.query_index import DELIVERY
from recipes.dynamodb.query_index_pynamodb import Delivery
from tests.recipes.dynamodb.conftest import connected

MAY = date(2026, 5, 31)


@pytest.fixture
def table(resource):
    resource.create_table(**DELIVERY)
    return resource.Table("delivery")


class WithBoto3:
    def __init__(self, table: Any) -> None:
        self.table = table

    def still_open(self, depot: str, until: date) -> list[dict]:
        return list(query_index.still_open(self.table, depot, until))

    def deliver(self, number: str, day: date) -> bool:
        return query_index.deliver(self.table, number, day)


class WithPynamoDB:
    def still_open(self, depot: str, until: date) -> list[dict]:
        found = query_index_pynamodb.still_open(depot, until)
        return [
            {name: it for name, it in one.attribute_values.items() if it is not None}
            for one in found
        ]

    def deliver(self, number: str, day: date) -> bool:
        return query_index_pynamodb.deliver(number, day)


@pytest.fixture(params=["boto3", "pynamodb"])
def depots(request, table, aws):
    """Each of the two ways."""
    with connected(Delivery):
        yield WithBoto3(table) if request.param == "boto3" else WithPynamoDB()


def put(table, number: str, due: str, depot: str = "Berlin", **more) -> None:
    item = {"number": number, "depot": depot, "due": due, **more}
    table.put_item(Item=item)


def numbers(depots, until: date = MAY, depot: str = "Berlin") -> list[str]:
    return [one["number"] for one in depots.still_open(depot, until)]


def test_in_order(depots, table):
    """The first delivery that is due comes first, whatever their order in the table."""
    for number, day in (("a", 3), ("b", 1), ("c", 2)):
        put(table, number, f"2026-05-0{day}")
    assert numbers(depots) == ["b", "c", "a"]


def test_until_that_day(depots, table):
    """The last day counts, the day after does not."""
    put(table, "last", "2026-05-31")
    put(table, "after", "2026-06-01")
    assert numbers(depots) == ["last"]


def test_other_depot(depots, table):
    """The deliveries of another depot are not among them."""
    put(table, "b", "2026-05-01")
    put(table, "h", "2026-05-01", depot="Hamburg")
    assert numbers(depots) == ["b"]
    assert numbers(depots, depot="Nowhere") == []


def test_what_is_delivered_leaves_the_index(depots, table):
    """What is delivered has left the index, and is in the table still."""
    put(table, "b", "2026-05-01")
    assert depots.deliver("b", date(2026, 5, 2))
    assert numbers(depots) == []
    assert table.scan(IndexName="open")["Count"] == 0
    item = table.get_item(Key={"number": "b"})["Item"]
    assert item == {"number": "b", "depot": "Berlin", "delivered": "2026-05-02"}


@pytest.mark.parametrize("number", ["b", "unknown"])
def test_deliver_once(depots, table, number):
    """What is delivered, or does not exist, is not delivered: no half item appears."""
    put(table, "b", "2026-05-01")
    depots.deliver("b", date(2026, 5, 2))
    assert not depots.deliver(number, date(2026, 5, 9))
    (item,) = table.scan()["Items"]
    assert item["delivered"] == "2026-05-02"


def test_has_what_is_projected(depots, table):
    """The index gives the keys and the address; the rest stays in the table."""
    put(table, "b", "2026-05-01", address="Example Road 1", weight=7)
    assert depots.still_open("Berlin", MAY) == [
        {
            "number": "b",
            "depot": "Berlin",
            "due": "2026-05-01",
            "address": "Example Road 1",
        }
    ]


def test_all_pages(depots, table):
    """More than one page of a megabyte: it goes on to the end."""
    with table.batch_writer() as batch:
        for number in range(30):
            item = {"number": f"{number:02}", "depot": "Berlin", "due": "2026-05-01"}
            batch.put_item(Item={**item, "address": "x" * 50_000})
    first = table.query(
        IndexName="open", KeyConditionExpression=Key("depot").eq("Berlin")
    )
    assert first["Count"] < 30
    assert sorted(numbers(depots)) == [f"{number:02}" for number in range(30)]


def test_never_consistent(table):
    """A strongly consistent read of this kind of index is refused."""
    with pytest.raises(ClientError, match="Consistent reads are not supported"):
        table.query(
            IndexName="open",
            KeyConditionExpression=Key("depot").eq("Berlin"),
            ConsistentRead=True,
        )


# --8<-- [start:wrong]
def still_open_as_copied(table, depot, until):
    answer = table.scan(
        FilterExpression=Attr("depot").eq(depot) & Attr("due").lte(until.isoformat()),
        Limit=10,
    )
    return answer["Items"]


# --8<-- [end:wrong]


def test_often_copied_misses(depots, table):
    """Often copied: `Limit` counts before the filter, so others hide the open ones."""
    with table.batch_writer() as batch:
        for number in range(100):
            item = {"number": f"h{number}", "depot": "Hamburg", "due": "2026-05-01"}
            batch.put_item(Item=item)
    put(table, "b", "2026-05-01")
    found = still_open_as_copied(table, "Hamburg", MAY) + still_open_as_copied(
        table, "Berlin", MAY
    )
    assert len(found) == 10  # of 101
    assert numbers(depots) == ["b"]


def test_often_copied_reads_everything(table):
    """Often copied: the scan reads every item to find one, the query reads that one."""
    with table.batch_writer() as batch:
        for number in range(100):
            item = {"number": f"h{number}", "depot": "Hamburg", "due": "2026-05-01"}
            batch.put_item(Item=item)
    put(table, "b", "2026-05-01")
    scan = table.scan(FilterExpression=Attr("depot").eq("Berlin"))
    condition = Key("depot").eq("Berlin")
    query = table.query(IndexName="open", KeyConditionExpression=condition)
    assert (scan["Count"], scan["ScannedCount"]) == (1, 101)
    assert (query["Count"], query["ScannedCount"]) == (1, 1)


def test_made_by_the_model(aws, resource):
    """The model of PynamoDB makes the same table and the same index."""
    with connected(Delivery):
        Delivery.create_table(wait=True)
    found = resource.Table("delivery")
    (index,) = found.global_secondary_indexes
    (wanted,) = DELIVERY["GlobalSecondaryIndexes"]
    assert found.key_schema == DELIVERY["KeySchema"]
    assert {name: index[name] for name in wanted} == wanted


def test_other_errors_reach_the_caller(depots, table):
    """No such table, say: the error reaches the caller."""
    table.delete()
    with pytest.raises((ClientError, UpdateError), match=r"ResourceNotFound"):
        depots.deliver("b", MAY)
