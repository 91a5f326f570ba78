import sqlite3
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal

import pytest

from recipes.sqlite.custom_functions import (
    PEOPLE,
    connect,
    running_total,
    wrong_phones,
)


@pytest.fixture
def conn(sqlite: str) -> Iterator[sqlite3.Connection]:
    """Three people (sqlite is the path of the file)."""
    with closing(connect(sqlite)) as conn:
        conn.execute(
            "CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT, phone TEXT,"
            " paid TEXT)"
        )
        with conn:
            conn.executemany(
                "INSERT INTO person (name, phone, paid) VALUES (?, ?, ?)", PEOPLE
            )
        yield conn


def one(conn: sqlite3.Connection, sql: str, *values):
    return conn.execute(f"SELECT {sql}", values).fetchone()[0]


@pytest.mark.parametrize(
    ("text", "pattern", "found"),
    [
        ("abc", "b", 1),  # anywhere in the text
        ("abc", "^b", 0),
        ("b", "abc", 0),  # the pattern is on the right
        ("Straße", r"\bstra(ß|ss)e\b", 0),
        ("Straße", r"(?i)\bstra(ß|ss)e\b", 1),
        (None, "b", None),
    ],
)
def test_regexp(conn, text, pattern, found):
    """`text REGEXP pattern` searches like `re.search`; NULL stays NULL."""
    assert one(conn, "? REGEXP ?", text, pattern) == found


def test_wrong_phones(conn):
    """A check with REGEXP finds the bad values, in the order of the alphabet."""
    conn.execute("INSERT INTO person (name, phone) VALUES ('anton', 'x'), ('No', NULL)")
    assert wrong_phones(conn) == ["Anna", "anton", "ärger"]


def test_bad_pattern_is_an_error(conn):
    """A function that fails makes the statement fail; the error hides why."""
    with pytest.raises(sqlite3.OperationalError) as caught:
        one(conn, "'a' REGEXP '('")
    assert str(caught.value) == "user-defined function raised exception"


def test_sum_is_exact(conn):
    """The sum is exact to the cent, where `sum()` goes through a float."""
    exact = Decimal("9007199254740993.30")
    assert Decimal(one(conn, "decimal_sum(paid) FROM person")) == exact
    assert Decimal(one(conn, "sum(paid) FROM person")) != exact


def test_sum_has_28_digits(conn):
    """The limit: beyond 28 digits Decimal rounds, without an error."""
    amounts = ("1" + 27 * "0", "0.01")
    total = one(conn, "decimal_sum(column1) FROM (VALUES (?), (?))", *amounts)
    assert Decimal(total) == Decimal(amounts[0])


def test_sum_of_nothing(conn):
    """Without rows, or with NULLs only, the sum is NULL, as with `sum()`."""
    assert one(conn, "decimal_sum(paid) FROM person WHERE id > 99") is None
    assert one(conn, "decimal_sum(NULL) FROM person") is None


def test_running_total(conn):
    """The same class serves as a window function: running totals, moving windows."""
    conn.execute("UPDATE person SET paid = NULL WHERE id = 2")
    conn.execute("UPDATE person SET paid = '0.30' WHERE id = 3")
    totals = [str(total) for _, total in running_total(conn)]
    assert totals == ["0.10", "0.10", "0.40"]
    moving = conn.execute(
        "SELECT decimal_sum(paid) OVER (ORDER BY id ROWS 1 PRECEDING) FROM person"
    )
    assert [total for (total,) in moving] == ["0.10", "0.10", "0.30"]


def test_order(conn):
    """The collation ignores case in every alphabet, where NOCASE knows ASCII only."""
    assert one(conn, "'STRASSE' = 'straße' COLLATE casefold") == 1
    assert one(conn, "'straße' = 'STRASSE' COLLATE casefold") == 1
    assert one(conn, "'Ä' = 'ä' COLLATE casefold") == 1
    assert one(conn, "'Ä' = 'ä' COLLATE nocase") == 0
    assert one(conn, "'B' < 'a' COLLATE casefold") == 0


def test_index_on_a_function(conn):
    """A deterministic function may be in an index; then every writer needs it."""
    conn.execute("CREATE INDEX digits ON person (phone REGEXP '^[0-9]+$')")
    conn.commit()
    path = conn.execute("PRAGMA database_list").fetchone()[2]
    with (
        closing(sqlite3.connect(path)) as plain,
        pytest.raises(sqlite3.OperationalError, match="function: REGEXP"),
    ):
        plain.execute("INSERT INTO person (phone) VALUES ('1')")


# --8<-- [start:wrong]
def check_as_often_copied(conn):
    try:
        (bad,) = conn.execute(
            "SELECT count(*) FROM person WHERE phone NOT REGEXP '^[+0-9 ()-]+$'"
        ).fetchone()
    except sqlite3.OperationalError as error:
        print("check failed:", error)
        bad = 0
    return "PASS" if bad == 0 else "FAIL"


# --8<-- [end:wrong]


def test_often_copied_passes_everything(sqlite, conn, capsys):
    """Often copied: without the function the check passes whatever is in the table."""
    with closing(sqlite3.connect(sqlite)) as plain:
        assert check_as_often_copied(plain) == "PASS"
    assert capsys.readouterr().out == "check failed: no such function: REGEXP\n"
    assert check_as_often_copied(conn) == "FAIL"


def test_decimal_is_no_type_of_sqlite(conn):
    """A function must return str, int, float, bytes, bool or None: Decimal fails."""
    conn.create_function("as_decimal", 1, Decimal)
    with pytest.raises(sqlite3.OperationalError, match="user-defined function"):
        one(conn, "as_decimal('1.10')")
