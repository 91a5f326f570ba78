import io
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from bson import Binary, Decimal128, Int64, ObjectId, Regex, Timestamp, json_util
from pymongo.errors import BulkWriteError

from recipes.mongodb.json_and_object_id import export, find_by_id, load, to_json

ID = "6560a1f2c3d4e5f60718293a"
AT = datetime(2026, 11, 21, 12, 30, 0, 123000, tzinfo=UTC)


@pytest.fixture
def orders(db):
    """A collection with one order."""
    db["order"].insert_one({"_id": ObjectId(ID), "n": 1})
    return db["order"]


def test_finds_by_the_text_of_an_id(orders):
    """The text of an id finds its document, in capitals too."""
    assert find_by_id(orders, ID) == find_by_id(orders, ID.upper())
    assert find_by_id(orders, ID)["n"] == 1


def test_unknown_id(orders):
    """An id that nobody has is None, not an error."""
    assert find_by_id(orders, "0" * 24) is None


@pytest.mark.parametrize("text", ["", "42", ID + "0", "z" * 24, {"$ne": None}, 7])
def test_no_id(orders, text):
    """What is no id is a ValueError, an operator from a client among it."""
    with pytest.raises(ValueError, match="is no id"):
        find_by_id(orders, text)


def test_plain_json():
    """Plain JSON: ids and money are strings, dates are in UTC."""
    document = {
        "_id": ObjectId(ID),
        "at": AT.astimezone(timezone(timedelta(hours=9))),
        "total": Decimal128("19.90"),
        "name": "Grüner Tee",
        "lines": [{"product": ObjectId(ID)}],
    }
    text = to_json(document)
    assert "Grüner" in text
    assert json.loads(text) == {
        "_id": ID,
        "at": "2026-11-21T12:30:00.123Z",
        "total": "19.90",
        "name": "Grüner Tee",
        "lines": [{"product": ID}],
    }


def test_plain_date_can_be_read():
    """The date in plain JSON comes back as the same moment."""
    text = json.loads(to_json({"at": AT}))["at"]
    assert datetime.fromisoformat(text) == AT


@pytest.mark.parametrize("value", [b"\0", datetime(2026, 11, 21), Regex("x"), {1}])
def test_no_plain_form(value):
    """A value without a plain form is a TypeError, and not its `repr` in the JSON."""
    with pytest.raises(TypeError, match="no plain form"):
        to_json({"value": value})


EVERY_TYPE = {
    "_id": ObjectId(ID),
    "int": 2,
    "long": Int64(2),
    "large": 2**60,
    "float": 2.0,
    "infinite": float("inf"),
    "decimal": Decimal128("19.90"),
    "at": AT,
    "before 1970": datetime(1950, 1, 1, tzinfo=UTC),
    "bytes": b"\0\xff",
    "uuid": Binary(b"0123456789abcdef", 4),
    "none": None,
    "yes": True,
    "list": [1, {"a": Decimal128("1")}],
    "text": 'line\nend "ü" \u2028',
}


def test_every_type_comes_back(db):
    """Export and load bring back every value with its type."""
    db["order"].insert_one(EVERY_TYPE)
    file = io.StringIO()
    assert export(db["order"], file) == 1
    file.seek(0)
    assert load(db["copy"], file) == 1
    before, after = db["order"].find_one(), db["copy"].find_one()
    assert after == before
    assert {k: type(v) for k, v in after.items()} == {
        k: type(v) for k, v in before.items()
    }


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_in_batches(db, size):
    """Documents are loaded in batches of any size, and none is lost or doubled."""
    db["order"].insert_many([{"_id": n} for n in range(7)])
    file = io.StringIO()
    assert export(db["order"], file) == 7
    file.seek(0)
    assert load(db["copy"], file, size) == 7
    assert [document["_id"] for document in db["copy"].find()] == list(range(7))


def test_nothing_to_export(db):
    """An empty collection is an empty file."""
    file = io.StringIO()
    assert export(db["order"], file) == 0
    assert load(db["copy"], file) == 0


def test_bad_line(db):
    """A line that is no JSON is a ValueError; the batches before it stay."""
    file = io.StringIO('{"_id": {"$numberInt": "1"}}\n{"_id": 2\n')
    with pytest.raises(ValueError, match="Expecting"):
        load(db["copy"], file, size=1)
    assert list(db["copy"].find()) == [{"_id": 1}]


def test_load_again(orders, db):
    """An id that is there already is an error, not a second document."""
    file = io.StringIO()
    export(orders, file)
    file.seek(0)
    with pytest.raises(BulkWriteError):
        load(orders, file)
    assert orders.count_documents({}) == 1


# --8<-- [start:wrong]
def find_as_often_copied(collection, text):
    return collection.find_one({"_id": text})


def to_json_as_often_copied(document):
    return json.dumps(document, default=str)


# --8<-- [end:wrong]


def test_often_copied_finds_nothing(orders):
    """Often copied: the text of an id equals no id, so the order is never found."""
    assert find_as_often_copied(orders, ID) is None


def test_often_copied_writes_anything():
    """Often copied: `default=str` writes `b'...'` for bytes, and a naive date as if
    its zone did not matter."""
    document = {"file": b"\xff", "at": datetime(2026, 11, 21, 12)}
    text = json.loads(to_json_as_often_copied(document))
    assert text == {"file": "b'\\xff'", "at": "2026-11-21 12:00:00"}


def test_often_copied_relaxed_loses_types():
    """Often copied: `json_util.dumps` without options turns a 64-bit 2 into a 32-bit
    one, and the date comes back naive."""
    text = json_util.dumps({"n": Int64(2), "at": AT})
    back = json_util.loads(text)
    assert type(back["n"]) is int
    assert back["at"].tzinfo is None


def test_often_copied_extended_for_an_api():
    """Often copied: extended JSON in an API gives clients `{"$oid": ...}` for an id."""
    assert json.loads(json_util.dumps({"_id": ObjectId(ID)})) == {"_id": {"$oid": ID}}


def test_timestamp_has_no_plain_form():
    """The server's own timestamps have no plain form either."""
    with pytest.raises(TypeError, match="Timestamp"):
        to_json({"ts": Timestamp(1, 1)})
