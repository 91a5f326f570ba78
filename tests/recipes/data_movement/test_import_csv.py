import csv
from datetime import date
from decimal import Decimal

import pandas as pd
import psycopg
import pytest
import sqlalchemy as sa
from psycopg import errors

from recipes.data_movement import import_csv as recipe
from recipes.data_movement.import_csv import import_csv, money, optional, whole
from tests.recipes.support.memory import MB

TABLE = (
    "CREATE TABLE article"
    " (id int PRIMARY KEY, name text, price numeric(10, 2), since date)"
)
TYPES = {
    "id": whole,
    "name": str,
    "price": money,
    "since": optional(date.fromisoformat),
}


@pytest.fixture
def load(conn, tmp_path):
    """Import these lines below the header; return the counts and the rejects."""

    def run(content, header="id,name,price,since\n", **more):
        path, rejects = tmp_path / "in.csv", tmp_path / "rejected.csv"
        raw = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(header.encode() + raw)
        counts = import_csv(conn, "article", path, TYPES, rejects, **more)
        with rejects.open(
            encoding=more.get("encoding", "utf-8-sig"),
            errors="surrogateescape",
            newline="",
        ) as file:
            return counts, list(csv.reader(file))[1:]

    return run


def articles(conn):
    query = "SELECT id, name, price, since FROM article ORDER BY id"
    return conn.execute(query).fetchall()


def test_good_rows_are_loaded_with_their_types(conn, load):
    """Columns in any order, commas, quotes and line ends in fields, an empty date:
    each value arrives as what it is declared."""
    content = 'Tea,1,3.20,2026-01-31\n"two\n""lines""",2,-0.05,\n'
    assert load(content, "name,id,price,since\n") == ((2, 0), [])
    assert articles(conn) == [
        (1, "Tea", Decimal("3.20"), date(2026, 1, 31)),
        (2, 'two\n"lines"', Decimal("-0.05"), None),
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("x,Tea,1,", "id: 'x' is no whole number of at most 9 digits"),
        ("1_000,Tea,1,", "id: '1_000' is no whole number of at most 9 digits"),
        (" 7,Tea,1,", "id: ' 7' is no whole number of at most 9 digits"),
        (
            "9999999999,Tea,1,",
            "id: '9999999999' is no whole number of at most 9 digits",
        ),
        (",Tea,1,", "id: '' is no whole number of at most 9 digits"),
        ("1,Tea,NaN,", "price: 'NaN' is no amount such as 1234.50"),
        ("1,Tea,1e3,", "price: '1e3' is no amount such as 1234.50"),
        ('1,Tea,"1.234,50",', "price: '1.234,50' is no amount such as 1234.50"),
        ("1,Tea,1.005,", "price: '1.005' is no amount such as 1234.50"),
        ("1,Tea,123456789,", "price: '123456789' is no amount such as 1234.50"),
        ("1,Tea,1,31.12.2019", "since: Invalid isoformat string: '31.12.2019'"),
        ("1,Tea,1,2026-02-30", "since: day is out of range for month"),
        ("1,Tea,1", "3 fields, not 4"),
        ("1,Tea,1,,", "5 fields, not 4"),
        (
            "1,T\0ea,1,",
            "a byte is 0, or not of the file's encoding",
        ),
    ],
)
def test_bad_row_is_rejected_with_its_reason(conn, load, row, reason):
    """A bad number, amount or date, a field too few or too many: the row goes to the
    rejects with line, reason and its fields; the rows around it are loaded."""
    counts, rejects = load(f"101,a,1,\n{row}\n102,b,2,\n")
    assert counts == (2, 1)
    assert rejects == [["3", reason, *next(csv.reader([row]))]]
    assert [row[0] for row in articles(conn)] == [101, 102]


def test_no_row_vanishes(conn, load):
    """Of 3,000 rows, every third bad: loaded and rejected together are all of them."""
    lines = [f"{n if n % 3 else 'x'},name {n},1.00,\n" for n in range(3000)]
    counts, rejects = load("".join(lines))
    assert counts == (2000, 1000)
    names = {row[1] for row in articles(conn)} | {row[3] for row in rejects}
    assert names == {f"name {n}" for n in range(3000)}


def test_line_is_that_of_the_file(load):
    """The number is the line where the row begins, also after fields with line ends
    and empty lines."""
    _, rejects = load('w,"a\nb",1,\n\nx,"c\nd",2,\ny,e,3,\n')
    assert [row[0] for row in rejects] == ["2", "5", "7"]


