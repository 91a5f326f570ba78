from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from pymongo.errors import DuplicateKeyError

from recipes.mongodb.crud import add, in_stock, put, remove, rename, take


@pytest.fixture
def products(db):
    """A collection with five packets of tea."""
    add(db["product"], {"sku": "tea", "name": "Tea", "stock": 5})
    return db["product"]


def stock(products, sku="tea"):
    return products.find_one({"_id": sku})["stock"]


def test_adds_once(products):
    """A second product with the same SKU is refused; the first one stays."""
    with pytest.raises(DuplicateKeyError):
        add(products, {"sku": "tea", "name": "Other tea", "stock": 1})
    assert products.find_one()["name"] == "Tea"


def test_leaves_the_dict_of_the_caller_alone(products):
    """The caller's dict stays as it was."""
    cup = {"sku": "cup", "name": "Cup", "stock": 1}
    add(products, cup)
    assert cup == {"sku": "cup", "name": "Cup", "stock": 1}


@pytest.mark.parametrize("missing", ["sku", "stock"])
def test_incomplete_product(products, missing):
    """A product without SKU or stock is a KeyError, and nothing is stored."""
    product = {"sku": "cup", "name": "Cup", "stock": 1}
    del product[missing]
    with pytest.raises(KeyError, match=missing):
        add(products, product)
    assert products.count_documents({}) == 1


def test_put(products):
    """An upsert makes what is missing with its first values, and later changes the
    name alone."""
    assert put(products, "cup", "Cup")
    products.update_one({"_id": "cup"}, {"$inc": {"stock": 3}})
    assert not put(products, "cup", "Large cup")
    expected = {"_id": "cup", "sku": "cup", "name": "Large cup", "stock": 3}
    assert products.find_one({"_id": "cup"}) == expected


def test_put_at_the_same_time(products):
    """Eight threads that put the same product make it once."""
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: put(products, "cup", "Cup"), range(8)))
    assert sorted(made) == [False] * 7 + [True]


def test_reads_in_order(products):
    """What is read has the fields that were asked for, in order, and enough stock."""
    for sku, count in [("b", 9), ("a", 9), ("none", 0)]:
        add(products, {"sku": sku, "name": sku.upper(), "stock": count, "note": "x"})
    assert list(in_stock(products)) == [
        {"sku": "a", "name": "A", "stock": 9},
        {"sku": "b", "name": "B", "stock": 9},
        {"sku": "tea", "name": "Tea", "stock": 5},
    ]
    assert [found["sku"] for found in in_stock(products, 9)] == ["a", "b"]


def test_takes(products):
    """Taking returns what is left, down to zero."""
    assert take(products, "tea", 2) == 3
    assert take(products, "tea", 3) == 0
    assert stock(products) == 0


@pytest.mark.parametrize(("sku", "count"), [("tea", 6), ("coffee", 1)])
def test_not_enough(products, sku, count):
    """Not enough, or no such product: LookupError, and nothing is taken."""
    with pytest.raises(LookupError, match=sku):
        take(products, sku, count)
    assert stock(products) == 5
    assert products.count_documents({}) == 1


@pytest.mark.parametrize("count", [0, -1])
def test_takes_no_negative_count(products, count):
    """To take a negative number would add to the stock: ValueError."""
    with pytest.raises(ValueError, match="cannot take"):
        take(products, "tea", count)
    assert stock(products) == 5


def test_takes_at_the_same_time(products):
    """Eight threads take from five packets: five get one, three a LookupError."""

    def try_to_take(_):
        try:
            return take(products, "tea", 1)
        except LookupError:
            return None

    with ThreadPoolExecutor(8) as pool:
        left = list(pool.map(try_to_take, range(8)))
    assert sorted(number for number in left if number is not None) == [0, 1, 2, 3, 4]
    assert stock(products) == 0


def test_renames(products):
    """A new name; the same name again is no error."""
    for _ in range(2):
        rename(products, "tea", "Green tea")
    assert products.find_one() == {
        "_id": "tea",
        "sku": "tea",
        "name": "Green tea",
        "stock": 5,
    }


def test_renames_nothing(products):
    """To rename a product that is not there is a LookupError; none is made."""
    with pytest.raises(LookupError, match="coffee"):
        rename(products, "coffee", "Coffee")
    assert products.count_documents({}) == 1


def test_removes_once(products):
    """The second deletion says that there was nothing left to delete."""
    assert [remove(products, "tea") for _ in range(2)] == [True, False]


@pytest.mark.parametrize("sku", [{"$ne": ""}, {"$gt": ""}])
def test_an_operator_is_no_sku(products, sku):
    """An operator that a client sent in place of a SKU matches no product."""
    with pytest.raises(LookupError):
        take(products, sku, 1)
    with pytest.raises(LookupError):
        rename(products, sku, "mine")
    assert not remove(products, sku)
    assert stock(products) == 5


# --8<-- [start:wrong]
def take_as_often_copied(products, sku, count):
    product = products.find_one({"_id": sku})
    if product["stock"] >= count:
        stock = product["stock"] - count
        products.update_one({"_id": sku}, {"$set": {"stock": stock}})


# --8<-- [end:wrong]


def test_often_copied_loses_an_update(products):
    """Often copied: two buyers look at the same time, and both get the last packet."""

    class Together:
        """The collection; nobody writes before both have looked."""

        looked = Barrier(2)

        def find_one(self, query):
            found = products.find_one(query)
            self.looked.wait(10)
            return found

        update_one = products.update_one

    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            pool.submit(take_as_often_copied, Together(), "tea", 5)
    assert stock(products) == 0  # of five packets, ten were taken


# --8<-- [start:wrong_filter]
def sign_in_as_often_copied(accounts, request):
    return accounts.find_one({"name": request["name"], "token": request["token"]})


# --8<-- [end:wrong_filter]


def test_often_copied_lets_anybody_in(db):
    """Often copied: JSON from a client goes into the filter, and `{"$ne": ""}` is
    every token."""
    db["account"].insert_one({"name": "anna", "token": "secret"})
    request = {"name": "anna", "token": {"$ne": ""}}
    assert sign_in_as_often_copied(db["account"], request)["token"] == "secret"


def test_often_copied_insert_changes_the_dict(db):
    """Often copied: insert_one writes `_id` into the dict, so the second insert of
    that dict fails."""
    document = {"name": "Cup"}
    db["product"].insert_one(document)
    assert "_id" in document
    with pytest.raises(DuplicateKeyError):
        db["product"].insert_one(document)
