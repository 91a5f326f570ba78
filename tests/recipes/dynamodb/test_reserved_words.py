"""reserved_words: any name is a name, and nothing else."""

import pytest
from botocore.exceptions import ClientError

from recipes.dynamodb.reserved_words import read, update

KEY = {"id": "T-1"}
RESERVED = [
    *("name", "status", "date", "user", "comment", "count", "data", "group", "hash"),
    *("items", "language", "order", "path", "range", "role", "state", "time"),
    *("token", "ttl", "uuid", "value", "values", "year", "zone", "key", "timestamp"),
]
ODD = ["e.mail", "first name", "2nd", "#0", ":0", "a[0]", "größe", "SET", "_x", "a-b"]


@pytest.fixture
def table(resource):
    table = resource.create_table(
        TableName="ticket",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    table.put_item(Item={**KEY, "status": "open", "owner": "ben"})
    return table


def stored(table) -> dict:
    return table.get_item(Key=KEY, ConsistentRead=True)["Item"]


def test_reserved_words(table):
    """Names that are reserved can be set, and read."""
    changes = {name: f"the {name}" for name in RESERVED}
    assert update(table, KEY, changes) == {**KEY, "owner": "ben", **changes}
    assert read(table, KEY, RESERVED) == changes


@pytest.mark.parametrize("name", ODD)
def test_odd_names(table, name):
    """So can names with a dot, a space or a bracket, or that look like placeholders."""
    update(table, KEY, {name: 1})
    assert read(table, KEY, [name]) == {name: 1}
    assert stored(table)[name] == 1


def test_a_dot_leads_nowhere(table):
    """A name with a dot is an attribute of its own, not a part of another one."""
    update(table, KEY, {"owner": {"mail": "ben@example.com"}})
    update(table, KEY, {"owner.mail": "x"})
    assert stored(table)["owner"] == {"mail": "ben@example.com"}


def test_removes(table):
    """None removes an attribute, also one that is not there."""
    assert update(table, KEY, {"status": None, "date": None}) == {**KEY, "owner": "ben"}


def test_sets_and_removes(table):
    """Both can be in one call; the other attributes stay."""
    update(table, KEY, {"status": None, "date": "today"})
    assert stored(table) == {**KEY, "owner": "ben", "date": "today"}


@pytest.mark.parametrize(
    "value", ["", 0, False, [], {}], ids=["text", "zero", "false", "list", "map"]
)
def test_empty_is_not_none(table, value):
    """What is empty, zero or false is a value, and is set."""
    update(table, KEY, {"status": value})
    assert stored(table)["status"] == value


def test_reads_what_is_there(table):
    """An attribute that the item lacks is not in the answer."""
    assert read(table, KEY, ["status", "date"]) == {"status": "open"}
    assert read(table, KEY, ["date"]) == {}


@pytest.mark.parametrize("changes", [{}, {"id": "T-2"}, {"id": "T-2", "status": "x"}])
def test_refused(table, changes):
    """No changes, or a change of the key, are refused; nothing has changed."""
    with pytest.raises(ValueError, match="cannot change"):
        update(table, KEY, changes)
    assert table.scan()["Items"] == [{**KEY, "status": "open", "owner": "ben"}]


def test_no_such_item(table):
    """An item that is not there is an error, and is not made."""
    with pytest.raises(LookupError, match="T-9"):
        update(table, {"id": "T-9"}, {"status": "open"})
    with pytest.raises(LookupError, match="T-9"):
        read(table, {"id": "T-9"}, ["status"])
    assert table.scan()["Count"] == 1


# --8<-- [start:wrong]
def update_as_copied(table, key, changes):
    sets = ", ".join(f"{name} = :v{i}" for i, name in enumerate(changes))
    values = {f":v{i}": value for i, value in enumerate(changes.values())}
    table.update_item(
        Key=key, UpdateExpression=f"SET {sets}", ExpressionAttributeValues=values
    )


# --8<-- [end:wrong]


@pytest.mark.parametrize("name", ["name", "status", "date", "count", "user"])
def test_often_copied_fails_at_a_reserved_word(table, name):
    """Often copied: one reserved word, and the whole update is refused."""
    with pytest.raises(ClientError, match="reserved keyword"):
        update_as_copied(table, KEY, {"nick": "anna", name: 1})
    assert "nick" not in stored(table)


def test_often_copied_makes_an_item(table):
    """Often copied: a mistyped key is no error, but a new item, half empty."""
    update_as_copied(table, {"id": "T-l"}, {"nick": "anna"})
    assert table.scan()["Count"] == 2


def test_often_copied_lets_names_be_code(table):
    """Often copied: a name from outside is run as part of the expression."""
    update_as_copied(table, KEY, {"verified = :v0, nick": True})
    assert stored(table)["verified"] is True
    update(table, KEY, {"admin = :0, nick": True})
    assert "admin" not in stored(table)
