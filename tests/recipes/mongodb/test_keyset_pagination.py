from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId
from pymongo import MongoClient
from pymongo.monitoring import CommandListener

from recipes.mongodb.keyset_pagination import INDEX, all_newest, newest

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def order(number, minutes=0, customer="anna"):
    placed = NOON + timedelta(minutes=minutes)
    return {"_id": number, "customer": customer, "placed": placed}


@pytest.fixture
def orders(db):
    """Seven orders of anna, two in each minute, and one of ben."""
    db["order"].create_indexes([INDEX])
    db["order"].insert_many([order(n, n // 2) for n in range(7)])
    db["order"].insert_one(order(50, 1, "ben"))
    return db["order"]


def ids(rows):
    return [row["_id"] for row in rows]


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 8])
def test_every_order_once(orders, size):
    """With pages of any size, each order comes once, the newest first; also where a
    page ends between two of the same moment."""
    assert ids(all_newest(orders, "anna", size)) == [6, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("size", [1, 3, 7])
def test_all_in_the_same_moment(db, size):
    """All orders in the same moment: the id decides, and none is lost."""
    numbers = [ObjectId() for _ in range(7)]
    db["order"].insert_many([order(number) for number in numbers])
    assert ids(all_newest(db["order"], "anna", size)) == sorted(numbers, reverse=True)


def test_size_of_a_page(orders):
    """A page holds as many as were asked for; the last one has the rest and no
    `after`."""
    pages = [newest(orders, "anna", size=3)]
    while pages[-1].after is not None:
        pages.append(newest(orders, "anna", pages[-1].after, 3))
    assert [ids(page.orders) for page in pages] == [[6, 5, 4], [3, 2, 1], [0]]


def test_no_empty_page_at_the_end(orders):
    """Where the last page is full there is no empty one behind it."""
    assert newest(orders, "anna", size=7).after is None


def test_new_orders_push_nothing_around(orders):
    """Orders that come in between two pages neither repeat nor hide any."""
    first = newest(orders, "anna", size=3)
    orders.insert_many([order(n, 60) for n in (90, 91)])
    second = newest(orders, "anna", first.after, 3)
    assert ids(first.orders) + ids(second.orders) == [6, 5, 4, 3, 2, 1]


def test_last_row_is_deleted(orders):
    """The order at which a page ended may be deleted: the next page follows all the
    same."""
    first = newest(orders, "anna", size=3)
    orders.delete_one({"_id": 4})
    assert ids(newest(orders, "anna", first.after, 3).orders) == [3, 2, 1]


def test_other_customers(orders):
    """The orders of other customers stay out, on each page."""
    assert ids(all_newest(orders, "ben", 1)) == [50]
    assert newest(orders, "nobody") == ([], None)


def test_to_the_millisecond(db):
    """Times that differ by a millisecond keep their order over the pages."""
    for n in range(4):
        moment = NOON + timedelta(milliseconds=n)
        db["order"].insert_one({"_id": -n, "customer": "anna", "placed": moment})
    assert ids(all_newest(db["order"], "anna", 1)) == [-3, -2, -1, 0]


FORGED = [
    "",
    "x",
    "7",
    "[1]",
    "[1, 2]",
    '["2026-11-21", 2]',
    '[{"$date": "2026-11-21T12:00:00Z"}, {"$gt": 0}]',
    '[{"$date": "2026-11-21T12:00:00Z"}, {"$oid": "x"}]',
    '[{"$date": "2026-11-21T12:00:00Z"}, {"$oid": 7}]',
    '[{"$date": "2026-11-21T12:00:00Z"}]',
]


@pytest.mark.parametrize("after", FORGED)
def test_forged(orders, after):
    """An `after` that was damaged or forged is a ValueError."""
    with pytest.raises(ValueError, match="no such page"):
        newest(orders, "anna", after)


@pytest.mark.parametrize("size", [0, -1])
def test_no_size(orders, size):
    """A page without orders is a ValueError: to MongoDB, a limit of 0 is no limit."""
    with pytest.raises(ValueError, match="a page of"):
        newest(orders, "anna", size=size)


class Finds(CommandListener):
    """Keeps what was asked."""

    def __init__(self):
        self.asked = []

    def started(self, event):
        if event.command_name == "find":
            self.asked.append(event.command)

    def succeeded(self, event): ...

    def failed(self, event): ...


def test_reads_no_more_than_a_page(orders, mongodb):
    """The server is asked for one more than a page, and told where to begin."""
    finds = Finds()
    with MongoClient(mongodb, event_listeners=[finds]) as client:
        again = client.get_default_database()["order"]
        page = newest(again, "anna", size=3)
        newest(again, "anna", page.after, 3)
    assert [command["limit"] for command in finds.asked] == [4, 4]
    assert all("skip" not in command for command in finds.asked)
    assert finds.asked[1]["filter"]["placed"] == {"$lte": NOON + timedelta(minutes=2)}


# --8<-- [start:wrong]
def page_as_often_copied(orders, customer, number, size):
    found = orders.find({"customer": customer}).sort("placed", -1)
    return list(found.skip(number * size).limit(size))


# --8<-- [end:wrong]


def test_often_copied_repeats(orders):
    """Often copied: an order comes in, everything moves on by one, and the last of
    page 1 is the first of page 2."""
    first = page_as_often_copied(orders, "anna", 0, 3)
    orders.insert_one(order(90, 60))
    second = page_as_often_copied(orders, "anna", 1, 3)
    assert ids(first)[-1] == ids(second)[0]


def test_often_copied_leaves_out(orders):
    """Often copied: an order is deleted, and one that nobody saw is skipped."""
    first = page_as_often_copied(orders, "anna", 0, 3)
    orders.delete_one({"_id": 6})
    second = page_as_often_copied(orders, "anna", 1, 3)
    assert len({*range(6)} - {*ids(first), *ids(second)}) == 1


# --8<-- [start:wrong_time]
def after_as_often_copied(orders, customer, placed, size):
    wanted = {"customer": customer, "placed": {"$lt": placed}}
    return list(orders.find(wanted).sort("placed", -1).limit(size))


# --8<-- [end:wrong_time]


def test_often_copied_time_alone(orders):
    """Often copied: pages by the time alone lose the second order of the same
    moment."""
    first = after_as_often_copied(orders, "anna", NOON + timedelta(1), 2)
    second = after_as_often_copied(orders, "anna", first[-1]["placed"], 5)
    assert len({*ids(first), *ids(second)}) == 6  # of seven
