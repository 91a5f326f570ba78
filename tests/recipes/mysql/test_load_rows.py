import csv
import gc
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import partial
from itertools import product

import mysql.connector as connector
import pymysql
import pytest

from recipes.mysql import load_rows as with_pymysql
from recipes.mysql import load_rows_connector as with_connector
from recipes.mysql.load_rows import connect
from tests.recipes.mysql.conftest import query
from tests.recipes.support.rogue_mysql import RogueServer

ERRORS = (pymysql.Error, connector.Error)


@pytest.fixture
def url(item_url):
    return item_url


class Loader:
    """The function of one driver on one connection."""

    def __init__(self, driver, conn):
        self.conn = conn
        self.rows = partial(driver.load_rows, conn, "item")
        self.into = partial(driver.load_rows, conn)


@pytest.fixture
def loader(request, url):
    with request.param.connect(url) as conn:
        yield Loader(request.param, conn)


EACH = pytest.mark.parametrize("loader", [with_pymysql, with_connector], indirect=True)


@EACH
def test_rows(url, loader):
    """Every character, number and date that rows hold comes back unchanged."""
    names = [
        "\t\n\\",
        "\\N",
        "\r",
        "\0\x1a",
        "'\"`,",
        "%s",
        "\N{SLIGHTLY SMILING FACE}é",
        "",
    ]
    at = datetime(2026, 3, 29, 2, 30, 0, 123456)
    rows = [(i, name, Decimal("0.10") * i, at) for i, name in enumerate(names)]
    rows.append((100, "none", None, None))
    assert loader.rows(["id", "name", "price", "at"], iter(rows)) == len(rows)
    assert query(url, "SELECT * FROM item ORDER BY id") == rows


PARTS = ["", "a", "N", "NULL", "\\", '"', "'", ",", "\t", "\n", "\r", "\0", "\x1a", "é"]


@EACH
def test_every_text(url, loader):
    """Texts of quotes, line ends, backslashes, NULL as a word: all stay as they are."""
    query(url, "CREATE TABLE t (id INT PRIMARY KEY, a TEXT, b TEXT) CHARSET utf8mb4")
    texts = ["".join(parts) for parts in product(PARTS, repeat=3)]
    rows = [(i, text, text if i % 3 else None) for i, text in enumerate(texts)]
    assert loader.into("t", ["id", "a", "b"], rows) == len(rows)
    assert query(url, "SELECT * FROM t ORDER BY id") == rows


@EACH
def test_one_special_character(url, loader):
    """A tab, a line end or a backslash stays, though no other text has one."""
    for number, name in enumerate("\t\n\\\r"):
        loader.rows(["id", "name"], [(number, f"a{name}b")])
    found = query(url, "SELECT name FROM item ORDER BY id")
    assert found == [("a\tb",), ("a\nb",), ("a\\b",), ("a\rb",)]


@pytest.mark.parametrize("driver", [with_pymysql, with_connector])
def test_rows_are_taken_a_few_hundred_at_a_time(driver):
    """However many rows there are, 300 of them are in memory at a time."""
    rows = ((number,) for number in range(5000))
    next(driver.lines(rows))
    assert next(rows) == (300,)


@pytest.mark.parametrize("driver", [with_pymysql, with_connector])
def test_the_garbage_collector_sleeps(driver):
    """Making the lines of rows that are there does not wake the garbage collector."""
    rows = [(number, f"City {number}") for number in range(30_000)]
    woken = []
    gc.collect()
    gc.callbacks.append(lambda phase, _: woken.append(phase))
    try:
        for _ in driver.lines(rows):
            pass
    finally:
        gc.callbacks.pop()
    assert len(woken) < 10  # other threads may wake it, but not for each block


@EACH
def test_one_column(url, loader):
    """One column of texts: an empty text and NULL stay apart."""
    query(url, "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, a TEXT)")
    rows = [("",), (None,), ("NULL",), ("\\N",), ("",)]
    assert loader.into("t", ["a"], rows) == len(rows)
    assert query(url, "SELECT a FROM t ORDER BY id") == rows


