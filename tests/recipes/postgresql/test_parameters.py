"""parameters: what a user types stays a value."""

from collections.abc import Iterator
from decimal import Decimal

import psycopg
import pytest
from psycopg import errors, sql

from recipes.postgresql.parameters import (
    find,
    find_by_ids,
    find_by_name,
    find_organic,
    search,
    sort_by,
)

PRODUCTS = [
    (1, "organic tea", Decimal("4.50")),
    (2, "organic gold", Decimal(900)),
    (3, "100% juice", Decimal("3.20")),
    (4, "1000 pins", Decimal(2)),
    (5, r"back\slash", Decimal(1)),
    (6, "under_score", Decimal(1)),
]

# Each has broken out of a quote, a comment, an encoding or an escape somewhere.
ATTACKS = [
    "' OR '1'='1",
    "'; DROP TABLE product; --",
    '"; DROP TABLE product; --',
    "product; DELETE FROM product",
    r"\'; DROP TABLE product; --",
    "1 UNION SELECT usesysid, usename, 1 FROM pg_user",
    "$$; DROP TABLE product; --",
    "'/**/OR/**/1=1--",
    "ʼ OR 1=1 --",  # noqa: RUF001 - a letter that looks like a quote
    "%' OR name LIKE '%",
    "%s %(name)s {} {0} $1 :name ?",
    "\n'; DROP TABLE product; --",
    "E'\\'; DROP TABLE product; --",
    "product FROM PROGRAM 'id' --",
]


@pytest.fixture
def conn(postgresql: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute("CREATE TABLE product (id int, name text, price numeric)")
        with conn.cursor() as cursor:
            cursor.executemany("INSERT INTO product VALUES (%s, %s, %s)", PRODUCTS)
        yield conn


def ids(rows: list[tuple]) -> list[int]:
    return [row[0] for row in rows]


def test_injection_as_a_value(conn):
    """14 injection strings are stored, found and searched for as the text they are."""
    for number, attack in enumerate(ATTACKS, 100):
        assert find_by_name(conn, attack) == search(conn, attack) == []
        conn.execute("INSERT INTO product VALUES (%s, %s, 1)", (number, attack))
        assert find_by_name(conn, attack) == [(number, attack)]
        assert (number, attack) in search(conn, attack)
        assert ids(find(conn, name=attack)) == [number]
    assert conn.execute("SELECT count(*) FROM product").fetchone() == (20,)


def test_injection_as_a_name(conn):
    """The same strings as the name of a column or table are names that do not exist."""
    for attack in ATTACKS:
        with pytest.raises(errors.UndefinedColumn):
            sort_by(conn, "product", attack)
        with pytest.raises(errors.UndefinedTable):
            sort_by(conn, attack, "id")
    assert conn.execute("SELECT count(*) FROM product").fetchone() == (6,)


def test_zero_byte(conn):
    """A zero byte, which PostgreSQL cannot store, is refused, not cut off."""
    with pytest.raises(psycopg.DataError, match="NUL"):
        find_by_name(conn, "organic tea\x00; DROP TABLE product")


@pytest.mark.parametrize("wanted", [[], [1], [3, 1], list(range(1, 100_000))])
def test_list_of_any_length(conn, wanted):
    """A list of no, one, some, and 99,999 ids is one parameter."""
    assert ids(find_by_ids(conn, wanted)) == [n for n in range(1, 7) if n in wanted]


@pytest.mark.parametrize(
    ("text", "found"),
    [("100%", [3]), ("100", [3, 4]), ("_", [6]), ("\\", [5]), ("ORGANIC T", [1])],
)
def test_search(conn, text, found):
    """In a search, the user's own % _ and backslash mean themselves."""
    assert ids(search(conn, text)) == found


def test_percent_sign_in_the_query(conn):
    """LIKE 'organic%%' beside a parameter works."""
    assert ids(find_organic(conn, Decimal(5))) == [1]


def test_filters(conn):
    """A filter that is None filters nothing."""
    assert ids(find(conn)) == [1, 2, 3, 4, 5, 6]
    assert ids(find(conn, below=Decimal(2))) == [5, 6]
    assert ids(find(conn, name="under_score", below=Decimal(2))) == [6]


def test_sort(conn):
    """Table and column are chosen at run time, in both directions."""
    assert ids(sort_by(conn, "product", "price", descending=True))[0] == 2
    assert ids(sort_by(conn, "public.product", "id")) == [1, 2, 3, 4, 5, 6]


def test_strange_names(conn):
    """Names with capitals, spaces, quotes and a reserved word work."""
    conn.execute('CREATE TABLE "Order" ("a ""b"" C%" int)')
    assert sort_by(conn, "Order", 'a "b" C%') == []


def test_quoted_placeholder(conn):
    """A placeholder in quotes is no parameter: the query does not use the value."""
    with pytest.raises(errors.IndeterminateDatatype):
        conn.execute("SELECT FROM product WHERE name = '%s'", ("tea",))


# --8<-- [start:wrong]
def find_by_name_as_copied(conn, name):
    return conn.execute(f"SELECT id, name FROM product WHERE name = '{name}'")


def find_by_ids_as_copied(conn, ids):
    return conn.execute("SELECT id, name FROM product WHERE id IN %s", (tuple(ids),))


def find_organic_as_copied(conn, below):
    query = "SELECT id FROM product WHERE name LIKE 'organic%' AND price < %s"
    return conn.execute(query, (below,))


def count_as_copied(conn, table):
    return conn.execute(f"SELECT count(*) FROM {table}")


# --8<-- [end:wrong]


def test_often_copied_quotes(conn):
    """Often copied: a quote in the value, and the query returns every product."""
    assert len(find_by_name_as_copied(conn, "' OR '1'='1").fetchall()) == 6


def test_often_copied_apostrophe(conn):
    """Often copied: an honest apostrophe (O'Neill) is a syntax error."""
    with pytest.raises(errors.SyntaxError):
        find_by_name_as_copied(conn, "O'Neill")


def test_often_copied_table(conn):
    """Often copied: a table name from outside deletes every row."""
    count_as_copied(conn, "product; DELETE FROM product; --")
    assert conn.execute("SELECT count(*) FROM product").fetchone() == (0,)


def test_often_copied_runs_a_program(conn):
    """Often copied: with COPY, a table name runs a program on the server."""
    table = "product (id) FROM PROGRAM 'echo 4242' --"
    conn.execute(f"COPY {table} FROM STDIN")
    assert ids(find_by_ids(conn, [4242])) == [4242]
    with pytest.raises(errors.UndefinedTable):
        conn.execute(sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table)))


def test_often_copied_in(conn):
    """Often copied, from psycopg2: IN %s is a syntax error in psycopg 3."""
    with pytest.raises(errors.SyntaxError):
        find_by_ids_as_copied(conn, [1, 2])


def test_often_copied_percent(conn):
    """Often copied: LIKE 'organic%' beside a parameter is refused by psycopg."""
    with pytest.raises(psycopg.ProgrammingError, match="only '%s'"):
        find_organic_as_copied(conn, Decimal(5))
