import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from recipes.sqlite.parameters import ORDER, SCHEMA, add, by_ids, search


@pytest.fixture
def conn(sqlite: str) -> Iterator[sqlite3.Connection]:
    """An empty table of products (sqlite is the path of a file)."""
    with closing(sqlite3.connect(sqlite)) as conn:
        conn.execute(SCHEMA)
        yield conn


def names(rows) -> list[str]:
    return [name for _, name, _ in rows]


def objects(conn: sqlite3.Connection) -> list[str]:
    return [row[0] for row in conn.execute("SELECT sql FROM sqlite_schema")]


HOSTILE = [
    "' OR '1'='1",
    "'; DROP TABLE product; --",
    "x'); DELETE FROM product; --",
    "' UNION SELECT 1, sql, 3 FROM sqlite_schema --",
    "'; ATTACH DATABASE 'stolen.db' AS stolen; --",
    "'; PRAGMA writable_schema = ON; --",
    "\\' OR 1=1 --",
    '" OR ""="',
    "/* */ OR 1=1",
    "Robert'/**/;--",
    "?",
    ":name",
    "@name $name ?1",
    "%' OR '%'='",
    "nul \0 inside",
    "line\r\nbreak",
    "\N{RIGHT SINGLE QUOTATION MARK}; O\N{MODIFIER LETTER APOSTROPHE}Brien",
    "\N{PILE OF POO}",
    "x" * 100_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_injection_does_nothing(conn, text):
    """Text that attacks SQL is stored and found as plain text, and changes nothing."""
    before = objects(conn)
    other = add(conn, "harmless", 1)
    new = add(conn, text, 2)
    assert by_ids(conn, [new]) == [(new, text, 2)]
    if len(text) < 10_000 and "\0" not in text:  # LIKE stops at a NUL, and at 50 kB
        assert search(conn, text) == [(new, text, 2)]
    assert by_ids(conn, [other]) == [(other, "harmless", 1)]
    assert objects(conn) == before


def test_hostile_order_is_refused(conn):
    """A sort order that is not on the list is an error before any SQL runs."""
    with pytest.raises(KeyError):
        search(conn, order="cents; DROP TABLE product")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("100%", ["100% wool"]),
        ("Under_", ["Under_score"]),
        ("back\\", ["back\\slash"]),
        ("", ["100 percent wool", "100% wool", "UnderXscore", "Under_score"]),
    ],
)
def test_search_text_is_taken_as_it_is(conn, text, found):
    r"""A user's `%`, `_` and `\` find themselves."""
    for name in (
        "100% wool",
        "100 percent wool",
        "Under_score",
        "UnderXscore",
        "back\\slash",
    ):
        add(conn, name, 1)
    assert names(search(conn, text))[: len(found)] == found
    assert not text or len(search(conn, text)) == 1


def test_case(conn):
    """The search ignores the case of a to z, and of no other letter."""
    add(conn, "Ä and A", 1)
    assert len(search(conn, "AND a")) == 1
    assert search(conn, "ä and") == []


def test_a_limit_of_zero_is_a_limit(conn):
    """A minimum of 0 is a condition; no minimum is none."""
    for cents in (-5, 0, 5):
        add(conn, str(cents), cents)
    assert names(search(conn, min_cents=0, order="cheapest")) == ["0", "5"]
    assert len(search(conn)) == 3


def test_orders(conn):
    """Each order on the list sorts as it says."""
    for name, cents in (("b", 3), ("a", 2), ("c", 1)):
        add(conn, name, cents)
    found = {order: "".join(names(search(conn, order=order))) for order in ORDER}
    assert found == {"name": "abc", "cheapest": "cab", "dearest": "bac"}


def test_list_of_any_length(conn):
    """A list longer than the limit of parameters works, and so does an empty one."""
    conn.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)  # as in old builds
    ids = [add(conn, name, 1) for name in "abc"]
    assert names(by_ids(conn, range(100_000))) == ["a", "b", "c"]
    assert names(by_ids(conn, ids[1:])) == ["b", "c"]
    assert by_ids(conn, []) == []


def test_list_uses_the_index(conn):
    """The ids of the list are looked up by the primary key, not by a scan."""
    statements = []
    conn.set_trace_callback(statements.append)
    by_ids(conn, [1, 2])
    plan = conn.execute("EXPLAIN QUERY PLAN " + statements[0]).fetchall()
    assert "SEARCH product USING INTEGER PRIMARY KEY (rowid=?)" in [p[3] for p in plan]


# --8<-- [start:wrong]
def search_as_often_copied(conn, text="", min_cents=None, order="name"):
    query = f"SELECT id, name, cents FROM product WHERE name LIKE '%{text}%'"
    if min_cents:
        query += f" AND cents >= {min_cents}"
    return conn.execute(query + " ORDER BY ?", (order,)).fetchall()


def by_ids_as_often_copied(conn, ids):
    marks = ", ".join("?" for _ in ids)
    return conn.execute(f"SELECT * FROM product WHERE id IN ({marks})", ids).fetchall()


# --8<-- [end:wrong]


def test_often_copied_injects(conn):
    """Often copied: a search text widens the condition; an apostrophe is an error."""
    for name in ("public", "secret"):
        add(conn, name, 1)
    found = search_as_often_copied(conn, "nothing%' OR '%'='")
    assert sorted(names(found)) == ["public", "secret"]
    with pytest.raises(sqlite3.OperationalError, match="syntax error"):
        search_as_often_copied(conn, "O'Brien")


def test_often_copied_finds_too_much(conn):
    """Often copied: `100%` also finds `100 percent`, and a minimum of 0 is ignored."""
    add(conn, "100% wool", 1)
    add(conn, "100 percent wool", -5)
    assert len(search_as_often_copied(conn, "100%", min_cents=0)) == 2


def test_often_copied_does_not_sort(conn):
    """Often copied: `ORDER BY ?` sorts by a constant, so it sorts nothing."""
    for name in "bca":
        add(conn, name, 1)
    assert names(search_as_often_copied(conn, order="name")) == ["b", "c", "a"]


def test_often_copied_list_is_too_long(conn):
    """Often copied: a `?` for each id fails when the list outgrows the limit."""
    limit = conn.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)
    assert limit >= 32_766
    with pytest.raises(sqlite3.OperationalError, match="too many SQL variables"):
        by_ids_as_often_copied(conn, list(range(1000)))
