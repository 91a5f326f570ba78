import tracemalloc

import pytest
from pymongo import MongoClient
from pymongo.errors import AutoReconnect, BulkWriteError
from pymongo.monitoring import CommandListener

from recipes.mongodb.bulk_write import put_all


class Sizes(CommandListener):
    """Counts the updates in each command that is sent."""

    def __init__(self):
        self.sent = []

    def started(self, event):
        if event.command_name == "update":
            self.sent.append(len(event.command["updates"]))

    def succeeded(self, event): ...

    def failed(self, event): ...


@pytest.fixture
def products(db):
    """Products with a unique barcode."""
    db["product"].create_index("barcode", unique=True)
    return db["product"]


def row(number, **more):
    return {"_id": f"p{number}", "barcode": number, **more}


def ids(products):
    return sorted(found["_id"] for found in products.find())


def test_inserts_and_updates(products):
    """New rows are inserted, changed rows updated, others left as they are; each is
    counted."""
    put_all(products, [row(1, stock=1), row(2, stock=1)])
    report = put_all(products, [row(1, stock=1), row(2, stock=9), row(3, stock=1)])
    assert (report.inserted, report.changed, report.unchanged) == (1, 1, 1)
    assert report.refused == []
    assert products.find_one({"_id": "p2"})["stock"] == 9


def test_other_fields_stay(products):
    """A field that the row does not name keeps its value."""
    put_all(products, [row(1, note="keep")])
    put_all(products, [row(1, stock=1)])
    expected = {"_id": "p1", "barcode": 1, "note": "keep", "stock": 1}
    assert products.find_one() == expected


def test_again(products):
    """An import that is repeated changes nothing."""
    rows = [row(n) for n in range(5)]
    assert put_all(products, rows, size=2).inserted == 5
    report = put_all(products, rows, size=2)
    assert (report.inserted, report.changed, report.unchanged) == (0, 0, 5)
    assert products.count_documents({}) == 5


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_bad_row_stops_nothing(products, size):
    """A row that breaks the unique index comes back with the reason; all others are
    written, those behind it too."""
    bad = {"_id": "bad", "barcode": 1}
    rows = [row(1), bad, row(2), row(3)]
    report = put_all(products, rows, size)
    ((refused, reason),) = report.refused
    assert refused is bad
    assert "E11000" in reason
    assert report.inserted == 3
    assert ids(products) == ["p1", "p2", "p3"]


def test_the_right_row_is_named(products):
    """Of several bad rows in several batches, each is named with its own reason."""
    rows = [row(1), row(2), *({"_id": f"bad{n}", "barcode": n} for n in (2, 1)), row(3)]
    report = put_all(products, rows, size=2)
    assert [refused["_id"] for refused, _ in report.refused] == ["bad2", "bad1"]


def test_round_trips(mongodb):
    """Ten rows in batches of four are three round trips."""
    sizes = Sizes()
    with MongoClient(mongodb, event_listeners=[sizes]) as client:
        products = client.get_default_database()["product"]
        put_all(products, (row(n) for n in range(10)), size=4)
    assert sizes.sent == [4, 4, 2]


def test_rows_are_read_as_they_are_written(products):
    """Rows come from a generator, a batch at a time: none is read ahead of its turn."""
    stored = []

    def source():
        for n in range(6):
            stored.append(products.count_documents({}))
            yield row(n)

    put_all(products, source(), size=2)
    assert stored == [0, 0, 2, 2, 4, 4]


def test_memory(products):
    """Memory does not grow with the number of rows."""

    def peak(count):
        tracemalloc.start()
        put_all(products, ({"_id": n % 3, "barcode": n % 3} for n in range(count)), 10)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)  # what is made once
    assert peak(300) < peak(30) + 100_000


def test_no_rows(products):
    """No rows are no round trip and no error."""
    assert put_all(products, []).inserted == 0


def test_row_without_id(products):
    """A row without an id is a KeyError; none is made up."""
    with pytest.raises(KeyError):
        put_all(products, [{"barcode": 1}])
    assert products.count_documents({}) == 0


def test_lost_server(products, mongodb, fault_proxy):
    """A lost line reaches the caller, and the next run completes the import."""
    proxy = fault_proxy(mongodb)
    rows = [row(n) for n in range(4)]
    with MongoClient(proxy.url, retryWrites=False, timeoutMS=5000) as client:
        target = client.get_default_database()["product"]
        target.find_one()
        proxy.cut_before(b"p2")
        with pytest.raises(AutoReconnect):
            put_all(target, rows, size=2)
    assert ids(products) == ["p0", "p1"]
    assert put_all(products, rows, size=2).inserted == 2


def test_write_concern_error(products, monkeypatch):
    """Written, but not as safely as was asked for: that reaches the caller."""
    details = {"writeErrors": [], "writeConcernErrors": [{"code": 64}]}

    def timed_out(*_, **__):
        raise BulkWriteError(details)

    monkeypatch.setattr(type(products), "bulk_write", timed_out)
    with pytest.raises(BulkWriteError) as raised:
        put_all(products, [row(1)])
    assert raised.value.details is details


# --8<-- [start:wrong]
def insert_as_often_copied(products, rows):
    try:
        products.insert_many(rows)
    except BulkWriteError as error:
        print("some were there already:", error.details["nInserted"], "inserted")


# --8<-- [end:wrong]


def test_often_copied_loses_the_rest(products):
    """Often copied: insert_many stops at the first bad row, and the rest is lost."""
    insert_as_often_copied(
        products, [row(1), {"_id": "p1", "barcode": 9}, row(2), row(3)]
    )
    assert ids(products) == ["p1"]


def test_often_copied_does_not_update(products):
    """Often copied: a second import leaves the old values as they were."""
    insert_as_often_copied(products, [row(1, stock=1)])
    insert_as_often_copied(products, [row(1, stock=2)])
    assert products.find_one()["stock"] == 1
