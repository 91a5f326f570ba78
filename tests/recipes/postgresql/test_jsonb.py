import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from threading import Barrier

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb, set_json_loads

from recipes.postgresql.jsonb import SCHEMA, find, merge, set_field

POT = {"name": "pot", "tags": ["red", "steel"], "size": {"width": 20}}
CUP = {"name": "cup", "tags": ["red"], "note": None}


@pytest.fixture
def conn(postgresql):
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute(SCHEMA)
        for body in (POT, CUP):
            add(conn, body)
        yield conn


def add(conn, body):
    conn.execute("INSERT INTO product (price, body) VALUES (1, %s)", (Jsonb(body),))


def body_of(conn, product=1):
    row = conn.execute("SELECT body FROM product WHERE id = %s", (product,)).fetchone()
    return row[0]


@pytest.mark.parametrize(
    "value",
    ["quote ' \" \\ é 😀", "", 2**80, -0.5, True, None, [], {}, [[{"a": [None]}]]],
    ids=repr,
)
def test_values_come_back_as_they_went(conn, value):
    """Text, large numbers, true, null, lists, objects come back as they went."""
    merge(conn, 1, {"x": value})
    assert body_of(conn)["x"] == value
    assert type(body_of(conn)["x"]) is type(value)


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ({"name": "pot"}, ["pot"]),
        ({"tags": ["red"]}, ["pot", "cup"]),
        ({"tags": ["steel", "red"]}, ["pot"]),
        ({"size": {"width": 20}}, ["pot"]),
        ({"note": None}, ["cup"]),
        ({"name": "pot' OR true --"}, []),
        ({}, ["pot", "cup"]),
    ],
)
def test_finds_what_contains_the_part(conn, part, names):
    """A document is found by a field, by elements of a list, by a nested field."""
    assert [body["name"] for body in find(conn, part)] == names


def test_search_uses_the_index(conn):
    """Among 5,000 documents the search uses the index; a test with ->> does not."""
    conn.execute(
        "INSERT INTO product (price, body)"
        " SELECT 1, jsonb_build_object('name', n) FROM generate_series(1, 5000) n"
    )
    conn.execute("VACUUM ANALYZE product")

    def plan(where):
        explain = "EXPLAIN (FORMAT json) SELECT body FROM product WHERE " + where
        return json.dumps(conn.execute(explain).fetchone()[0])

    assert '"product_body"' in plan("""body @> '{"name": 7}'""")
    assert '"Seq Scan"' in plan("body ->> 'name' = '7'")


def test_one_field_changes_the_rest_stays(conn):
    """Only the named field changes; the other fields and documents stay."""
    merge(conn, 1, {"stock": 7})
    set_field(conn, 1, ["size", "height"], 15)
    set_field(conn, 1, ["size", "width"], {"cm": 20})
    set_field(conn, 1, ["name"], None)
    size = {"width": {"cm": 20}, "height": 15}
    assert body_of(conn) == {**POT, "stock": 7, "size": size, "name": None}
    assert body_of(conn, 2) == CUP


@pytest.mark.parametrize(
    ("product", "path"),
    [(9, ["name"]), (1, ["weight", "kg"]), (1, ["name", "first"]), (1, ["tags", "0"])],
    ids=["no such product", "no parent", "parent is text", "parent is a list"],
)
def test_nothing_to_change_is_an_error(conn, product, path):
    """No such product, a parent that is missing or no object: an error."""
    with pytest.raises(LookupError):
        set_field(conn, product, path, 1)
    with pytest.raises(LookupError):
        merge(conn, 9, {"a": 1})
    assert body_of(conn) == POT


@pytest.mark.parametrize("change", [merge, set_field])
def test_changes_at_the_same_time_both_stay(conn, postgresql, change):
    """Two writers change two fields of one document at once: both changes stay."""
    barrier = Barrier(2)

    def one(name):
        with psycopg.connect(postgresql) as conn:
            barrier.wait(timeout=10)
            if change is merge:
                merge(conn, 1, {name: 1})
            else:
                set_field(conn, 1, [name], 1)

    with ThreadPoolExecutor() as pool:
        list(pool.map(one, ("a", "b")))
    assert body_of(conn) == {**POT, "a": 1, "b": 1}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ([1], errors.CheckViolation),
        ({"a": float("nan")}, errors.InvalidTextRepresentation),
        ({"a": "zero \0 byte"}, errors.UntranslatableCharacter),
        ({"a": Decimal("1.5")}, TypeError),
    ],
    ids=["a list", "NaN", "zero byte", "Decimal"],
)
def test_what_json_cannot_hold_is_refused(conn, body, error):
    """A list where the table wants an object, NaN, a zero byte, a Decimal: refused."""
    with pytest.raises(error):
        add(conn, body)


def test_money_needs_its_own_column_or_a_decimal_loader(conn):
    """A number in JSON is read as a float and loses cents, unless Decimal reads it."""
    number = """UPDATE product SET body = '{"sum": 9007199254740993.10}' WHERE id = 1"""
    conn.execute(number)
    assert body_of(conn)["sum"] == 9007199254740994.0
    set_json_loads(partial(json.loads, parse_float=Decimal), conn)
    assert body_of(conn)["sum"] == Decimal("9007199254740993.10")


# --8<-- [start:wrong]
def set_field_as_often_copied(conn, product, name, value):
    query = "SELECT body FROM product WHERE id = %s"
    (body,) = conn.execute(query, (product,)).fetchone()
    body[name] = value
    conn.execute(
        "UPDATE product SET body = %s WHERE id = %s", (json.dumps(body), product)
    )
    conn.commit()


def set_path_as_often_copied(conn, product, path, value):
    conn.execute(
        "UPDATE product SET body = jsonb_set(body, %s, to_jsonb(%s::text))"
        " WHERE id = %s",
        (path, value, product),
    )
    conn.commit()


# --8<-- [end:wrong]


def test_often_copied_loses_a_change(conn, postgresql):
    """Often copied: of two changes at the same time one is lost."""
    barrier = Barrier(2)

    class Meeting(psycopg.Connection):
        def execute(self, query, *args, **kwargs):
            if "UPDATE" in query:
                barrier.wait(timeout=10)
            return super().execute(query, *args, **kwargs)

    def one(name):
        with Meeting.connect(postgresql) as conn:
            set_field_as_often_copied(conn, 1, name, 1)

    with ThreadPoolExecutor() as pool:
        list(pool.map(one, ("a", "b")))
    assert len(body_of(conn).keys() & {"a", "b"}) == 1


def test_often_copied_changes_nothing(conn):
    """Often copied: where the parent is missing nothing changes, without an error."""
    set_path_as_often_copied(conn, 1, ["weight", "kg"], "2")
    assert body_of(conn) == POT


def test_often_copied_wipes_the_document(conn):
    """Often copied: None makes the whole document NULL; NOT NULL alone prevents it."""
    with pytest.raises(errors.NotNullViolation):
        set_path_as_often_copied(conn, 1, ["name"], None)
    conn.execute("ALTER TABLE product ALTER body DROP NOT NULL")
    set_path_as_often_copied(conn, 1, ["name"], None)
    assert body_of(conn) is None
