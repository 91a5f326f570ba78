from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from pymongo.errors import DuplicateKeyError, OperationFailure

from recipes.mongodb.indexes import create_indexes, find_session, register

NOW = datetime(2126, 11, 21, 12, 0, tzinfo=UTC)  # nothing expires by itself in a test


@pytest.fixture
def made(db):
    """The database with its indexes."""
    create_indexes(db)
    return db


def test_creates(db):
    """The indexes are there under their names, with their keys and options."""
    assert create_indexes(db) == ["email_once", "by_customer", "expiry"]
    email = db["account"].index_information()["email_once"]
    assert email["unique"]
    assert email["partialFilterExpression"] == {"deleted": False}
    orders = db["order"].index_information()["by_customer"]
    assert orders["key"] == [("customer", 1), ("placed", -1)]
    assert db["session"].index_information()["expiry"]["expireAfterSeconds"] == 0


def test_again(made):
    """At the next start nothing changes."""
    before = made["account"].index_information()
    assert len(create_indexes(made)) == 3
    assert made["account"].index_information() == before


def test_defined_in_another_way(db):
    """An index of that name with other options is an error: OperationFailure."""
    db["account"].create_index("email", name="email_once")
    with pytest.raises(OperationFailure) as raised:
        create_indexes(db)
    assert raised.value.code in (85, 86)
    assert not db["account"].index_information()["email_once"].get("unique")


def test_duplicates_are_there_already(db):
    """A unique index over duplicates is refused, and not made."""
    for _ in range(2):
        db["account"].insert_one({"email": "a@example.com", "deleted": False})
    with pytest.raises(OperationFailure) as raised:
        create_indexes(db)
    assert raised.value.code == 11000
    assert "email_once" not in db["account"].index_information()


def test_taken(made):
    """An address that is taken is refused, in capitals too."""
    register(made["account"], "anna@example.com")
    with pytest.raises(ValueError, match="taken"):
        register(made["account"], "ANNA@example.com")
    assert made["account"].count_documents({}) == 1


def test_free_again(made):
    """After a deletion the address is free; deleted ones may repeat."""
    for _ in range(3):
        register(made["account"], "anna@example.com")
        made["account"].update_one({"deleted": False}, {"$set": {"deleted": True}})
    register(made["account"], "anna@example.com")
    assert made["account"].count_documents({"deleted": True}) == 3


@pytest.mark.parametrize("email", ["", "anna"])
def test_no_address(made, email):
    """What is no address is a ValueError, and nothing is stored."""
    with pytest.raises(ValueError, match="no address"):
        register(made["account"], email)
    assert made["account"].count_documents({}) == 0


def test_at_the_same_time(made):
    """Eight threads register the same address: one of them gets it."""

    def attempt(_):
        try:
            register(made["account"], "anna@example.com")
        except ValueError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(attempt, range(8))) == [False] * 7 + [True]


def test_session_until_it_expires(made):
    """A session counts until its time, to the millisecond, though it is stored
    longer."""
    expires = NOW + timedelta(minutes=20)
    made["session"].insert_one({"_id": "t1", "expires": expires})
    just_before = expires - timedelta(milliseconds=1)
    assert find_session(made["session"], "t1", just_before)["expires"] == expires
    assert find_session(made["session"], "t1", expires) is None
    assert made["session"].count_documents({}) == 1


@pytest.mark.parametrize("token", ["other", {"$ne": ""}])
def test_no_such_session(made, token):
    """Another token, or an operator in its place, finds nothing."""
    made["session"].insert_one({"_id": "t1", "expires": NOW + timedelta(minutes=20)})
    assert find_session(made["session"], token, NOW) is None


# --8<-- [start:wrong]
def register_as_often_copied(accounts, email):
    if accounts.find_one({"email": email}):
        raise ValueError(f"{email} is taken")
    accounts.insert_one({"email": email})


# --8<-- [end:wrong]


def test_often_copied_registers_twice(db):
    """Often copied: two that look at the same time both register."""

    class Together:
        """The collection; nobody writes before both have looked."""

        looked = Barrier(2)

        def find_one(self, query):
            found = db["account"].find_one(query)
            self.looked.wait(10)
            return found

        insert_one = db["account"].insert_one

    with ThreadPoolExecutor(2) as pool:
        ends = [
            pool.submit(register_as_often_copied, Together(), "anna@example.com")
            for _ in range(2)
        ]
    assert [end.exception() for end in ends] == [None, None]
    assert db["account"].count_documents({"email": "anna@example.com"}) == 2


def test_often_copied_null_is_a_value(db):
    """Often copied: a plain unique index lets only one document be without the
    field."""
    db["account"].create_index("email", unique=True)
    db["account"].insert_one({"name": "anna"})
    with pytest.raises(DuplicateKeyError):
        db["account"].insert_one({"name": "ben"})
