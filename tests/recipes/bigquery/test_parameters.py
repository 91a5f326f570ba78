"""parameters: values stay values, with their types."""

from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from google.api_core.exceptions import BadRequest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery as driver

from recipes.bigquery.parameters import SCHEMA, find, insert, run

DAY = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
EVER = datetime(1, 1, 1, tzinfo=UTC)

HOSTILE = [
    "'; DROP TABLE payment; --",
    "' OR '1'='1",
    '" OR 1=1 --',
    "x') OR TRUE OR ('",
    "\\' OR 1=1 #",
    "@ids",
    "%",
    "_",
    "`payment`",
    "Zoë 🧂",
    "line\nbreak",
]


@pytest.fixture
def table(client):
    """An empty table for payments."""
    run(client, SCHEMA)
    return client


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_a_value(table, text):
    """Text that tries to be SQL is stored, found and returned as it is."""
    insert(table, [(1, text, Decimal(1), DAY), (2, "somebody", Decimal(1), DAY)])
    assert find(table, prefix=text, since=EVER) == [(1, text, Decimal(1), DAY)]


def test_exact_money(table):
    """An amount that no float can hold comes back exactly."""
    amount = Decimal("999999999999999.99")
    insert(table, [(1, "a", amount, DAY)])
    assert Decimal(float(amount)) != amount
    assert find(table, since=EVER)[0][2] == amount


def test_none_is_null(table, sql):
    """None becomes NULL, not the word None."""
    insert(table, [(1, None, Decimal(1), DAY)])
    assert sql("SELECT payer IS NULL FROM payment") == [(True,)]
    assert find(table, since=EVER) == [(1, None, Decimal(1), DAY)]


def test_moments_of_any_zone(table):
    """A moment of another time zone is the same moment, to the microsecond."""
    there = timezone(timedelta(hours=5, minutes=30))
    insert(table, [(1, "a", Decimal(1), DAY.astimezone(there))])
    assert find(table, since=DAY)[0][3] == DAY
    assert find(table, since=DAY + timedelta(microseconds=1)) == []


def test_a_list_of_any_length(table):
    """A list is one parameter, whatever its length; an empty list finds nothing."""
    rows = [(n, "a", Decimal(n), DAY) for n in range(1, 1001)]
    assert insert(table, rows) == 1000
    assert len(find(table, since=EVER)) == 1000
    assert [row[0] for row in find(table, ids=[7, 3, 2000], since=EVER)] == [3, 7]
    assert find(table, ids=[], since=EVER) == []


def test_order_from_a_list(table):
    """The order is one of those listed; any other text is refused, and never sent."""
    insert(table, [(1, "a", Decimal(9), EVER), (2, "a", Decimal(1), DAY)])
    assert [row[0] for row in find(table, since=EVER)] == [2, 1]
    assert [row[0] for row in find(table, since=EVER, order="largest")] == [1, 2]
    with pytest.raises(ValueError, match="order"):
        find(table, since=EVER, order="id; DROP TABLE payment")


def test_naive_moment_is_refused(table):
    """A datetime without a zone is refused, in a question and in a row."""
    naive = datetime(2026, 1, 2)
    with pytest.raises(ValueError, match="no time zone"):
        find(table, since=naive)
    with pytest.raises(ValueError, match="no time zone"):
        insert(table, [(1, "a", Decimal(1), naive)])
    assert find(table, since=EVER) == []


def test_nothing_to_insert(table):
    """No rows are no statement."""
    assert insert(table, []) == 0


def test_all_rows_or_none(table):
    """One bad row, and none is inserted."""
    with pytest.raises(BadRequest):
        insert(table, [(1, "a", Decimal(1), DAY), (None, "b", Decimal(1), DAY)])
    assert find(table, since=EVER) == []


def test_values_are_not_in_the_text(table, recorder):
    """The SQL that is sent holds no value: they travel beside it, with their types."""
    with closing(driver.Client(credentials=AnonymousCredentials())) as client:
        client.default_query_job_config = table.default_query_job_config
        find(client, prefix="secret", since=DAY)
    (job,) = recorder.sent("POST", "/jobs")
    sent = job["configuration"]["query"]
    assert "secret" not in sent["query"]
    types = {p["name"]: p["parameterType"]["type"] for p in sent["queryParameters"]}
    assert types == {
        "prefix": "STRING",
        "all_ids": "BOOL",
        "ids": "ARRAY",
        "since": "TIMESTAMP",
    }


# --8<-- [start:wrong]
def find_as_often_copied(client, payer):
    query = f"SELECT id FROM payment WHERE payer = '{payer}'"
    return [row.id for row in client.query(query)]


# --8<-- [end:wrong]


def test_often_copied_shows_everything(table):
    """Often copied: `' OR '1'='1` finds the payments of everybody."""
    insert(table, [(n, f"payer {n}", Decimal(1), DAY) for n in (1, 2, 3)])
    assert sorted(find_as_often_copied(table, "' OR '1'='1")) == [1, 2, 3]


def test_often_copied_deletes(table, sql):
    """Often copied: the text ends the query and starts another, which deletes."""
    insert(table, [(1, "a", Decimal(1), DAY)])
    find_as_often_copied(table, "'; DELETE FROM payment WHERE TRUE; SELECT 1 AS id, '")
    assert sql("SELECT COUNT(*) FROM payment") == [(0,)]
