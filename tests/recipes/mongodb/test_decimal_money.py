from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal, Inexact

import pytest
from bson import Decimal128
from bson.errors import InvalidDocument

from recipes.mongodb.decimal_money import deposit, to_cents, total, with_decimals


@pytest.fixture
def accounts(db):
    """Accounts that hold 10.00 and 9007199254740993.00."""
    accounts = with_decimals(db)["account"]
    accounts.insert_many(
        [
            {"_id": "anna", "balance": Decimal("10.00")},
            {"_id": "large", "balance": Decimal("9007199254740993.00")},
        ]
    )
    return accounts


def balance(accounts, account="anna"):
    return accounts.find_one({"_id": account})["balance"]


def test_decimal_in_decimal_out(accounts, db):
    """Decimal goes in and comes out, with its places; the database holds a decimal."""
    assert str(balance(accounts)) == "10.00"
    assert type(balance(accounts)) is Decimal
    assert db["account"].find_one({"balance": {"$type": "decimal"}})
    assert db["account"].find_one()["balance"] == Decimal128("10.00")


def test_nested(accounts):
    """Decimals in lists and in documents inside come back as well."""
    accounts.insert_one({"_id": "x", "lines": [{"price": Decimal("1.10")}]})
    assert accounts.find_one({"_id": "x"})["lines"] == [{"price": Decimal("1.10")}]


def test_exact(accounts):
    """Thirty times 0.10 are exactly 3.00; so is a cent on top of what a
    float cannot hold."""
    for _ in range(30):
        deposit(accounts, "anna", Decimal("0.10"))
    assert balance(accounts) == Decimal("13.00")
    after = deposit(accounts, "large", Decimal("0.01"))
    assert after == Decimal("9007199254740993.01")


def test_compared_exactly(accounts):
    """Queries compare exactly: one cent more than the balance is not found."""
    limit = Decimal("9007199254740993.00")
    assert accounts.count_documents({"balance": {"$gte": limit}}) == 1
    limit += Decimal("0.01")
    assert accounts.count_documents({"balance": {"$gte": limit}}) == 0


def test_total(accounts):
    """The sum of the server is exact, and zero where there is nothing."""
    assert total(accounts) == Decimal("9007199254741003.00")
    accounts.delete_many({})
    assert total(accounts) == 0


def test_withdrawal(accounts):
    """A negative amount is taken out, down to zero."""
    assert deposit(accounts, "anna", Decimal("-10")) == 0


@pytest.mark.parametrize(
    ("account", "amount"), [("anna", "-10.01"), ("nobody", "1"), ("nobody", "-1")]
)
def test_refused(accounts, account, amount):
    """Not enough in the account, or no such account: LookupError, nothing changes."""
    with pytest.raises(LookupError, match=account):
        deposit(accounts, account, Decimal(amount))
    assert balance(accounts) == 10
    assert accounts.count_documents({}) == 2


@pytest.mark.parametrize("amount", ["NaN", "sNaN", "Infinity", "0.005", "-0.001"])
def test_no_amount(accounts, amount):
    """NaN, infinity and a fraction of a cent are refused, and nothing changes."""
    with pytest.raises(ValueError, match="is no amount"):
        deposit(accounts, "anna", Decimal(amount))
    assert balance(accounts) == 10


@pytest.mark.parametrize("amount", [0.1, 1, "1.00"])
def test_no_decimal(accounts, amount):
    """A float, an int or a string in place of a Decimal is a TypeError."""
    with pytest.raises(TypeError, match="no Decimal"):
        deposit(accounts, "anna", amount)


def test_two_places():
    """Whole amounts get their two places."""
    assert str(to_cents(Decimal(5))) == "5.00"
    assert str(to_cents(Decimal("1E+2"))) == "100.00"


def test_at_the_same_time(accounts):
    """Eight threads take 2.50 out of 10.00: four succeed, nothing is overdrawn."""

    def take(_):
        try:
            return bool(deposit(accounts, "anna", Decimal("-2.50")) >= 0)
        except LookupError:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(take, range(8))) == [False] * 4 + [True] * 4
    assert balance(accounts) == 0


def test_too_many_digits(accounts):
    """35 digits are an error; nothing is rounded in silence."""
    with pytest.raises(Inexact):
        accounts.insert_one({"balance": Decimal("1." + "1" * 35)})


# --8<-- [start:wrong]
def deposit_as_often_copied(accounts, account, amount):
    accounts.update_one({"_id": account}, {"$inc": {"balance": amount}})


# --8<-- [end:wrong]


def test_often_copied_float(db):
    """Often copied: three times 0.1 is 0.30000000000000004, and not found as 0.3."""
    db["account"].insert_one({"_id": "anna", "balance": 0.0})
    for _ in range(3):
        deposit_as_often_copied(db["account"], "anna", 0.1)
    assert db["account"].find_one()["balance"] == 0.30000000000000004
    assert db["account"].find_one({"balance": 0.3}) is None


def test_often_copied_loses_a_cent(db):
    """Often copied: a cent on top of 9007199254740992 disappears."""
    db["account"].insert_one({"_id": "large", "balance": 9007199254740992.0})
    deposit_as_often_copied(db["account"], "large", 0.01)
    assert db["account"].find_one()["balance"] == 9007199254740992.0


def test_often_copied_unknown_account(db):
    """Often copied: a deposit for an account that does not exist is gone silently."""
    deposit_as_often_copied(db["account"], "nobody", 5)
    assert db["account"].count_documents({}) == 0


def test_often_copied_without_codec(db):
    """Often copied: without a codec, pymongo refuses Decimal; hence all the floats."""
    with pytest.raises(InvalidDocument, match=r"decimal\.Decimal"):
        db["account"].insert_one({"balance": Decimal("1.00")})
