import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from recipes.mongodb.change_stream_resume import apply, changes


@pytest.fixture
def shop(set_db):
    """Orders, and a reader who has been there once."""
    set_db.create_collection("order")
    assert read(set_db) == []
    return set_db


def follow(db, reader="copier", **options):
    return changes(db["order"], db["place"], reader, wait=0.1, **options)


def read(db, reader="copier"):
    """What there is to read: kinds of changes and ids."""
    return [
        (change["operationType"], change["documentKey"]["_id"])
        for change in follow(db, reader)
    ]


def copy_all(db):
    for change in follow(db):
        apply(change, db["copy"])
    return sorted(db["copy"].find(), key=lambda document: document["_id"])


def test_starts_with_the_first_call(set_db):
    """The first call begins now: what was before is not delivered."""
    set_db["order"].insert_one({"_id": 0})
    assert read(set_db) == []
    set_db["order"].insert_one({"_id": 1})
    assert read(set_db) == [("insert", 1)]


def test_changes_while_nobody_listens(shop):
    """Changes made while nobody listens are delivered later, in order, once."""
    shop["order"].insert_many([{"_id": n} for n in (1, 2)])
    shop["order"].update_one({"_id": 1}, {"$set": {"paid": True}})
    shop["order"].delete_one({"_id": 2})
    assert read(shop) == [("insert", 1), ("insert", 2), ("update", 1), ("delete", 2)]
    assert read(shop) == []


def test_changes_while_it_listens(shop):
    """Changes that are made while it listens are delivered too."""
    shop["order"].insert_one({"_id": 1})
    stream = follow(shop)
    assert next(stream)["documentKey"] == {"_id": 1}
    shop["order"].insert_one({"_id": 2})
    assert next(stream)["documentKey"] == {"_id": 2}
    assert list(stream) == []


def test_crash(shop):
    """The work on a change fails: that change, and no earlier one, comes again."""
    shop["order"].insert_many([{"_id": n} for n in (1, 2, 3)])

    def work():
        for change in follow(shop):
            if change["documentKey"]["_id"] == 2:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert read(shop) == [("insert", 2), ("insert", 3)]


class Busy:
    """The places; an order comes in as soon as the first one is stored."""

    def __init__(self, db):
        self.db = db
        self.find_one, self.replace_one = db["place"].find_one, db["place"].replace_one

    def insert_one(self, place):
        self.db["place"].insert_one(place)
        self.db["order"].insert_one({"_id": 1})


def test_crash_at_the_very_first_change(set_db):
    """Also where it is the first change of all: the first call has stored its
    moment."""
    stream = changes(set_db["order"], Busy(set_db), "copier", wait=0.1)
    assert next(stream)["documentKey"] == {"_id": 1}
    stream.close()  # a crash: nobody asked for the next one
    assert read(set_db) == [("insert", 1)]


def test_readers_are_independent(shop):
    """Each reader has a place of its own."""
    assert read(shop, "mailer") == []
    shop["order"].insert_one({"_id": 1})
    assert read(shop) == [("insert", 1)]
    assert read(shop, "mailer") == [("insert", 1)]


def test_place_moves_on_without_changes(shop):
    """The place moves on while this collection is quiet and others are not, so a quiet
    reader does not fall off the end of the log."""
    before = shop["place"].find_one()["start_after"]
    shop["other"].insert_one({})
    assert read(shop) == []
    assert shop["place"].find_one()["start_after"] != before


def test_line_is_cut(shop, mongodb_replica_set, fault_proxy):
    """The line is cut between two changes: the stream goes on, and none is lost or
    doubled."""
    proxy = fault_proxy(mongodb_replica_set)
    shop["order"].insert_one({"_id": 1})
    with MongoClient(proxy.url, timeoutMS=10_000) as client:
        stream = follow(client.get_default_database())
        assert next(stream)["documentKey"] == {"_id": 1}
        proxy.reset_all()
        shop["order"].insert_one({"_id": 2})
        assert next(stream)["documentKey"] == {"_id": 2}
        assert list(stream) == []
    assert read(shop) == []


def test_bad_place(shop):
    """A place that the server does not know is an error that reaches the caller; the
    stream does not begin anew by itself."""
    bad = {"$set": {"start_after": {"_data": "00"}}}
    shop["place"].update_one({"_id": "copier"}, bad)
    shop["order"].insert_one({"_id": 1})
    with pytest.raises(OperationFailure):
        read(shop)


def test_copy_follows(shop):
    """Applied in order, the changes make a copy."""
    shop["order"].insert_many([{"_id": n, "status": "new"} for n in (1, 2, 3)])
    shop["order"].update_one({"_id": 1}, {"$set": {"status": "paid"}})
    shop["order"].replace_one({"_id": 3}, {"status": "other"})
    shop["order"].delete_one({"_id": 2})
    expected = [{"_id": 1, "status": "paid"}, {"_id": 3, "status": "other"}]
    assert copy_all(shop) == expected


def test_applied_twice(shop):
    """A change that is applied twice makes the same copy."""
    shop["order"].insert_one({"_id": 1, "n": 1})
    shop["order"].update_one({"_id": 1}, {"$inc": {"n": 1}})
    shop["order"].insert_one({"_id": 2})
    shop["order"].delete_one({"_id": 2})
    seen = list(follow(shop))
    for change in (*seen, *seen):
        apply(change, shop["copy"])
    assert list(shop["copy"].find()) == [{"_id": 1, "n": 2}]


def test_dropped(shop):
    """The collection is dropped: nothing is left to follow, and the caller hears it."""
    shop["order"].drop()
    with pytest.raises(RuntimeError, match="cannot follow: drop"):
        copy_all(shop)


# --8<-- [start:wrong]
def follow_as_often_copied(orders, wait_ms):
    with orders.watch(max_await_time_ms=wait_ms) as stream:
        while change := stream.try_next():
            yield change


# --8<-- [end:wrong]


def test_often_copied_loses_changes(shop):
    """Often copied: a change that is made while it is not running is never seen."""
    assert list(follow_as_often_copied(shop["order"], 100)) == []
    shop["order"].insert_one({"_id": 1})  # during the restart
    assert list(follow_as_often_copied(shop["order"], 100)) == []


# --8<-- [start:wrong_order]
def save_first_as_often_copied(orders, places, work):
    place = places.find_one({"_id": "copier"}) or {}
    token = place.get("token")
    with orders.watch(resume_after=token, max_await_time_ms=100) as stream:
        while change := stream.try_next():
            place = {"_id": "copier", "token": stream.resume_token}
            places.replace_one({"_id": "copier"}, place, upsert=True)
            work(change)


# --8<-- [end:wrong_order]


def test_often_copied_saves_first(shop):
    """Often copied: the place is stored before the work; a crash loses the change."""
    places, seen = shop["often"], []
    token = shop["place"].find_one()["start_after"]
    places.insert_one({"_id": "copier", "token": token})
    shop["order"].insert_many([{"_id": n} for n in (1, 2)])

    def work(change):
        if change["documentKey"]["_id"] == 1:
            raise ZeroDivisionError
        seen.append(change["documentKey"]["_id"])

    with pytest.raises(ZeroDivisionError):
        save_first_as_often_copied(shop["order"], places, work)
    save_first_as_often_copied(shop["order"], places, work)
    assert seen == [2]
