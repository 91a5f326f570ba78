import time

import pytest
from pymongo import MongoClient
from pymongo.errors import AutoReconnect

from recipes.mongodb.retry_writes import count_visit, repeat, reward


@pytest.fixture
def proxy(mongodb_replica_set, fault_proxy):
    return fault_proxy(mongodb_replica_set)


@pytest.fixture
def db(proxy):
    """A database behind the proxy, with three customers of 10 points."""
    with MongoClient(proxy.url, timeoutMS=10_000) as client:
        db = client.get_default_database()
        db["customer"].insert_many({"_id": n, "points": 10} for n in range(3))
        yield db


@pytest.fixture
def without_retries(proxy):
    """The same, by a client that repeats nothing."""
    with MongoClient(proxy.url, retryWrites=False, timeoutMS=10_000) as client:
        db = client.get_default_database()
        db["page"].find_one()  # connected
        yield db


def visits(db):
    return db["page"].find_one({"_id": "/start"})["visits"]


def points(db):
    return [customer["points"] for customer in db["customer"].find().sort("_id")]


@pytest.mark.parametrize("cut", ["cut_before", "cut_answer_to"])
def test_one_document_once(proxy, db, cut):
    """The line is cut before a write to one document, or before its answer: the driver
    repeats it, and it counts once."""
    getattr(proxy, cut)(b"$inc")
    count_visit(db["page"], "/start")
    assert proxy.was_cut.is_set()
    assert visits(db) == 1


def test_insert_once(proxy, db):
    """An insert whose answer was lost is there once."""
    proxy.cut_answer_to(b"lost")
    db["page"].insert_one({"name": "lost"})
    assert proxy.was_cut.is_set()
    assert db["page"].count_documents({"name": "lost"}) == 1


def test_insert_many_once(proxy, db):
    """So is each document of an insert_many."""
    proxy.cut_answer_to(b"lost")
    db["page"].insert_many({"name": "lost"} for _ in range(3))
    assert proxy.was_cut.is_set()
    assert db["page"].count_documents({"name": "lost"}) == 3


def test_many_documents_are_not_repeated(proxy, db):
    """A write to many documents is not repeated by the driver: AutoReconnect, though
    the server has done it."""
    proxy.cut_answer_to(b"$push")
    with pytest.raises(AutoReconnect):
        reward(db["customer"], "winter", 100)
    assert points(db) == [110, 110, 110]


@pytest.mark.parametrize("cut", ["cut_before", "cut_answer_to"])
def test_repeated_by_hand(proxy, db, cut):
    """Repeated with the mark, each customer is rewarded once, whatever was lost."""
    getattr(proxy, cut)(b"$push")
    repeat(lambda: reward(db["customer"], "winter", 100), pauses=(0.01, 0.1))
    assert proxy.was_cut.is_set()
    assert points(db) == [110, 110, 110]


def test_half_done(db):
    """Who was rewarded before gets nothing more; the rest is completed."""
    done = {"$set": {"points": 110, "campaigns": ["winter"]}}
    db["customer"].update_one({"_id": 1}, done)
    assert reward(db["customer"], "winter", 100) == 2
    assert points(db) == [110, 110, 110]


def test_next_campaign(db):
    """Another campaign counts again."""
    assert reward(db["customer"], "winter", 100) == 3
    assert reward(db["customer"], "spring", 1) == 3
    assert points(db) == [111, 111, 111]


def test_gives_up():
    """It tries once more after each pause, then the error reaches the caller."""
    calls = []

    def fail():
        calls.append(1)
        raise AutoReconnect("lost")

    with pytest.raises(AutoReconnect):
        repeat(fail, pauses=(0, 0))
    assert len(calls) == 3


def test_other_errors_are_not_repeated():
    """Another error is an answer: it is not tried again."""
    calls = []

    def fail():
        calls.append(1)
        raise LookupError

    with pytest.raises(LookupError):
        repeat(fail)
    assert len(calls) == 1


# --8<-- [start:wrong]
def retry_as_often_copied(write):
    for _ in range(3):
        try:
            return write()
        except AutoReconnect:
            time.sleep(0.1)
    return None


# --8<-- [end:wrong]


def test_often_copied_counts_twice(proxy, without_retries):
    """Often copied: with `retryWrites=false` and a loop, a lost answer counts twice."""
    proxy.cut_answer_to(b"$inc")
    retry_as_often_copied(lambda: count_visit(without_retries["page"], "/start"))
    assert visits(without_retries) == 2


def test_often_copied_rewards_twice(proxy, db):
    """Often copied: a loop around update_many rewards everybody twice."""
    change = {"$inc": {"points": 100}}
    proxy.cut_answer_to(b"$inc")
    retry_as_often_copied(lambda: db["customer"].update_many({}, change))
    assert points(db) == [210, 210, 210]


def test_often_copied_gives_no_error():
    """Often copied: after the last attempt the loop returns None, as if all were
    well."""

    def fail():
        raise AutoReconnect("lost")

    assert retry_as_often_copied(fail) is None
