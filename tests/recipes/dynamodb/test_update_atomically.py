"""update_atomically: eight writers at once, and no update is lost."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import Any

import pytest
from botocore.exceptions import ClientError
from pynamodb.attributes import ListAttribute, UnicodeAttribute
from pynamodb.connection import Connection
from pynamodb.exceptions import TransactWriteError
from pynamodb.models import Model

from recipes.dynamodb import update_atomically, update_atomically_pynamodb
from recipes.dynamodb.update_atomically_pynamodb import Course
from tests.recipes.dynamodb.conftest import code, connected


class WithBoto3:
    def __init__(self, resource: Any) -> None:
        self.table = resource.Table("course")

    def add_tag(self, tag: str) -> set[str]:
        return update_atomically.add_tag(self.table, "SQL", tag)

    def count_visit(self) -> int:
        return update_atomically.count_visit(self.table, "SQL")

    def book(self, seats: int, booking: str, course: str = "SQL") -> None:
        client = self.table.meta.client
        update_atomically.book(client, course, seats, booking)


class WithPynamoDB:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def add_tag(self, tag: str) -> set[str]:
        return update_atomically_pynamodb.add_tag("SQL", tag)

    def count_visit(self) -> int:
        return update_atomically_pynamodb.count_visit("SQL")

    def book(self, seats: int, booking: str, course: str = "SQL") -> None:
        update_atomically_pynamodb.book(self.connection, course, seats, booking)


@pytest.fixture
def table(resource):
    table = resource.create_table(
        TableName="course",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "course", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "course", "KeyType": "HASH"}],
    )
    table.put_item(Item={"course": "SQL", "seats": 3})
    return table


@pytest.fixture(params=["boto3", "pynamodb"])
def driver(request, aws, open_resource):
    """Make one of the two, for an address."""

    @contextmanager
    def make(address: str):
        aws(address)
        if request.param == "boto3":
            yield WithBoto3(open_resource(address, update_atomically.CONFIG))
        else:
            connection = Connection()
            with connected(Course):
                yield WithPynamoDB(connection)
            connection.client.close()

    return make


@pytest.fixture
def course(driver, dynamodb, table):
    with driver(dynamodb) as one:
        yield one


def stored(table) -> dict:
    return table.get_item(Key={"course": "SQL"}, ConsistentRead=True)["Item"]


def at_once(run, count: int = 8) -> list:
    """What that many calls return that start together."""
    start = Barrier(count)

    def wait_and_run(number: int):
        start.wait()
        return run(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(wait_and_run, range(count)))


def test_no_tag_is_lost(course, table):
    """Eight writers add a tag each at the same moment: all eight are there."""
    at_once(lambda number: course.add_tag(f"tag {number}"))
    assert stored(table)["tags"] == {f"tag {number}" for number in range(8)}


def test_returns_all_tags(course):
    """It returns all tags; one that is there already changes nothing."""
    assert course.add_tag("data") == {"data"}
    assert course.add_tag("evening") == {"data", "evening"}
    assert course.add_tag("data") == {"data", "evening"}


def test_no_visit_is_lost(course, table):
    """Eight visits at the same moment count as eight, and each gets its own number."""
    assert sorted(at_once(lambda _: course.count_visit())) == list(range(1, 9))
    assert stored(table)["visits"] == 8


def test_leaves_the_rest(course, table):
    """The other attributes of the item stay as they are."""
    course.add_tag("data")
    course.count_visit()
    assert stored(table)["seats"] == 3


def test_books(course, table):
    """The seats are taken, down to the last one."""
    course.book(2, "b-1")
    course.book(1, "b-2")
    assert stored(table)["seats"] == 0


def test_not_more_than_there_are(course, table):
    """Eight want a seat at the same moment, three are left: three get one."""

    def run(number: int) -> bool | None:
        while True:
            try:
                course.book(1, f"b-{number}")
            except LookupError:
                return False
            except (ClientError, TransactWriteError) as error:
                if code(error) != "TransactionCanceledException":  # else ask again
                    raise
            else:
                return True

    assert sorted(at_once(run)) == [False] * 5 + [True] * 3
    assert stored(table)["seats"] == 0


@pytest.mark.parametrize(("name", "seats"), [("SQL", 4), ("Cobol", 1)])
def test_too_few(course, table, name, seats):
    """Too few seats, or no such course: an error, and none is taken."""
    with pytest.raises(LookupError, match=f"no {seats} seats left in {name}"):
        course.book(seats, "b-1", name)
    assert table.scan()["Items"] == [{"course": "SQL", "seats": 3}]


@pytest.mark.parametrize("seats", [0, -1])
def test_no_seats(course, table, seats):
    """Less than one seat is refused."""
    with pytest.raises(ValueError, match=f"{seats} seats"):
        course.book(seats, "b-1")
    assert stored(table)["seats"] == 3


def test_same_booking_again(course, table):
    """A booking that is sent twice takes the seats once."""
    course.book(2, "b-1")
    course.book(2, "b-1")
    assert stored(table)["seats"] == 1


def test_lost_answer(driver, table, dynamodb, fault_proxy):
    """The answer is lost and the client sends again: a booking takes its seats once."""
    proxy = fault_proxy(dynamodb)
    proxy.cut_answer_to(b"DynamoDB_20120810.TransactWriteItems")
    with driver(proxy.url) as course:
        course.book(2, "b-1")
    assert proxy.was_cut.is_set()
    assert stored(table)["seats"] == 1


def test_lost_answer_counts_twice(driver, table, dynamodb, fault_proxy):
    """The answer is lost and the client sends again: the same tag, but two visits."""
    proxy = fault_proxy(dynamodb)
    with driver(proxy.url) as course:
        proxy.cut_answer_to(b"DynamoDB_20120810.UpdateItem")
        assert course.add_tag("data") == {"data"}
        proxy.cut_answer_to(b"DynamoDB_20120810.UpdateItem")
        assert course.count_visit() == 2


def test_other_errors_reach_the_caller(course, table):
    """No such table, say: the error reaches the caller."""
    table.delete()
    with pytest.raises((ClientError, TransactWriteError)) as caught:
        course.book(1, "b-1")
    assert code(caught.value) == "ResourceNotFoundException"


def test_conflict_reaches_the_caller(driver, table, stage):
    """Another transaction is at work on the course: an error, and no seat is taken."""
    stage.plays["TransactWriteItems"] = lambda request, ask: {
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "message": "Transaction cancelled: [TransactionConflict]",
        "CancellationReasons": [{"Code": "TransactionConflict"}],
    }
    errors = (ClientError, TransactWriteError)
    with driver(stage.url) as course, pytest.raises(errors) as caught:
        course.book(1, "b-1")
    assert code(caught.value) == "TransactionCanceledException"
    assert stored(table)["seats"] == 3


# --8<-- [start:wrong]
class Profile(Model):
    class Meta:
        table_name = "profile"
        billing_mode = "PAY_PER_REQUEST"

    email = UnicodeAttribute(hash_key=True)
    tags = ListAttribute(of=UnicodeAttribute, default=list)


def add_tag_as_copied(email, tag):
    profile = Profile.get(email)
    if tag not in profile.tags:
        profile.tags.append(tag)
        profile.save()


# --8<-- [end:wrong]


def test_often_copied_loses_seven_of_eight(aws, monkeypatch):
    """Often copied: eight writers read, then write: seven of eight tags are lost."""
    all_have_read = Barrier(8)
    save = Profile.save

    def save_when_all_have_read(self, *args, **more):
        all_have_read.wait()
        return save(self, *args, **more)

    with connected(Profile):
        Profile.create_table(wait=True)
        Profile("anna@example.com").save()
        monkeypatch.setattr(Profile, "save", save_when_all_have_read)
        at_once(lambda number: add_tag_as_copied("anna@example.com", f"tag {number}"))
        assert len(Profile.get("anna@example.com").tags) == 1
