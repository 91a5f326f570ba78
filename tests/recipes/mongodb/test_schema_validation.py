from datetime import UTC, datetime

import pytest
from bson import Decimal128
from pymongo import InsertOne, UpdateOne
from pymongo.errors import (
    BulkWriteError,
    CollectionInvalid,
    DuplicateKeyError,
    WriteError,
)

from recipes.mongodb.schema_validation import (
    ORDER,
    add_order,
    bad_fields,
    create_orders,
    find_invalid,
)

GOOD = {
    "_id": 1,
    "customer": "anna",
    "total": Decimal128("19.90"),
    "status": "new",
    "placed": datetime(2026, 11, 21, tzinfo=UTC),
    "lines": [{"sku": "tea", "count": 2}],
}


@pytest.fixture
def orders(db):
    return create_orders(db)


def test_good_order(orders):
    """A document of the right shape is stored as it is."""
    add_order(orders, dict(GOOD))
    assert orders.find_one() == GOOD


BAD = [
    pytest.param({"customer": ""}, "customer", id="empty-name"),
    pytest.param({"customer": 7}, "customer", id="number-for-a-name"),
    pytest.param({"total": 19.9}, "total", id="float-for-money"),
    pytest.param({"total": Decimal128("0")}, "total", id="zero"),
    pytest.param({"status": "lost"}, "status", id="unknown-status"),
    pytest.param({"placed": "2026-11-21"}, "placed", id="text-for-a-date"),
    pytest.param({"lines": []}, "lines", id="no-lines"),
    pytest.param({"lines": [{"sku": "tea"}]}, "lines", id="line-without-count"),
    pytest.param({"lines": [{"sku": "tea", "count": 0}]}, "lines", id="count-of-zero"),
    pytest.param({"lines": [{"sku": "t", "count": 1.5}]}, "lines", id="half-a-piece"),
]


@pytest.mark.parametrize(("change", "field"), BAD)
def test_refused(orders, change, field):
    """Refused with the name of the field: a wrong type, an empty name, a total of zero,
    a status that does not exist, a line that is incomplete, and no lines."""
    with pytest.raises(ValueError, match=f"order refused: {field}$"):
        add_order(orders, {**GOOD, **change})
    assert orders.count_documents({}) == 0


@pytest.mark.parametrize("field", ["customer", "total", "status", "placed", "lines"])
def test_missing_field(orders, field):
    """A missing field is refused and named."""
    order = {name: value for name, value in GOOD.items() if name != field}
    with pytest.raises(ValueError, match=f"order refused: {field}$"):
        add_order(orders, order)


def test_several_faults(orders):
    """All bad fields are named at once."""
    with pytest.raises(ValueError, match=r"order refused: lines, status$"):
        add_order(orders, {**GOOD, "status": "lost", "lines": []})


@pytest.mark.parametrize(
    "change", [{"custmer": "anna"}, {"lines": [{"sku": "t", "count": 1, "cuont": 2}]}]
)
def test_misspelt_field(orders, change):
    """A field that the schema does not know is refused, in a line as well."""
    with pytest.raises(ValueError, match="order refused"):
        add_order(orders, {**GOOD, **change})


def test_names_an_unknown_field():
    """An unknown field is named, where the server's answer names it."""
    rule = {"operatorName": "additionalProperties", "additionalProperties": ["custmer"]}
    answer = {"errInfo": {"details": {"schemaRulesNotSatisfied": [rule]}}}
    assert bad_fields(answer) == ["custmer"]


def test_large_numbers(orders):
    """A count beyond 32 bits is still a count."""
    lines = [{"sku": "tea", "count": 2**40}]
    add_order(orders, {**GOOD, "lines": lines})
    assert orders.find_one()["lines"] == lines


def test_other_errors_stay(orders):
    """Another error, such as an id that is taken, reaches the caller as it is."""
    add_order(orders, dict(GOOD))
    with pytest.raises(DuplicateKeyError):
        add_order(orders, dict(GOOD))


def test_updates_are_checked(orders):
    """An update that would break the schema is refused, in a bulk write too."""
    add_order(orders, dict(GOOD))
    change = {"$set": {"status": "lost"}}
    with pytest.raises(WriteError) as raised:
        orders.update_one({"_id": 1}, change)
    assert raised.value.code == 121
    with pytest.raises(BulkWriteError):
        orders.bulk_write([UpdateOne({"_id": 1}, change), InsertOne({"_id": 2})])
    assert list(orders.find()) == [GOOD]


def test_exists_already(orders, db):
    """A collection that is there is not changed silently: CollectionInvalid."""
    with pytest.raises(CollectionInvalid):
        create_orders(db)


def test_finds_what_breaks_it(db):
    """Before the schema becomes a rule, the documents that break it are found."""
    half = {"_id": 3, "customer": "ben"}
    late = {**GOOD, "_id": 2, "status": "lost"}
    db["old"].insert_many([GOOD, half, late])
    assert list(find_invalid(db["old"], ORDER)) == [2, 3]


# --8<-- [start:wrong]
SCHEMA_AS_OFTEN_COPIED = {
    "properties": {
        "customer": {"bsonType": "string"},
        "total": {"bsonType": "number"},
    }
}
# --8<-- [end:wrong]


@pytest.mark.parametrize(
    "document", [{}, {"custmer": "anna"}, {"customer": "anna", "total": 0.1 + 0.2}]
)
def test_often_copied_accepts_nearly_everything(db, document):
    """Often copied: without `required` and `additionalProperties`, the empty document
    and a misspelt field are stored; `number` allows floats for money."""
    schema = {"$jsonSchema": SCHEMA_AS_OFTEN_COPIED}
    orders = db.create_collection("order", validator=schema)
    orders.insert_one(document)
    assert orders.count_documents({}) == 1


def test_often_copied_warns(db):
    """Often copied: with `validationAction="warn"` the bad document is stored, and the
    caller hears nothing."""
    schema = {"$jsonSchema": ORDER}
    orders = db.create_collection("order", validator=schema, validationAction="warn")
    assert orders.insert_one({"custmer": "anna"}).acknowledged
    assert orders.count_documents({}) == 1


def test_often_copied_bypass(orders):
    """Often copied: `bypass_document_validation=True` stores what breaks the schema."""
    orders.insert_one({"custmer": "anna"}, bypass_document_validation=True)
    assert orders.count_documents({}) == 1