@EACH
@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        ("DECIMAL(10, 2)", Decimal("1E+3"), Decimal(1000)),
        ("DECIMAL(10, 9)", Decimal("-1.5E-7"), Decimal("-1.5E-7")),
        ("DECIMAL(65, 0)", 10**64, Decimal(10**64)),
        ("BIGINT UNSIGNED", 2**64 - 1, 2**64 - 1),
        ("DOUBLE", 1e-300, 1e-300),
        ("DOUBLE", 0.1 + 0.2, 0.1 + 0.2),
        ("TIME(6)", time(2, 30, 0, 5), timedelta(hours=2, minutes=30, microseconds=5)),
        ("DATE", date(1000, 1, 1), date(1000, 1, 1)),
        ("DATETIME", datetime(9999, 12, 31), datetime(9999, 12, 31)),
        ("BOOLEAN", False, 0),
    ],
)
def test_values(url, loader, kind, value, found):
    """Numbers with an exponent, the largest and smallest, times: nothing is lost."""
    query(url, f"CREATE TABLE t (id INT PRIMARY KEY, a {kind})")
    loader.into("t", ["id", "a"], [(1, value), (2, None)])
    assert query(url, "SELECT a FROM t ORDER BY id") == [(found,), (None,)]
    loader.into("t", ["id", "a"], [(3, value)])
    assert query(url, "SELECT a FROM t WHERE id = 3") == [(found,)]


@EACH
def test_types_mixed_in_a_column(url, loader):
    """A column of text may be given numbers, dates and True, which is 1."""
    query(url, "CREATE TABLE t (id INT PRIMARY KEY, a TEXT)")
    values = ["x\t", 1, 0.5, Decimal("1.50"), date(2026, 1, 2), True, None]
    loader.into("t", ["id", "a"], enumerate(values))
    found = [text for (text,) in query(url, "SELECT a FROM t ORDER BY id")]
    assert found == ["x\t", "1", "0.5", "1.50", "2026-01-02", "1", None]


@EACH
def test_no_rows(url, loader):
    """No rows at all is a load of 0 rows."""
    assert loader.rows(["id", "name"], []) == 0


@EACH
def test_rows_more_types(url, loader):
    """True is 1, a date is its midnight, and 0.25 is 0.25."""
    loader.rows(["id", "name", "price", "at"], [(True, "x", 0.25, date(2026, 1, 2))])
    expected = (1, "x", Decimal("0.25"), datetime(2026, 1, 2))
    assert query(url, "SELECT * FROM item") == [expected]


@EACH
@pytest.mark.parametrize(
    "value",
    [
        b"bytes",
        {"a": 1},
        object(),
        [1],
        timedelta(1),
        float("nan"),
        float("-inf"),
        Decimal("NaN"),
        Decimal("sNaN1"),
        Decimal("Infinity"),
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=-5))),
        time(12, tzinfo=UTC),
    ],
    ids=lambda value: type(value).__name__,
)
def test_unknown_type(url, loader, value):
    """Bytes, lists, NaN, a time zone are refused, not stored as Python prints them."""
    query(url, "CREATE TABLE t (id INT PRIMARY KEY, a TEXT)")
    for rows in ([(1, "x"), (2, value)], [(1, value)]):
        with pytest.raises(TypeError, match="cannot load"):
            loader.into("t", ["id", "a"], rows)
    assert query(url, "SELECT id FROM t") == []


@EACH
@pytest.mark.parametrize(
    "row",
    [
        pytest.param((2, "far too long", 1), id="too long"),
        pytest.param((2, "Rome", Decimal("1.005")), id="would be rounded"),
        pytest.param((2, "Rome", 123456), id="out of range"),
        pytest.param((2, "Rome", "free"), id="not a number"),
        pytest.param((1, "Rome", 1), id="duplicate"),
        pytest.param((2, None, 1), id="NULL where it may not be"),
    ],
)
def test_bad_row_is_refused(url, loader, row):
    """A row that does not fit, or was there, is an error; then no row is stored."""
    query(url, "INSERT INTO item VALUES (0, 'was here', 1, NULL)")
    with pytest.raises(ValueError, match="warnings, the first"):
        loader.rows(["id", "name", "price"], [(1, "Oslo", 1), row])
    loader.conn.commit()
    assert query(url, "SELECT id FROM item") == [(0,)]


