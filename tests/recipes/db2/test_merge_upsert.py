"""merge_upsert: new, newer, late, and both at once."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import ibm_db_dbi
import pytest

from recipes.db2.merge_upsert import SCHEMA, set_price, set_prices
from tests.recipes.db2.waiting import wait_until_blocked

MONDAY, TUESDAY = (datetime(2026, 1, day, tzinfo=UTC) for day in (5, 6))


@pytest.fixture
def shop(conn):
    """A connection to an empty table."""
    conn.cursor().execute(SCHEMA)
    conn.commit()
    return conn


def prices(conn):
    with closing(conn.cursor()) as cursor:
        cursor.execute("SELECT item, amount, quoted FROM price ORDER BY item")
        return [(*row[:2], row[2].replace(tzinfo=UTC)) for row in cursor.fetchall()]


def test_inserts(shop):
    """A new key is inserted."""
    assert set_price(shop, "tea", Decimal("2.50"), MONDAY)
    assert prices(shop) == [("tea", Decimal("2.50"), MONDAY)]


def test_updates(shop):
    """A newer value takes the place of the old one."""
    set_price(shop, "tea", Decimal("2.50"), MONDAY)
    assert set_price(shop, "tea", Decimal("2.70"), TUESDAY)
    assert prices(shop) == [("tea", Decimal("2.70"), TUESDAY)]


@pytest.mark.parametrize("stored", [MONDAY, TUESDAY])
def test_late_value_changes_nothing(shop, stored):
    """A value that is older than the stored one, or the same again, changes nothing."""
    set_price(shop, "tea", Decimal("2.70"), stored)
    assert not set_price(shop, "tea", Decimal("2.50"), MONDAY)
    assert prices(shop) == [("tea", Decimal("2.70"), stored)]


def test_many(shop):
    """Many values: the number of those that were new or newer."""
    set_price(shop, "tea", Decimal("2.70"), TUESDAY)
    many = [(item, Decimal(3), MONDAY) for item in ("tea", "rice", "salt")]
    assert set_prices(shop, many) == 2
    assert [row[0] for row in prices(shop)] == ["rice", "salt", "tea"]


def test_refused(shop):
    """An amount that breaks the check is an IntegrityError, and nothing is stored."""
    with pytest.raises(ibm_db_dbi.IntegrityError, match="SQL0545N"):
        set_price(shop, "tea", Decimal(0), MONDAY)
    assert prices(shop) == []


def test_rollback_is_the_callers(shop):
    """Nothing is committed: the caller may still undo it."""
    set_price(shop, "tea", Decimal("2.50"), MONDAY)
    shop.rollback()
    assert prices(shop) == []


@pytest.mark.parametrize("amount", ["2.505", "NaN", "Infinity"])
def test_fraction_of_a_cent(amount):
    """A fraction of a cent is a ValueError: the server would cut it off."""
    with pytest.raises(ValueError, match="cents"):
        set_price(None, "tea", Decimal(amount), MONDAY)


def test_time_without_zone():
    """A time without a zone is a ValueError."""
    with pytest.raises(ValueError, match="no time zone"):
        set_price(None, "tea", Decimal(1), MONDAY.replace(tzinfo=None))


def test_same_new_key_at_the_same_time(shop, dsn):
    """Two transactions insert the same new key: the second waits for the first, and
    then updates its row."""
    set_price(shop, "tea", Decimal("2.50"), MONDAY)  # not committed yet
    with (
        closing(ibm_db_dbi.connect(dsn, "", "")) as other,
        ThreadPoolExecutor() as threads,
    ):
        second = threads.submit(set_price, other, "tea", Decimal("2.70"), TUESDAY)
        wait_until_blocked(dsn)
        shop.commit()
        assert second.result()
        other.commit()
    assert prices(shop) == [("tea", Decimal("2.70"), TUESDAY)]


class Cursor:
    """A connection and its cursor: each execution ends as it is told."""

    rowcount = 1

    def __init__(self, *ends):
        self.ends, self.executed = list(ends), []

    def cursor(self):
        return self

    def prepare(self, statement):
        assert statement.lstrip().startswith("MERGE")

    def execute(self, statement, values):
        assert statement is None
        self.executed.append(values)
        if end := self.ends.pop(0):
            raise end

    def close(self):
        pass


DUPLICATE = ibm_db_dbi.IntegrityError("SQL0803N  SQLSTATE=23505 SQLCODE=-803")
CHECK = ibm_db_dbi.IntegrityError("SQL0545N  SQLSTATE=23513 SQLCODE=-545")


def test_duplicate_is_tried_again():
    """A duplicate that another transaction caused is tried once more, with the same
    values, in UTC."""
    cursor = Cursor(DUPLICATE, None)
    berlin = MONDAY.astimezone(timezone(timedelta(hours=1)))
    assert set_price(cursor, "tea", Decimal(1), berlin)
    assert cursor.executed == [("tea", Decimal(1), MONDAY.replace(tzinfo=None))] * 2


@pytest.mark.parametrize(("ends", "times"), [((CHECK,), 1), ((DUPLICATE, CHECK), 2)])
def test_no_more_than_once(ends, times):
    """Another error, or the next one, reaches the caller."""
    cursor = Cursor(*ends)
    with pytest.raises(ibm_db_dbi.IntegrityError, match="SQL0545N"):
        set_price(cursor, "tea", Decimal(1), MONDAY)
    assert len(cursor.executed) == times


def test_in_the_order_of_the_keys():
    """Many values are stored in the order of their keys: two programs queue up."""
    cursor = Cursor(None, None, None)
    set_prices(cursor, [(item, Decimal(1), MONDAY) for item in ("tea", "rice", "salt")])
    assert [values[0] for values in cursor.executed] == ["rice", "salt", "tea"]


# --8<-- [start:wrong]
def set_price_as_copied(conn, item, amount, quoted):
    cursor = conn.cursor()
    cursor.execute("SELECT amount FROM price WHERE item = ?", (item,))
    if cursor.fetchone():
        update = "UPDATE price SET amount = ?, quoted = ? WHERE item = ?"
        cursor.execute(update, (amount, quoted, item))
    else:
        cursor.execute("INSERT INTO price VALUES (?, ?, ?)", (item, amount, quoted))
    conn.commit()


# --8<-- [end:wrong]


def test_often_copied_goes_back_in_time(shop):
    """Often copied: a late message puts the old price back."""
    set_price_as_copied(shop, "tea", Decimal("2.70"), TUESDAY)
    set_price_as_copied(shop, "tea", Decimal("2.50"), MONDAY)
    assert prices(shop) == [("tea", Decimal("2.50"), MONDAY)]


def test_often_copied_duplicate(shop, dsn):
    """Often copied: the row is inserted between SELECT and INSERT, and the program ends
    in a duplicate."""
    cursor = shop.cursor()
    cursor.execute("INSERT INTO price VALUES ('tea', 2.50, '2026-01-05 00:00:00')")
    with (
        closing(ibm_db_dbi.connect(dsn, "", "")) as other,
        ThreadPoolExecutor() as threads,
    ):
        second = threads.submit(
            set_price_as_copied, other, "tea", Decimal("2.70"), TUESDAY
        )
        wait_until_blocked(dsn)
        shop.commit()
        with pytest.raises(ibm_db_dbi.IntegrityError, match="SQL0803N"):
            second.result()
