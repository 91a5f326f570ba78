import pytest
from pymongo.errors import OperationFailure

from recipes.mongodb.explain_query import Plan, explain, faults

NEWEST = {"placed": -1}


@pytest.fixture
def orders(set_db):
    """A hundred orders of ten customers, with an index by customer and date."""
    set_db["order"].insert_many(
        {"customer": n % 10, "placed": n, "email": f"user{n}@example.com"}
        for n in range(100)
    )
    set_db["order"].create_index({"customer": 1, "placed": -1}, name="by_customer")
    return set_db["order"]


def test_uses_the_index(orders):
    """The compound index answers and sorts: it reads as many keys as it returns."""
    plan = explain(orders, {"customer": 3}, NEWEST)
    assert plan == Plan(["FETCH", "IXSCAN"], ["by_customer"], 10, 10, 10)
    assert faults(plan) == []


def test_without_index(orders):
    """Without the index the whole collection is read, and sorted in memory."""
    orders.drop_index("by_customer")
    plan = explain(orders, {"customer": 3}, NEWEST)
    assert plan.indexes == []
    assert (plan.documents, plan.returned) == (100, 10)
    assert faults(plan) == [
        "reads the whole collection",
        "sorts in memory",
        "reads 100 to return 10",
    ]


def test_first_field_alone(orders):
    """The first field alone uses the index as well."""
    plan = explain(orders, {"customer": 3})
    assert plan.indexes == ["by_customer"]
    assert faults(plan) == []


def test_second_field_alone(orders):
    """The second field alone does not."""
    assert "COLLSCAN" in explain(orders, {"placed": 7}).stages


def test_range_and_sort(orders):
    """Equality, then a range over the field that is sorted: still no sort in memory."""
    plan = explain(orders, {"customer": 3, "placed": {"$gte": 50}}, NEWEST)
    assert (plan.documents, plan.returned) == (5, 5)
    assert faults(plan) == []


def test_range_before_the_sort(orders):
    """A range over the first field leaves the second unsorted: sorted in memory."""
    plan = explain(orders, {"customer": {"$gt": 7}}, NEWEST)
    assert plan.indexes == ["by_customer"]
    assert faults(plan) == ["sorts in memory"]


def test_nothing_found(orders):
    """A query that finds nothing has no fault if it reads next to nothing."""
    plan = explain(orders, {"customer": 99}, NEWEST)
    assert plan.returned == 0
    assert faults(plan) == []


def test_either_or(orders):
    """Both halves of an `$or` are walked: one without an index spoils the whole."""
    orders.create_index({"email": 1}, name="by_email")
    wanted = {"$or": [{"customer": 3}, {"email": "user7@example.com"}]}
    plan = explain(orders, wanted)
    assert sorted(plan.indexes) == ["by_customer", "by_email"]
    assert "COLLSCAN" not in plan.stages
    orders.drop_index("by_email")
    assert "reads the whole collection" in faults(explain(orders, wanted))


def test_bad_query(orders):
    """An error in the query reaches the caller."""
    with pytest.raises(OperationFailure):
        explain(orders, {"customer": {"$foo": 1}})


# --8<-- [start:wrong]
def find_as_often_copied(email):
    return {"email": {"$regex": f"^{email}$", "$options": "i"}}


# --8<-- [end:wrong]


def test_often_copied_reads_the_whole_index(orders):
    """Often copied: a search that ignores case names the index in its plan, and reads
    every key of it."""
    orders.create_index({"email": 1}, name="by_email")
    plan = explain(orders, find_as_often_copied("user7@example.com"))
    assert plan.indexes == ["by_email"]
    assert plan.keys >= 100
    assert plan.returned == 1
    assert faults(plan) == [f"reads {plan.keys} to return 1"]
    assert faults(explain(orders, {"email": "user7@example.com"})) == []


def test_often_copied_pattern_finds_others(orders):
    """Often copied: the text is a pattern, so a dot finds any character."""
    orders.insert_one({"email": "user7@exampleXcom"})
    wanted = find_as_often_copied("user7@example.com")
    assert orders.count_documents(wanted) == 2