def test_other_encodings(conn, load):
    """Latin-1 is read when you say so; a byte order mark is no part of the header."""
    load("1,Käse,1,\n".encode("latin-1"), encoding="latin-1")
    load(b"2,Tea,1,\n", "\ufeffid,name,price,since\n")
    assert [row[1] for row in articles(conn)] == ["Käse", "Tea"]


def test_bytes_of_another_encoding_are_rejected_unchanged(conn, load, tmp_path):
    """A row in another encoding than the file is rejected, its bytes unchanged."""
    counts, rejects = load("1,Käse,1,\n".encode() + b"2,K\xe4se,1,\n")
    assert counts == (1, 1)
    assert rejects[0][0] == "3"
    assert b"2,K\xe4se,1," in (tmp_path / "rejected.csv").read_bytes()
    assert articles(conn)[0][1] == "Käse"


@pytest.mark.parametrize(
    "header", ["id,name,price\n", "id,name,price,since,colour\n", "", "id;name\n"]
)
def test_header_must_match(conn, load, header):
    """A column that is missing or unknown is an error before the first row."""
    with pytest.raises(ValueError, match="the header is"):
        load("1,Tea,1,\n", header)


def test_quote_that_never_ends(conn, load):
    """An open quote would swallow the rest of the file: an error, nothing is loaded."""
    with pytest.raises(csv.Error):
        load('1,Tea,1,\n2,"Pot,1,\n3,Cup,1,\n')
    assert articles(conn) == []


def test_server_refuses_a_row(conn, load):
    """A key that is there twice is the server's to find: an error, nothing is loaded,
    the connection works again."""
    with pytest.raises(errors.UniqueViolation):
        load("1,Tea,1,\n1,Pot,1,\n")
    assert articles(conn) == []


def test_rejects_can_be_mended_and_imported(conn, load, tmp_path):
    """The rejects, mended and without their first two columns, can be imported."""
    load('1,Tea,1,\n2,"Pot","3,50",\n')
    with (tmp_path / "rejected.csv").open(encoding="utf-8-sig", newline="") as file:
        header, bad = (row[2:] for row in csv.reader(file))
    bad[2] = bad[2].replace(",", ".")
    load(",".join(bad), ",".join(header) + "\n")
    assert [row[2] for row in articles(conn)] == [Decimal("1.00"), Decimal("3.50")]


def import_many(folder, url, rows):
    path = recipe.Path(folder) / "many.csv"
    with path.open("w") as file:
        file.write("id,name,price,since\n")
        for n in range(rows):
            file.write(f"{n if n % 2 else 'x'},{'x' * 500},1.00,\n")
    with psycopg.connect(url) as conn:
        conn.execute(TABLE)
        counts = import_csv(conn, "article", path, TYPES, path.with_suffix(".rejected"))
        conn.rollback()
    assert counts == (rows // 2, rows // 2)


def test_memory_is_constant(growth):
    """A file of 25 MB, half of it bad, takes less than 3 MB more than one of 1 MB."""
    assert growth(import_many, 2_000, 50_000) < 3 * MB


# --8<-- [start:wrong]
def import_as_often_copied(path, engine):
    frame = pd.read_csv(path, on_bad_lines="skip")
    frame["price"] = pd.to_numeric(frame["price"], errors="coerce")
    frame["since"] = pd.to_datetime(frame["since"], errors="coerce")
    frame.to_sql("article", engine, if_exists="append", index=False)


# --8<-- [end:wrong]


def test_often_copied_changes_and_loses(postgresql, tmp_path):
    """Often copied: 00123 becomes 123, NA becomes NULL, an amount and a date that do
    not parse become NULL, and a row with a field too many is gone."""
    path = tmp_path / "in.csv"
    path.write_text(
        "code,name,price,since\n"
        "00123,Tea,1.50,2026-01-31\n"
        "00124,NA,1.50,2026-01-31\n"
        '00125,Pot,"1.234,50",31.12.2019\n'
        "00126,Cup,1,50,2026-01-31\n"
    )
    address = sa.make_url(str(postgresql)).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(address)
    import_as_often_copied(path, engine)
    with engine.connect() as conn:
        query = "SELECT code, name, price, since::date FROM article ORDER BY code"
        rows = [tuple(row) for row in conn.execute(sa.text(query))]
    engine.dispose()
    assert rows == [
        (123, "Tea", 1.5, date(2026, 1, 31)),
        (124, None, 1.5, date(2026, 1, 31)),
        (125, "Pot", None, None),
    ]
