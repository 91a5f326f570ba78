"""create_table: once, usable when it returns, and never the wrong one."""

import copy
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError, WaiterError

from recipes.dynamodb.create_table import PURCHASE, ensure_table, keys


@pytest.fixture
def client(resource):
    return resource.meta.client


def index(name: str, attribute: str) -> dict:
    """The definition with one index more, over one attribute more."""
    changed = copy.deepcopy(PURCHASE)
    changed["AttributeDefinitions"].append(
        {"AttributeName": attribute, "AttributeType": "S"}
    )
    changed["GlobalSecondaryIndexes"] = [
        {
            "IndexName": name,
            "KeySchema": [{"AttributeName": attribute, "KeyType": "HASH"}],
            "Projection": {"ProjectionType": "ALL"},
        }
    ]
    return changed


def test_creates_the_table(client, resource):
    """The table is there, on demand, and items can be stored at once."""
    assert ensure_table(client, PURCHASE)
    found = client.describe_table(TableName="purchase")["Table"]
    assert found["TableStatus"] == "ACTIVE"
    assert found["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert keys(found) == {"": [("customer", "S"), ("number", "N")]}
    table = resource.Table("purchase")
    table.put_item(Item={"customer": "anna", "number": 1, "color": "red"})
    assert table.scan()["Count"] == 1


def test_again(client, resource):
    """A second call finds the table, and its items stay."""
    ensure_table(client, PURCHASE)
    resource.Table("purchase").put_item(Item={"customer": "anna", "number": 1})
    assert not ensure_table(client, PURCHASE)
    assert resource.Table("purchase").scan()["Count"] == 1


def test_at_the_same_time(client):
    """Of eight programs that start together one makes the table, and no one fails."""
    start = Barrier(8)

    def run(_: int) -> bool:
        start.wait()
        return ensure_table(client, PURCHASE)

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(run, range(8))) == [False] * 7 + [True]


@pytest.mark.parametrize("created", [True, False], ids=["ours", "of-another-program"])
def test_waits(client, stage, open_resource, created):
    """While the table is being made it waits, also when another program makes it."""
    if not created:
        ensure_table(client, PURCHASE)
    statuses = iter(["CREATING", "CREATING"])

    def describe(request, ask):
        answer = ask(request)
        answer["Table"]["TableStatus"] = next(statuses, "ACTIVE")
        return answer

    stage.plays["DescribeTable"] = describe
    behind = open_resource(stage.url).meta.client
    assert ensure_table(behind, PURCHASE, every=0) is created
    assert next(statuses, None) is None


def test_gives_up(stage, open_resource):
    """A table that cannot be used in time is an error."""

    def describe(request, ask):
        answer = ask(request)
        answer["Table"]["TableStatus"] = "CREATING"
        return answer

    stage.plays["DescribeTable"] = describe
    with pytest.raises(WaiterError, match="Max attempts exceeded"):
        ensure_table(open_resource(stage.url).meta.client, PURCHASE, every=0, tries=3)
    assert stage.calls.count("DescribeTable") == 3


def test_another_key(client):
    """A table of that name with another key is an error, not a surprise later."""
    ensure_table(client, PURCHASE)
    other = copy.deepcopy(PURCHASE)
    other["AttributeDefinitions"][1]["AttributeType"] = "S"
    with pytest.raises(ValueError, match="the table purchase has other keys"):
        ensure_table(client, other)


def test_another_index(client):
    """A table that lacks an index, or has one of another key, is an error."""
    ensure_table(client, index("by_shop", "shop"))
    assert not ensure_table(client, index("by_shop", "shop"))
    for other in (PURCHASE, index("by_shop", "city")):
        with pytest.raises(ValueError, match="by_shop"):
            ensure_table(client, other)


def test_local_index(client):
    """A local secondary index is compared as well."""
    local = index("by_shop", "shop")
    (one,) = local.pop("GlobalSecondaryIndexes")
    one["KeySchema"] = [
        {"AttributeName": "customer", "KeyType": "HASH"},
        {"AttributeName": "shop", "KeyType": "RANGE"},
    ]
    local["LocalSecondaryIndexes"] = [one]
    assert ensure_table(client, local)
    assert not ensure_table(client, local)
    with pytest.raises(ValueError, match="by_shop"):
        ensure_table(client, PURCHASE)


def test_protected(client):
    """The table cannot be deleted by mistake."""
    ensure_table(client, PURCHASE)
    with pytest.raises(ClientError) as caught:
        client.delete_table(TableName="purchase")
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert client.list_tables()["TableNames"] == ["purchase"]


def test_error_reaches_the_caller(client):
    """A definition that DynamoDB refuses is an error, and there is no table."""
    bad = copy.deepcopy(PURCHASE)
    bad["AttributeDefinitions"].append({"AttributeName": "x", "AttributeType": "S"})
    with pytest.raises(ClientError, match="ValidationException"):
        ensure_table(client, bad)
    assert client.list_tables()["TableNames"] == []


# --8<-- [start:wrong]
def create_as_copied(client):
    try:
        client.create_table(
            TableName="purchase",
            KeySchema=[{"AttributeName": "customer", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "customer", "AttributeType": "S"}],
            ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 5},
        )
    except Exception as error:
        print(f"Table error: {error}")


# --8<-- [end:wrong]


def test_often_copied_goes_on_without_a_server(open_resource, fault_proxy, dynamodb):
    """Often copied: nothing answers, an error is printed, and the program goes on."""
    proxy = fault_proxy(dynamodb)
    proxy.close()
    config = Config(retries={"total_max_attempts": 1})
    client = open_resource(proxy.url, config).meta.client
    create_as_copied(client)
    with pytest.raises(EndpointConnectionError):
        ensure_table(client, PURCHASE)


def test_often_copied_takes_another_table_for_its_own(client, capsys):
    """Often copied: a table with another key is there, and that passes as well."""
    ensure_table(client, PURCHASE)
    create_as_copied(client)
    assert capsys.readouterr().out.startswith("Table error: ")
    with pytest.raises(ClientError, match="key"):  # the first use finds it
        client.get_item(TableName="purchase", Key={"customer": "anna"})


def test_often_copied_five_units(client):
    """Often copied: five units a second are bought, whether they are used or not."""
    create_as_copied(client)
    found = client.describe_table(TableName="purchase")["Table"]
    assert found["ProvisionedThroughput"]["WriteCapacityUnits"] == 5
