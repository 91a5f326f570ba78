"""conditional_put: nobody's item is overwritten, by boto3 or by PynamoDB."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from threading import Barrier
from typing import Any

import pytest
from boto3.dynamodb.types import Binary
from botocore.exceptions import ClientError
from pynamodb.exceptions import PutError

from recipes.dynamodb import conditional_put, conditional_put_pynamodb
from recipes.dynamodb.conditional_put_pynamodb import Account
from tests.recipes.dynamodb.conftest import connected

ANNA = {"email": "anna@example.com", "name": "Anna"}


class WithBoto3:
    def __init__(self, resource: Any) -> None:
        self.table = resource.Table("account")

    def create(self, item: dict) -> bool:
        return conditional_put.create(self.table, item)

    def replace(self, item: dict) -> str:
        return conditional_put.replace(self.table, item)["name"]


class WithPynamoDB:
    def create(self, item: dict) -> bool:
        return conditional_put_pynamodb.create(Account(**item))

    def replace(self, item: dict) -> str:
        return conditional_put_pynamodb.replace(Account(**item)).name


@pytest.fixture
def table(resource):
    resource.create_table(
        TableName="account",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "email", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "email", "KeyType": "HASH"}],
    )
    return resource.Table("account")


@pytest.fixture(params=["boto3", "pynamodb"])
def driver(request, aws, open_resource):
    """Make one of the two, for an address."""

    @contextmanager
    def make(address: str):
        aws(address)
        if request.param == "boto3":
            yield WithBoto3(open_resource(address, conditional_put.CONFIG))
        else:
            with connected(Account):
                yield WithPynamoDB()

    return make


@pytest.fixture
def accounts(driver, dynamodb, table):
    with driver(dynamodb) as one:
        yield one


def stored(table) -> list[dict]:
    return table.scan(ConsistentRead=True)["Items"]


def test_creates(accounts, table):
    """A new item is stored."""
    assert accounts.create(ANNA)
    assert stored(table) == [ANNA]


def test_taken(accounts, table):
    """A key that belongs to another item is an error, and that item stays."""
    accounts.create(ANNA)
    with pytest.raises(ValueError, match=r"anna@example\.com is taken"):
        accounts.create({**ANNA, "name": "Another Anna"})
    assert stored(table) == [ANNA]


def test_same_item_again(accounts, table):
    """The same item again is no error, and changes nothing."""
    assert [accounts.create(ANNA) for _ in range(2)] == [True, False]
    assert stored(table) == [ANNA]


def test_at_the_same_time(accounts, table):
    """Of eight who want the same key at the same moment, one gets it."""
    start = Barrier(8)

    def run(number: int) -> str | None:
        start.wait()
        try:
            accounts.create({**ANNA, "name": f"Anna {number}"})
        except ValueError:
            return None
        return f"Anna {number}"

    with ThreadPoolExecutor(8) as pool:
        winners = [name for name in pool.map(run, range(8)) if name]
    assert [item["name"] for item in stored(table)] == winners


def test_lost_answer(driver, table, dynamodb, fault_proxy):
    """The answer is lost: the client's own retry finds the item, which is no error."""
    proxy = fault_proxy(dynamodb)
    proxy.cut_answer_to(b"DynamoDB_20120810.PutItem")
    with driver(proxy.url) as accounts:
        assert accounts.create(ANNA) is False
    assert proxy.was_cut.is_set()
    assert stored(table) == [ANNA]


def test_replaces_what_is_there(accounts, table):
    """Replacing an item that is there works, and leaves no other trace."""
    accounts.create(ANNA)
    accounts.replace({**ANNA, "name": "Anna B."})
    assert stored(table) == [{**ANNA, "name": "Anna B."}]


def test_replaces_nothing_else(accounts, table):
    """Replacing an item that is not there is an error, and creates nothing."""
    with pytest.raises(LookupError, match=r"anna@example\.com"):
        accounts.replace(ANNA)
    assert stored(table) == []


def test_other_errors_reach_the_caller(accounts, table):
    """No such table, say: the error of the driver reaches the caller."""
    table.delete()
    for call in (accounts.create, accounts.replace):
        with pytest.raises((ClientError, PutError)) as caught:
            call(ANNA)
        error = caught.value.__cause__ or caught.value
        assert "ResourceNotFoundException" in str(error)


def test_compares_every_type(table):
    """The same item again is recognised whatever it holds."""
    item = {
        **ANNA,
        "number": Decimal("30.10"),
        "bytes": Binary(b"\x00"),
        "set": {"a", "b"},
        "map": {"list": [1, None, True]},
    }
    assert [conditional_put.create(table, item) for _ in range(2)] == [True, False]


# --8<-- [start:wrong]
def create_as_copied(table, item):
    if "Item" not in table.get_item(Key={"email": item["email"]}):
        table.put_item(Item=item)


# --8<-- [end:wrong]


def test_often_copied_both_look_then_both_write(table):
    """Often copied: two look, see nothing, and write; the first account is gone."""
    both_have_looked = Barrier(2)

    class Paused:
        def get_item(self, **asked):
            answer = table.get_item(**asked)
            both_have_looked.wait()
            return answer

        def put_item(self, **asked):
            return table.put_item(**asked)

    with ThreadPoolExecutor(2) as pool:
        names = ("Anna", "Another Anna")
        done = [
            pool.submit(create_as_copied, Paused(), {**ANNA, "name": name})
            for name in names
        ]
        assert [future.result() for future in done] == [None, None]  # both are content
    assert len(stored(table)) == 1


def test_often_copied_save_replaces(accounts, table, aws):
    """Often copied: a plain `put_item` or `save()` replaces the account silently."""
    table.put_item(Item={**ANNA, "name": "Anna", "plan": "paid"})
    table.put_item(Item={**ANNA, "name": "Another Anna"})
    assert stored(table) == [{**ANNA, "name": "Another Anna"}]
    if isinstance(accounts, WithPynamoDB):
        Account(**{**ANNA, "name": "A third Anna"}).save()
        assert stored(table) == [{**ANNA, "name": "A third Anna"}]
