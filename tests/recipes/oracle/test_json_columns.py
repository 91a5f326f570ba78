"""json_columns: in and out as they are, and one field at a time."""

from datetime import datetime
from decimal import Decimal

import oracledb
import pytest

from recipes.oracle.json_columns import (
    INDEX,
    SCHEMA,
    add_product,
    change_price,
    cheaper,
    get_product,
)

CUP = {"name": "cup", "price": Decimal("4.10"), "tags": ["blue", "small"]}
POT = {"name": "pot", "price": Decimal(18), "tags": ["blue"]}


@pytest.fixture
def shop(conn):
    """A connection to a schema with two products."""
    with conn.cursor() as cursor:
        cursor.execute(SCHEMA)
        cursor.execute(INDEX)
    add_product(conn, 1, CUP)
    add_product(conn, 2, POT)
    conn.commit()
    return conn


def test_in_and_out(shop):
    """A dict comes back as it was: nested, with None, True, text beyond ASCII."""
    data = {"name": "Kännchen ☕", "price": 1, "more": {"a": [1, None, True, "x"]}}
    add_product(shop, 3, data)
    assert get_product(shop, 3) == data


def test_exact_numbers(shop):
    """A number that no float holds comes back to the last digit, as a Decimal."""
    price = Decimal("12345678901234567890.01")
    add_product(shop, 3, {"name": "gem", "price": price})
    assert get_product(shop, 3)["price"] == price


def test_dates_and_bytes(shop):
    """A datetime and bytes stay what they are: JSON text could not do that."""
    data = {"name": "x", "at": datetime(2026, 11, 21, 12, 30), "raw": b"\x00\xff"}
    add_product(shop, 3, data)
    assert get_product(shop, 3) == data


def test_query(shop):
    """Products are found by a number and by a value in a list."""
    assert cheaper(shop, "blue", Decimal(10)) == ["cup"]
    assert cheaper(shop, "blue", Decimal("18.01")) == ["cup", "pot"]
    assert cheaper(shop, "red", Decimal(100)) == []


@pytest.mark.parametrize("tag", ['" || true || "', "$tag", "') OR 1 = 1 --", '"', "\\"])
def test_no_text_becomes_a_path(shop, tag):
    """What a user types stays a value, in the path too."""
    assert cheaper(shop, tag, Decimal(100)) == []


def test_one_field(shop):
    """A change of the price leaves the rest as it was."""
    change_price(shop, 1, Decimal("4.60"))
    assert get_product(shop, 1) == {**CUP, "price": Decimal("4.60")}


def test_two_writers(shop, oracle):
    """Two connections change two fields, one after the other: both changes stay."""
    with oracledb.connect(oracle) as other:
        change_price(other, 1, Decimal(5))
        other.commit()
    with shop.cursor() as cursor:
        cursor.execute(
            "UPDATE product SET data = JSON_TRANSFORM(data, SET '$.name' = 'mug')"
            " WHERE id = 1"
        )
    product = get_product(shop, 1)
    assert (product["name"], product["price"]) == ("mug", 5)


def test_unknown_product(shop):
    """A product that is not there is a KeyError, to read and to change."""
    with pytest.raises(KeyError):
        get_product(shop, 9)
    with pytest.raises(KeyError):
        change_price(shop, 9, Decimal(1))


def test_name_is_indexed(shop):
    """A search by name can use the index."""
    with shop.cursor() as cursor:
        cursor.execute(
            "EXPLAIN PLAN FOR SELECT /*+ INDEX(product product_name) */ id FROM product"
            " WHERE JSON_VALUE(data, '$.name' ERROR ON ERROR) = 'cup'"
        )
        cursor.execute("SELECT object_name FROM plan_table WHERE operation = 'INDEX'")
        assert cursor.fetchall() == [("PRODUCT_NAME",)]


# --8<-- [start:wrong]
def change_price_as_copied(conn, number, price):
    product = get_product(conn, number)
    product["price"] = price
    with conn.cursor() as cursor:
        cursor.setinputsizes(data=oracledb.DB_TYPE_JSON)
        cursor.execute(
            "UPDATE product SET data = :data WHERE id = :num", data=product, num=number
        )
    conn.commit()


# --8<-- [end:wrong]


def test_often_copied_undoes_others(shop, oracle, monkeypatch):
    """Often copied: between the reading and the writing another connection changes the
    name. It is undone, without an error."""
    original = get_product

    def get_then_let_another_write(conn, number):
        product = original(conn, number)
        with oracledb.connect(oracle) as other, other.cursor() as cursor:
            cursor.execute(
                "UPDATE product SET data = JSON_TRANSFORM(data, SET '$.name' = 'mug')"
                " WHERE id = 1"
            )
            other.commit()
        return product

    monkeypatch.setitem(globals(), "get_product", get_then_let_another_write)
    change_price_as_copied(shop, 1, Decimal(5))
    monkeypatch.undo()
    product = get_product(shop, 1)
    assert (product["name"], product["price"]) == ("cup", 5)
