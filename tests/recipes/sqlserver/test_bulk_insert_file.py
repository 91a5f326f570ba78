from decimal import Decimal
from uuid import uuid4

import mssql_python
import pytest

from cookbook.engines.sqlserver import FILES
from recipes.sqlserver.bulk_insert_file import (
    SCHEMA,
    load_from_here,
    load_from_there,
    read,
)
from tests.recipes.support.tds_listener import error

GOOD = 'id,product,amount\n1,"bolt, ""8"" mm",0.10\n2,größer €,12.5\n3,,7\n'
ROWS = [
    (1, 'bolt, "8" mm', Decimal("0.10")),
    (2, "größer €", Decimal("12.5")),
    (3, "", Decimal(7)),
]


@pytest.fixture
def write(tmp_path):
    """Write a CSV file, and return its path."""

    def run(text, encoding="utf-8"):
        path = tmp_path / "sale.csv"
        path.write_text(text, encoding, newline="")
        return path

    return run


@pytest.fixture
def there():
    """Write a file where the server sees it, and return its path over there."""
    paths = []

    def run(text):
        FILES.mkdir(parents=True, exist_ok=True)
        paths.append(FILES / f"{uuid4().hex}.csv")
        paths[-1].write_text(text, "utf-8", newline="")
        paths[-1].chmod(0o644)
        return f"/files/{paths[-1].name}"

    yield run
    for path in paths:
        path.unlink()


@pytest.fixture
def shop(sqlserver, query):
    """The address of a database with an empty table."""
    query(sqlserver, SCHEMA)
    return sqlserver


def sales(query, dsn):
    return query(dsn, "SELECT id, product, amount FROM sale ORDER BY id")


def test_reads_the_file(write):
    """Quotes, commas, umlauts and empty fields are read as they were meant."""
    assert list(read(write(GOOD))) == ROWS


def test_byte_order_mark(write):
    """A file that a spreadsheet saved, with a mark at its start and CRLF, is read."""
    assert list(read(write(GOOD.replace("\n", "\r\n"), "utf-8-sig"))) == ROWS


@pytest.mark.parametrize(
    ("line", "said"),
    [
        pytest.param("4,nut", "line 5", id="too-short"),
        pytest.param("4,nut,1,2", "line 5", id="too-long"),
        pytest.param("4,nut,1.005", "line 5", id="half-a-cent"),
        pytest.param("4,nut,NaN", "line 5", id="nan"),
        pytest.param("4,nut,1_0", "line 5", id="underscore"),
        pytest.param("4,nut,", "line 5", id="no-amount"),
        pytest.param("4x,nut,1", "line 5", id="no-number"),
    ],
)
def test_bad_line(write, line, said):
    """A bad line is an error that names it."""
    with pytest.raises(ValueError, match=said):
        list(read(write(GOOD + line + "\n")))


LOAD = """
import sys, mssql_python
from pathlib import Path
from recipes.sqlserver.bulk_insert_file import load_from_here

conn = mssql_python.connect(sys.argv[1], timeout=5)
try:
    load_from_here(conn, Path(sys.argv[2]))
except ValueError as error:
    print(error)
conn.close()
"""


def test_nothing_is_sent(listener, elsewhere, write):
    """The whole file is read before the first row is sent: a bad line loads nothing."""
    server = listener()
    assert "line 5" in elsewhere(LOAD, server.dsn, str(write(GOOD + "4,nut\n")))
    assert len(server.logins) == 1  # bulk copy would have logged in again


def test_other_header(write):
    """Columns in another order are an error, not money in the wrong column."""
    with pytest.raises(ValueError, match="first line"):
        list(read(write("id,amount,product\n1,2,bolt\n")))


def test_quotes_the_path(listener, connections):
    """The path is quoted: a quote in it ends nothing."""
    server = listener(lambda text: error(4860, "no file") if "BULK" in text else None)
    with pytest.raises(mssql_python.Error, match="no file"):
        load_from_there(connections(server.dsn), "/files/it's.csv'; DROP TABLE sale --")
    (said,) = [it for it in server.requests if "BULK" in it]
    assert "FROM N'/files/it''s.csv''; DROP TABLE sale --' WITH" in said


def test_from_here(shop, connections, query, write):
    """The rows of a file on this side arrive."""
    assert load_from_here(connections(shop), write(GOOD)) == 3
    assert sales(query, shop) == ROWS


def test_from_here_checks(shop, connections, query, write):
    """What the table forbids is refused: a number that is there already."""
    conn = connections(shop)
    with pytest.raises(RuntimeError):
        load_from_here(conn, write(GOOD + "1,again,1\n"))
    assert sales(query, shop) == []


def test_from_there(shop, connections, query, there):
    """The rows of a file on the server's side arrive, umlauts included."""
    conn = connections(shop)
    assert load_from_there(conn, there(GOOD)) == 3
    conn.commit()
    assert sales(query, shop) == ROWS


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("4,nut", id="too-short"),
        pytest.param("4,nut,much", id="no-amount"),
        pytest.param("1,again,1", id="twice"),
    ],
)
def test_from_there_all_or_none(shop, connections, query, there, line):
    """One bad line, and no row is there."""
    conn = connections(shop)
    with pytest.raises(mssql_python.Error):
        load_from_there(conn, there(GOOD + line + "\n"))
    conn.rollback()
    assert sales(query, shop) == []


def test_path_of_the_client(shop, connections, write):
    """A path of this machine is none of the server's: it cannot open the file."""
    with pytest.raises(
        mssql_python.Error, match=r"(?i)could not be opened|cannot bulk"
    ):
        load_from_there(connections(shop), str(write(GOOD)))


# --8<-- [start:wrong]
def load_as_often_copied(conn, path):
    conn.execute(
        f"BULK INSERT sale FROM '{path}'"
        " WITH (FORMAT = 'CSV', FIRSTROW = 2, ROWTERMINATOR = '0x0a')"
    )
    conn.commit()


# --8<-- [end:wrong]


def test_often_copied_leaves_lines_out(shop, connections, query, there):
    """Often copied: up to ten lines that do not fit are left out, without an error."""
    path = there(GOOD + "much,nut,1\n")
    load_as_often_copied(connections(shop), path)
    assert [row[0] for row in sales(query, shop)] == [1, 2, 3]


def test_often_copied_skips_the_rules(shop, connections, query, there):
    """Often copied: CHECK constraints are not looked at."""
    load_as_often_copied(connections(shop), there("id,product,amount\n1,minus,-1\n"))
    assert sales(query, shop) == [(1, "minus", Decimal(-1))]


def test_often_copied_runs_the_path(listener, connections):
    """Often copied: a quote in the path ends it, and what follows is run."""
    server = listener()
    load_as_often_copied(connections(server.dsn), "x'; DROP TABLE sale --")
    assert any("FROM 'x'; DROP TABLE sale --" in it for it in server.requests)
