from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from bson import Decimal128

from recipes.mongodb.aggregate import Revenue, revenue

START = datetime(2026, 11, 1, tzinfo=UTC)
END = datetime(2026, 12, 1, tzinfo=UTC)


def line(price, count):
    return {"price": Decimal128(price), "count": count}


@pytest.fixture
def shop(db):
    """Two customers; orders of two lines, of one, of none, and of nobody."""
    db["customer"].insert_many([{"_id": 1, "name": "anna"}, {"_id": 2, "name": "ben"}])
    db["order"].insert_many(
        [
            {
                "customer": 1,
                "placed": START,
                "lines": [line("4.90", 2), line("0.10", 3)],
            },
            {"customer": 1, "placed": START, "lines": [line("0.10", 1)]},
            {"customer": 2, "placed": START, "lines": []},
            {"customer": 9, "placed": START, "lines": [line("1.00", 1)]},
        ]
    )
    return db


def rows(db, at_least="0", since=START, until=END):
    return list(revenue(db, since, until, Decimal(at_least)))


def test_one_line_for_each_customer(shop):
    """A line for each customer, the largest total first; an order counts once, however
    many lines it has."""
    assert rows(shop) == [
        Revenue("anna", 2, 6, Decimal("10.20")),
        Revenue("?", 1, 1, Decimal("1.00")),
        Revenue("ben", 1, 0, Decimal("0")),
    ]


def test_order_without_lines(shop):
    """An order whose lines are empty or missing counts as an order of nothing."""
    shop["order"].insert_one({"customer": 3, "placed": START})
    for name in ("ben", "?"):
        assert Revenue(name, 1, 0, Decimal("0")) in rows(shop)


def test_exact(shop):
    """Totals are exact decimals: 0.10 three times is 0.30, also on a large sum."""
    shop["order"].delete_many({})
    large = {"customer": 2, "placed": START, "lines": [line("9007199254740993.00", 1)]}
    cents = {"customer": 2, "placed": START, "lines": [line("0.10", 3)]}
    shop["order"].insert_many([large, cents])
    assert rows(shop) == [Revenue("ben", 2, 4, Decimal("9007199254740993.30"))]


def test_half_open_interval(shop):
    """The first moment counts and the last does not, so months do not overlap."""
    shop["order"].delete_many({})
    just_before = timedelta(milliseconds=1)
    for placed in (START - just_before, START, END - just_before, END):
        shop["order"].insert_one(
            {"customer": 1, "placed": placed, "lines": [line("1.00", 1)]}
        )
    assert rows(shop) == [Revenue("anna", 2, 2, Decimal("2.00"))]
    assert rows(shop, since=END, until=END + timedelta(1))[0].orders == 1


def test_at_least(shop):
    """Customers below the limit are left out, those at it are not."""
    assert [row.customer for row in rows(shop, "1.00")] == ["anna", "?"]
    assert [row.customer for row in rows(shop, "1.01")] == ["anna"]


def test_same_total_same_order(shop):
    """Customers with the same total come in the order of their ids, on each run."""
    shop["order"].delete_many({})
    for customer in (2, 1):
        shop["order"].insert_one(
            {"customer": customer, "placed": START, "lines": [line("1.00", 1)]}
        )
    assert [row.customer for row in rows(shop)] == ["anna", "ben"]


def test_nothing(db):
    """No orders are no lines."""
    assert rows(db) == []


def test_naive_dates(shop):
    """A date without a zone is a ValueError: MongoDB would take it for UTC."""
    with pytest.raises(ValueError, match="time zone"):
        rows(shop, since=START.replace(tzinfo=None))
    with pytest.raises(ValueError, match="time zone"):
        rows(shop, until=END.replace(tzinfo=None))


# --8<-- [start:wrong]
def average_as_often_copied(orders):
    pipeline = [
        {"$unwind": "$lines"},
        {
            "$group": {
                "_id": "$customer",
                "orders": {"$sum": 1},
                "pieces": {"$sum": "$lines.count"},
            }
        },
    ]
    return {row["_id"]: row for row in orders.aggregate(pipeline)}


# --8<-- [end:wrong]


def test_often_copied_counts_lines(shop):
    """Often copied: after `$unwind` the lines are counted: two orders become three."""
    found = average_as_often_copied(shop["order"])
    assert (found[1]["orders"], found[1]["pieces"]) == (3, 6)


def test_often_copied_loses_orders(shop):
    """Often copied: `$unwind` drops an order without lines, and its customer."""
    assert 2 not in average_as_often_copied(shop["order"])


def test_often_copied_text_becomes_a_field(db):
    """Often copied: a text from outside that begins with `$` is read as a field in a
    stage that computes; `$literal` keeps it a text."""
    db["order"].insert_one({"_id": 1, "secret": "s3cret"})
    note = "$secret"
    (copied,) = db["order"].aggregate([{"$set": {"note": note}}])
    assert copied["note"] == "s3cret"
    (kept,) = db["order"].aggregate([{"$set": {"note": {"$literal": note}}}])
    assert kept["note"] == "$secret"
