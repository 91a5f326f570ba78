"""define_model: types in and out, what may be missing, and what others stored."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from pynamodb.attributes import NumberAttribute, UnicodeAttribute
from pynamodb.exceptions import AttributeNullError, PutError, UpdateError
from pynamodb.models import Model

from recipes.dynamodb.define_model import Address, Customer, find, register, rename
from tests.recipes.dynamodb.conftest import connected

JOINED = datetime(2026, 5, 1, 9, 30, 0, 123456, tzinfo=UTC)


@pytest.fixture
def table(aws, resource):
    """The table, as boto3 sees it."""
    with connected(Customer):
        Customer.create_table(wait=True)
        yield resource.Table("customer")


def anna(**attributes) -> Customer:
    return Customer(
        "anna@example.com", **{"name": "Anna", "joined": JOINED, **attributes}
    )


def test_values_come_back(table):
    """Text, truth, a moment, a set and a map come back as they went in."""
    full = {"phone": "+49 30 0", "tags": {"new", "press"}, "newsletter": True}
    register(anna(**full, address=Address(street="Example Road 1", city="Berlin")))
    found = find("anna@example.com")
    assert (found.name, found.joined, found.phone) == ("Anna", JOINED, "+49 30 0")
    assert (found.tags, found.newsletter) == ({"new", "press"}, True)
    assert (found.address.street, found.address.city) == ("Example Road 1", "Berlin")


def test_what_may_be_missing_is_not_stored(table):
    """An attribute with `null=True` need not be there: it is not stored, and None."""
    register(anna(tags=set()))
    item = table.get_item(Key={"email": "anna@example.com"})["Item"]
    assert sorted(item) == ["email", "joined", "name", "newsletter"]
    found = find("anna@example.com")
    assert found.phone is found.tags is found.address is None


@pytest.mark.parametrize("missing", ["name", "joined"])
def test_what_must_be_there(table, missing):
    """An attribute that must be there is missing: an error, and nothing is sent."""
    with pytest.raises(AttributeNullError, match=missing):
        register(anna(**{missing: None}))
    assert table.scan()["Count"] == 0


def test_default_for_old_items(table):
    """An item from before the attribute was added is read with its default."""
    joined = "2026-05-01T09:30:00.123456+0000"
    table.put_item(Item={"email": "old@example.com", "name": "Old", "joined": joined})
    assert find("old@example.com").newsletter is False
    assert find("old@example.com").joined == JOINED


def test_unknown_name(table):
    """An attribute that the model does not have is refused by the constructor."""
    with pytest.raises(ValueError, match="nmae"):
        Customer("anna@example.com", nmae="Anna")


def test_moment_in_another_zone(table):
    """A moment in another time zone is the same moment in UTC."""
    berlin = timezone(timedelta(hours=2))
    register(anna(joined=datetime(2026, 5, 1, 11, 30, 0, 123456, tzinfo=berlin)))
    assert find("anna@example.com").joined == JOINED


def test_moment_without_a_zone(table):
    """A datetime without a time zone is refused, and nothing is stored."""
    with pytest.raises(ValueError, match="no time zone"):
        register(anna(joined=datetime(2026, 5, 1, 9, 30)))
    assert find("anna@example.com") is None


def test_taken(table):
    """An e-mail address that is taken is an error, and the customer stays."""
    register(anna())
    with pytest.raises(PutError) as caught:
        register(anna(name="Somebody else"))
    assert caught.value.cause_response_code == "ConditionalCheckFailedException"
    assert find("anna@example.com").name == "Anna"


def test_rename_keeps_what_the_model_does_not_know(table):
    """An update of one attribute keeps what another version of the program stored."""
    register(anna())
    key = {"email": "anna@example.com"}
    item = table.get_item(Key=key)["Item"]
    table.put_item(Item={**item, "loyalty": "gold"})
    assert rename("anna@example.com", "Anna B.").name == "Anna B."
    item = table.get_item(Key=key)["Item"]
    assert (item["name"], item["loyalty"]) == ("Anna B.", "gold")


def test_rename_nobody(table):
    """Renaming a customer who does not exist is an error; no half item appears."""
    with pytest.raises(UpdateError):
        rename("ben@example.com", "Ben")
    assert table.scan()["Count"] == 0


# --8<-- [start:wrong]
class Profile(Model):
    class Meta:
        table_name = "profile"
        billing_mode = "PAY_PER_REQUEST"

    email = UnicodeAttribute(hash_key=True)
    name = UnicodeAttribute()
    age = NumberAttribute()


def rename_as_copied(email, name):
    profile = Profile.get(email)
    profile.name = name
    profile.save()


# --8<-- [end:wrong]


@pytest.fixture
def profiles(aws, resource):
    with connected(Profile):
        Profile.create_table(wait=True)
        yield resource.Table("profile")


def test_often_copied_drops_what_it_does_not_know(profiles):
    """Often copied: `save()` writes the whole item, and drops what the model lacks."""
    profiles.put_item(Item={"email": "a@example.com", "age": 30, "loyalty": "gold"})
    profiles.update_item(
        Key={"email": "a@example.com"},
        UpdateExpression="SET #name = :name",
        ExpressionAttributeNames={"#name": "name"},
        ExpressionAttributeValues={":name": "Anna"},
    )
    rename_as_copied("a@example.com", "Anna B.")
    (item,) = profiles.scan()["Items"]
    assert item == {"email": "a@example.com", "age": 30, "name": "Anna B."}


def test_often_copied_cannot_save_what_it_read(profiles):
    """Often copied: an item without an age can be read, and not saved again."""
    profiles.put_item(Item={"email": "a@example.com", "name": "Anna"})
    with pytest.raises(AttributeNullError, match="age"):
        rename_as_copied("a@example.com", "Anna B.")


def test_often_copied_save_overwrites(profiles):
    """Often copied: `save()` without a condition replaces the item of somebody else."""
    Profile("a@example.com", name="Anna", age=30).save()
    Profile("a@example.com", name="Another Anna", age=44).save()
    (item,) = profiles.scan()["Items"]
    assert item["name"] == "Another Anna"
