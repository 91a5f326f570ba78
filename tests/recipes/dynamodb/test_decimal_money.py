"""decimal_money: not a cent more or less, by boto3 or by PynamoDB."""

import json
from decimal import Decimal, Inexact
from typing import Any

import pytest
from botocore.exceptions import ClientError
from pynamodb.attributes import NumberAttribute, UnicodeAttribute
from pynamodb.exceptions import PutError
from pynamodb.models import Model

from recipes.dynamodb import decimal_money, decimal_money_pynamodb
from recipes.dynamodb.decimal_money_pynamodb import Entry
from tests.recipes.dynamodb.conftest import connected


class WithBoto3:
    def __init__(self, table: Any) -> None:
        self.table = table

    def book(self, amount: Any, entry: str = "1", account: str = "anna") -> None:
        decimal_money.book(self.table, account, entry, amount)

    def balance(self, account: str = "anna") -> Decimal:
        return decimal_money.balance(self.table, account)


class WithPynamoDB:
    def book(self, amount: Any, entry: str = "1", account: str = "anna") -> None:
        decimal_money_pynamodb.book(account, entry, amount)

    def balance(self, account: str = "anna") -> Decimal:
        return decimal_money_pynamodb.balance(account)


@pytest.fixture
def table(resource):
    return resource.create_table(
        TableName="entry",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": "account", "AttributeType": "S"},
            {"AttributeName": "entry", "AttributeType": "S"},
        ],
        KeySchema=[
            {"AttributeName": "account", "KeyType": "HASH"},
            {"AttributeName": "entry", "KeyType": "RANGE"},
        ],
    )


@pytest.fixture(params=["boto3", "pynamodb"])
def bank(request, table, aws):
    """Each of the two ways."""
    with connected(Entry):
        yield WithBoto3(table) if request.param == "boto3" else WithPynamoDB()


def test_exact(bank):
    """Ten times ten cents are one unit, to the cent."""
    for number in range(10):
        bank.book(Decimal("0.10"), str(number))
    assert str(bank.balance()) == "1.00"


def test_beyond_a_float(bank):
    """Cents survive in amounts whose sum a float cannot hold."""
    for number in range(3):
        bank.book(Decimal("999999999999.99"), str(number))
    bank.book(Decimal("-0.01"), "4")
    assert bank.balance() == Decimal("2999999999999.96")


def test_two_decimals(bank, table):
    """100.10 is stored as a number, and read back with both of its decimals."""
    bank.book(Decimal("100.10"))
    assert str(bank.balance()) == "100.10"
    (item,) = table.scan()["Items"]
    assert item["amount"] == Decimal("100.1")
    assert str(decimal_money.cents(Decimal("100.1"))) == "100.10"
    assert str(Entry.get("anna", "1").amount) == "100.10"


def test_nothing_booked(bank):
    """An account without entries has nothing."""
    assert str(bank.balance()) == "0.00"


def test_of_one_account(bank):
    """The entries of another account do not count."""
    bank.book(Decimal("5.00"))
    bank.book(Decimal("7.00"), account="ben")
    assert bank.balance() == 5


def test_same_entry_again(bank):
    """An entry that is sent twice counts once."""
    bank.book(Decimal("5.00"))
    bank.book(Decimal("5.00"))
    assert bank.balance() == 5


def test_another_amount(bank):
    """An entry that is there with another amount is an error, and stays."""
    bank.book(Decimal("5.00"))
    with pytest.raises(ValueError, match="entry 1 of anna has another amount"):
        bank.book(Decimal("5.01"))
    assert bank.balance() == 5


@pytest.mark.parametrize(
    "amount", ["0.005", "1E-30", "NaN", "Infinity", "1E+12", "-1E+40"]
)
def test_no_amount(bank, table, amount):
    """A fraction of a cent, NaN, infinity, or a trillion is refused."""
    with pytest.raises(ValueError, match="no amount of whole cents"):
        bank.book(Decimal(amount))
    assert table.scan()["Count"] == 0


@pytest.mark.parametrize("amount", [0.1, 5, "5.00"])
def test_no_decimal(bank, table, amount):
    """A float is refused; so is whatever else is no Decimal."""
    with pytest.raises(TypeError, match="is not a Decimal"):
        bank.book(amount)
    assert table.scan()["Count"] == 0


def test_all_pages(table):
    """More entries than an answer holds: the sum is of all of them."""
    with table.batch_writer() as batch:
        for number in range(30):
            item = {"account": "anna", "entry": f"{number}", "amount": Decimal("0.10")}
            batch.put_item(Item={**item, "text": "x" * 50_000})
    assert decimal_money.balance(table, "anna") == 3


def test_other_errors_reach_the_caller(bank, table):
    """No such table, say: the error reaches the caller."""
    table.delete()
    with pytest.raises((ClientError, PutError), match="ResourceNotFound"):
        bank.book(Decimal(1))


# --8<-- [start:wrong]
def book_as_copied(table, account, entry, amount):
    item = {"account": account, "entry": entry, "amount": amount}  # a float
    # Float types are not supported, so:
    table.put_item(Item=json.loads(json.dumps(item), parse_float=Decimal))


class Payment(Model):
    class Meta:
        table_name = "payment"
        billing_mode = "PAY_PER_REQUEST"

    number = UnicodeAttribute(hash_key=True)
    amount = NumberAttribute()


# --8<-- [end:wrong]


def test_often_copied_stores_the_error_of_the_float(table):
    """Often copied: 0.1 + 0.2 arrives as 0.30000000000000004, and is not 0.3."""
    book_as_copied(table, "anna", "1", 0.1 + 0.2)
    (item,) = table.scan()["Items"]
    assert item["amount"] == Decimal("0.30000000000000004")


def test_often_copied_refuses_the_float_only_later(table):
    """Often copied: `Decimal(0.1 + 0.2)` is no way out: boto3 refuses its digits."""
    with pytest.raises(Inexact):
        table.put_item(
            Item={"account": "a", "entry": "1", "amount": Decimal(0.1 + 0.2)}
        )


def test_often_copied_number_attribute(aws, resource):
    """Often copied: PynamoDB's `NumberAttribute` stores the float, and loses digits."""
    with connected(Payment):
        Payment.create_table(wait=True)
        Payment("1", amount=0.1 + 0.2).save()
        (item,) = resource.Table("payment").scan()["Items"]
        assert item["amount"] == Decimal("0.30000000000000004")
        exact = Decimal("9007199254740993.01")
        resource.Table("payment").put_item(Item={"number": "2", "amount": exact})
        assert Payment.get("2").amount == 9007199254740994.0
        with pytest.raises(TypeError, match="not JSON serializable"):
            Payment("3", amount=Decimal("0.30")).save()
