"""bind_variables: no SQL from a user, exact money, whole moments."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import oracledb
import pytest

from recipes.oracle.bind_variables import (
    SCHEMA,
    add_order,
    find_customers,
    padded,
    search,
    to_utc,
)

NOON = datetime(2026, 11, 21, 12, 0, 0, 123456, UTC)


@pytest.fixture
def shop(conn):
    """A connection to a schema with two orders."""
    with conn.cursor() as cursor:
        cursor.execute(SCHEMA)
    add_order(conn, 1, "O'Brien", Decimal("19.99"), NOON)
    add_order(conn, 2, "100% Wool", Decimal("0.10"), NOON)
    conn.commit()
    return conn


def one(conn, query, *binds, **options):
    with conn.cursor() as cursor:
        cursor.execute(query, binds, **options)
        return cursor.fetchone()[0]


# With a server.


@pytest.mark.parametrize(
    "text",
    ["' OR '1' = '1", "'; DROP TABLE orders --", ":text", "--", "/*", "\\", '"', "%_"],
)
def test_no_text_becomes_sql(shop, text):
    """What a user types stays a value: injections find nothing and drop nothing."""
    assert search(shop, text) == []
    assert one(shop, "SELECT COUNT(*) FROM orders") == 2


@pytest.mark.parametrize(("text", "found"), [("'B", [1]), ("100%", [2]), ("0% W", [2])])
def test_search_as_typed(shop, text, found):
    """A quote or a percent sign in the text is found as it was typed."""
    assert [number for number, _ in search(shop, text)] == found


def test_percent_is_no_wildcard(shop):
    """`1%W` finds nothing, though the pattern would fit "100% Wool"."""
    assert search(shop, "1%W") == []


def test_money_is_exact(shop):
    """An amount comes back as the Decimal that was sent, beyond what a float holds."""
    amount = Decimal("9007199254.93")
    add_order(shop, 3, "Eve", amount, NOON)
    assert search(shop, "Eve") == [(3, amount)]
    assert isinstance(search(shop, "Eve")[0][1], Decimal)


def test_moment_is_whole(shop):
    """A moment in another zone comes back as the same one, with its microseconds."""
    berlin = timezone(timedelta(hours=1))
    add_order(shop, 3, "Eve", Decimal(1), NOON.astimezone(berlin))
    stored = one(shop, "SELECT placed FROM orders WHERE id = :1", 3)
    assert stored.replace(tzinfo=UTC) == NOON


def test_list_of_any_length(shop):
    """A list of none, of one, and of 2500 numbers, twice each: the two that exist."""
    both = {1: "O'Brien", 2: "100% Wool"}
    assert find_customers(shop, []) == {}
    assert find_customers(shop, [2]) == {2: "100% Wool"}
    assert find_customers(shop, [*range(2500), *range(2500)]) == both


def test_empty_text_is_null(shop):
    """Oracle takes an empty text for NULL: the column refuses it, ORA-01400."""
    with pytest.raises(oracledb.IntegrityError) as caught:
        add_order(shop, 3, "", Decimal(1), NOON)
    assert caught.value.args[0].code == 1400


# Without one.


def test_naive_moment_is_refused():
    """A datetime without a zone is a ValueError: nobody knows which moment it is."""
    with pytest.raises(ValueError, match="no time zone"):
        to_utc(datetime(2026, 11, 21, 12))


def test_moment_in_utc():
    """An aware datetime becomes the same moment in UTC."""
    berlin = timezone(timedelta(hours=1))
    assert to_utc(datetime(2026, 11, 21, 12, tzinfo=berlin)) == datetime(
        2026, 11, 21, 11
    )


def test_four_statements():
    """Lists of 1 to 1000 values make four statements, and pad with what is in them."""
    lists = [padded(list(range(length))) for length in range(1, 1001)]
    assert {len(binds) for binds in lists} == {1, 10, 100, 1000}
    assert all(set(b) == set(range(n)) for n, b in enumerate(lists, 1))


# --8<-- [start:wrong]
def search_as_copied(conn, customer):
    cursor = conn.cursor()
    cursor.execute(f"SELECT id, amount FROM orders WHERE customer = '{customer}'")
    return cursor.fetchall()


def add_as_copied(conn, number, customer, amount, placed):
    conn.cursor().execute(
        "INSERT INTO orders VALUES (:1, :2, :3, :4)",
        [number, customer, amount, placed],
    )


# --8<-- [end:wrong]


def test_often_copied_lets_users_write_sql(shop):
    """Often copied: the text of a user becomes a condition, and all orders come."""
    assert len(search_as_copied(shop, "' OR '1' = '1")) == 2


def test_often_copied_breaks_at_a_quote(shop):
    """Often copied: a customer with a quote in the name is an error."""
    with pytest.raises(oracledb.DatabaseError):
        search_as_copied(shop, "O'Brien")


def test_often_copied_money_is_a_float(shop):
    """Often copied: the amount comes back as a float."""
    ((_, amount),) = search_as_copied(shop, "100% Wool")
    assert isinstance(amount, float)


def test_often_copied_drops_the_zone(shop):
    """Often copied: the offset of an aware datetime is dropped, and the fractions of
    its second too."""
    placed = NOON.astimezone(timezone(timedelta(hours=1)))
    add_as_copied(shop, 3, "Eve", Decimal(1), placed)
    stored = one(shop, "SELECT placed FROM orders WHERE id = :1", 3)
    assert stored == datetime(2026, 11, 21, 13)
