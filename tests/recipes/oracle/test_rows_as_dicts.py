"""rows_as_dicts: names that hold, exact numbers, rows one at a time."""

from decimal import Decimal

import oracledb
import pytest

from recipes.oracle.rows_as_dicts import Item, lower_names, read_dicts, read_objects


@pytest.fixture
def shop(conn):
    """A connection to a schema with two items."""
    with conn.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE item (id NUMBER(9), name VARCHAR2(50),"
            " price NUMBER(9, 2), note CLOB)"
        )
        cursor.executemany(
            "INSERT INTO item VALUES (:1, :2, :3, :4)",
            [(1, "cup", Decimal("4.10"), "blue"), (2, "pot", Decimal("18.00"), None)],
        )
    conn.commit()
    return conn


ALL = "SELECT * FROM item ORDER BY id"


def test_dicts(shop):
    """Each row is a dict, with the names in lower case."""
    assert list(read_dicts(shop, ALL)) == [
        {"id": 1, "name": "cup", "price": Decimal("4.1"), "note": "blue"},
        {"id": 2, "name": "pot", "price": Decimal(18), "note": None},
    ]


def test_money_is_exact(shop):
    """A price is a Decimal, and 0.1 stays 0.1."""
    query = "SELECT CAST(0.1 AS NUMBER(9, 2)) AS price FROM dual"
    assert next(read_dicts(shop, query)) == {"price": Decimal("0.1")}


def test_whole_numbers(shop):
    """A number of a column without decimals is an int, also beyond 64 bits."""
    query = "SELECT CAST(12345678901234567890 AS NUMBER(20)) AS n FROM dual"
    (number,) = next(read_dicts(shop, query)).values()
    assert number == 12345678901234567890
    assert isinstance(number, int)


def test_text_of_a_clob(shop):
    """A CLOB is a str, and can be used after the connection is closed."""
    rows = list(read_dicts(shop, "SELECT note FROM item WHERE id = 1"))
    shop.close()
    assert rows == [{"note": "blue"}]


def test_values_are_bound(shop):
    """Keywords are bind variables."""
    rows = read_dicts(shop, "SELECT id FROM item WHERE name = :name", name="pot")
    assert list(rows) == [{"id": 2}]


def test_objects(shop):
    """Each row is an object of the dataclass."""
    assert next(read_objects(shop, Item, ALL)) == Item(1, "cup", Decimal("4.1"), "blue")


def test_missing_column(shop):
    """A column that the dataclass wants and the query has not is a TypeError."""
    with pytest.raises(TypeError, match="price"):
        next(read_objects(shop, Item, "SELECT id, name, note FROM item"))


def test_one_name_twice(shop):
    """Two columns of one name: ValueError, where a dict would lose one of them."""
    query = "SELECT a.id, b.id FROM item a, item b"
    with pytest.raises(ValueError, match="id"):
        next(read_dicts(shop, query))


def test_rows_are_read_as_needed(shop):
    """The first of ten million rows comes at once: no more are read than are needed."""
    query = "SELECT LEVEL AS n FROM dual CONNECT BY LEVEL <= 10000000"
    rows = read_dicts(shop, query)
    assert next(rows) == {"n": 1}
    rows.close()


# Without a server.


def test_names_in_lower_case():
    """Names come in lower case, in the order of the columns."""
    assert lower_names(["ID", "Name", "PRICE"]) == ["id", "name", "price"]


@pytest.mark.parametrize("names", [["ID", "ID"], ["ID", "id"], ["A", "B", "a"]])
def test_names_must_differ(names):
    """Names that differ in case alone are the same name: ValueError."""
    with pytest.raises(ValueError, match="names of their own"):
        lower_names(names)


# --8<-- [start:wrong]
def read_as_copied(conn, query):
    cursor = conn.cursor()
    cursor.execute(query)
    columns = [column[0] for column in cursor.description]
    return [dict(zip(columns, row)) for row in cursor.fetchall()]


# --8<-- [end:wrong]


def test_often_copied_shouts(shop):
    """Often copied: the names are in upper case, so `row["name"]` is a KeyError."""
    with pytest.raises(KeyError):
        read_as_copied(shop, ALL)[0]["name"]


def test_often_copied_loses_a_column(shop):
    """Often copied: of two columns of one name, one is gone without a word."""
    query = "SELECT a.id, b.id FROM item a, item b WHERE a.id = 1 AND b.id = 2"
    assert read_as_copied(shop, query) == [{"ID": 2}]


def test_often_copied_money_is_a_float(shop):
    """Often copied: a price is a float, and ten of 0.1 are not 1."""
    query = "SELECT CAST(0.1 AS NUMBER(9, 2)) AS p FROM dual CONNECT BY LEVEL <= 10"
    assert sum(row["P"] for row in read_as_copied(shop, query)) != 1


def test_often_copied_text_is_a_locator(shop):
    """Often copied: a CLOB is a locator, of no use once the connection is closed."""
    ((row),) = read_as_copied(shop, "SELECT note FROM item WHERE id = 1")
    shop.close()
    with pytest.raises(oracledb.Error):
        row["NOTE"].read()