@EACH
@pytest.mark.parametrize("row", [(2,), (2, "x", 1)], ids=["too few", "too many"])
def test_row_of_another_length(url, loader, row):
    """A row with a value too few or too many is an error; then no row is stored."""
    for rows in ([(1, "x"), row], [row]):
        with pytest.raises(ValueError, match=r"zip|warnings"):
            loader.rows(["id", "name"], rows)
    assert query(url, "SELECT id FROM item") == []


@EACH
def test_error_while_the_rows_are_made(url, loader):
    """An error in the iterator reaches the caller; no row is stored."""

    def rows():
        for number in range(2500):
            yield number, "x"
        raise KeyError("ours")

    with loader.conn.cursor() as cursor:
        cursor.execute("INSERT INTO item VALUES (-1, 'pending', 1, NULL)")
    with pytest.raises(KeyError, match="ours"):
        loader.rows(["id", "name"], rows())
    loader.conn.commit()
    assert query(url, "SELECT id FROM item") == []


@EACH
def test_many_rows_a_few_at_a_time(url, loader, tmp_path, monkeypatch):
    """Thousands of rows are taken from the iterator, and no file stays behind."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert loader.rows(["id", "name"], ((i, f"n{i}") for i in range(2500))) == 2500
    assert query(url, "SELECT COUNT(*), SUM(id) FROM item") == [(2500, 3123750)]
    assert list(tmp_path.iterdir()) == []


@EACH
def test_odd_names(mysql, loader):
    """A column may be called anything."""
    query(mysql, "ALTER TABLE item ADD `a ``b``, 1 %` INT")
    loader.rows(["id", "name", "a `b`, 1 %"], [(1, "x", 7)])
    assert query(mysql, "SELECT `a ``b``, 1 %` FROM item") == [(7,)]


@EACH
def test_missing_column(url, loader):
    """An error of the server, such as a missing column, reaches the caller."""
    with pytest.raises(ERRORS, match="nowhere"):
        loader.rows(["nowhere"], [(1,)])


@pytest.mark.parametrize("sql", ["SELECT 1", "LOAD DATA LOCAL INFILE 'x' INTO TABLE t"])
def test_rogue_server_gets_no_other_file(tmp_path, sql):
    """The connector sends a rogue server no file but the one that we name."""
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret", encoding="utf-8")
    (tmp_path / "x").touch()
    rogue = RogueServer(secret)
    conn = with_connector.connect(rogue.url)
    cursor = conn.cursor()
    with pytest.raises(connector.InterfaceError, match=r"LOCAL INFILE|not the same"):
        cursor.execute(sql.replace("'x'", f"'{tmp_path / 'x'}'"))
    conn.shutdown()
    rogue.close()
    assert rogue.stolen == b""


# --8<-- [start:wrong]
def load_as_often_copied(conn, path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    with conn.cursor() as cursor:
        cursor.execute(
            f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE item"
            " FIELDS TERMINATED BY ',' ENCLOSED BY '\"' (id, price, name)"
        )
    conn.commit()


# --8<-- [end:wrong]


def test_often_copied_changes_values(url, tmp_path):
    """Often copied: NULL is 0, a backslash is lost, a line end is added; no error."""
    rows = [(1, None, "C:\\new"), (2, Decimal(5), "a"), (2, 6, "b")]
    with connect(url) as conn:
        load_as_often_copied(conn, tmp_path / "rows.csv", rows)
    found = query(url, "SELECT id, price, name FROM item")
    assert found == [(1, 0, "C:\new\r"), (2, 5, "a\r")]
