import json
from decimal import Decimal

import mssql_python
import pytest

from recipes.sqlserver.json_columns import (
    SCHEMA,
    catalogue,
    find,
    save,
    set_stock,
    tagged,
)

DOC = {"sku": "b-8", "name": "größer 'M8' €", "tags": ["steel", "m8"], "stock": 10}


@pytest.fixture
def shop(sqlserver, query):
    """The address of a database with an empty table."""
    query(sqlserver, SCHEMA)
    return sqlserver


@pytest.fixture
def conn(shop, connections):
    return connections(shop)


def test_round_trip(conn):
    """A document comes back as it was, found by a value inside of it."""
    save(conn, 1, DOC)
    save(conn, 2, {"sku": "n-8"})
    assert find(conn, "b-8") == [DOC]
    assert find(conn, "none") == []


def test_long_document(conn):
    """A document of a hundred thousand characters is not cut."""
    doc = {"sku": "long", "text": "é" * 100_000}
    save(conn, 1, doc)
    assert find(conn, "long") == [doc]


def test_uses_the_index(conn):
    """The search by sku reads the index, not every document."""
    for number in range(50):
        save(conn, number, {"sku": f"s-{number}"})
    conn.execute("SET STATISTICS XML ON")
    cursor = conn.execute("SELECT doc FROM product WHERE sku = ?", "s-7")
    cursor.fetchall()
    assert cursor.nextset()
    [[plan]] = cursor.fetchall()
    assert 'PhysicalOp="Index Seek"' in plan
    assert "product_sku" in plan


def test_exact_numbers(conn):
    """A number with a fraction comes as Decimal, digit for digit."""
    conn.execute(
        "INSERT INTO product (id, doc) VALUES (1, ?)", '{"sku": "a", "price": 0.10}'
    )
    assert find(conn, "a") == [{"sku": "a", "price": Decimal("0.10")}]


def test_tags(conn):
    """A product is found by each of its tags."""
    save(conn, 1, DOC)
    save(conn, 2, {"sku": "n", "tags": ["steel"]})
    save(conn, 3, {"sku": "w"})
    assert (tagged(conn, "steel"), tagged(conn, "m8")) == ([1, 2], [1])


def test_changes_one_value(conn):
    """One value changes, stays a number, and the rest stays as it was."""
    save(conn, 1, DOC)
    assert set_stock(conn, 1, 4)
    assert find(conn, "b-8") == [{**DOC, "stock": 4}]
    assert not set_stock(conn, 9, 4)


def test_strict(conn):
    """A product without that value is an error."""
    save(conn, 1, {"sku": "a"})
    with pytest.raises(mssql_python.Error):
        set_stock(conn, 1, 4)


def test_refuses_what_is_no_json(conn):
    """What is no JSON is refused by the table."""
    with pytest.raises(mssql_python.IntegrityError):
        conn.execute("INSERT INTO product (id, doc) VALUES (1, '{broken')")


def test_refuses_nan(listener, connections):
    """NaN is a ValueError, before anything is sent."""
    server = listener()
    with pytest.raises(ValueError, match="not JSON compliant"):
        save(connections(server.dsn), 1, {"price": float("nan")})
    assert server.calls == []


def test_catalogue(conn):
    """A long answer made by the server comes whole; an empty one is an empty list."""
    assert catalogue(conn) == []
    for number in range(500):
        save(conn, number, {"sku": f"s-{number}"})
    products = catalogue(conn)
    assert products[499] == {"id": 499, "sku": "s-499"}
    assert len(products) == 500


# --8<-- [start:wrong]
def catalogue_as_often_copied(conn):
    query = "SELECT id, sku FROM product ORDER BY id FOR JSON PATH"
    return json.loads(conn.execute(query).fetchone()[0])


# --8<-- [end:wrong]


def test_often_copied_is_cut(conn):
    """Often copied: the first row holds 2033 characters of the answer, and no more."""
    for number in range(500):
        save(conn, number, {"sku": f"s-{number}"})
    with pytest.raises(json.JSONDecodeError):
        catalogue_as_often_copied(conn)


def test_often_copied_long_value_is_null(conn):
    """Often copied, as JSON_VALUE for a long text: over 4000 characters it is NULL."""
    save(conn, 1, {"sku": "long", "text": "x" * 4_001})
    query = "SELECT JSON_VALUE(doc, '$.text'), JSON_VALUE(doc, '$.sku') FROM product"
    assert [tuple(row) for row in conn.execute(query).fetchall()] == [(None, "long")]
