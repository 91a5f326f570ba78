import random
from datetime import UTC, datetime
from decimal import Decimal

import adbc_driver_postgresql.dbapi as adbc
import pandas as pd
import polars as pl
import psycopg
import pyarrow as pa
import pytest
import sqlalchemy as sa

from recipes.data_movement.write_dataframe import TABLE, write_dataframe

MOMENT = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def conn(postgresql):
    with psycopg.connect(postgresql) as setup:
        setup.execute(TABLE)
        setup.execute(
            "ALTER TABLE sale ADD note text, ADD open boolean, ADD data jsonb"
        )
        setup.execute("ALTER TABLE sale ADD local timestamp, ADD day date")
    with adbc.connect(postgresql) as conn:
        yield conn


@pytest.fixture
def look(postgresql):
    """Ask on another connection: it sees what is committed."""

    def ask(query):
        with psycopg.connect(postgresql) as other:
            return other.execute(query).fetchall()

    return ask


def frame(rows=1, **columns):
    ids = range(1, rows + 1)
    return pd.DataFrame({"id": ids, "price": [Decimal("3.20")] * rows, **columns})


def test_columns_are_matched_by_name(conn, look):
    """Columns in any order find their place; those that are missing get their
    default; it commits."""
    data = frame(note=["tea"])[["note", "price", "id"]]
    assert write_dataframe(conn, "sale", data) == 1
    query = "SELECT id, price, note, at = '2026-01-01 00:00Z' FROM sale"
    assert look(query) == [(1, Decimal("3.20"), "tea", True)]


def test_missing_values_are_null(conn, look):
    """None, NaN, NaT and pandas.NA arrive as NULL, in columns of every type; empty
    text stays empty text."""
    data = frame(
        3,
        pieces=[5, None, float("nan")],
        note=["", None, float("nan")],
        open=pd.array([True, pd.NA, None], dtype="boolean"),
        day=[datetime(2026, 1, 2).date(), None, None],
        local=[datetime(2026, 1, 2, 3), pd.NaT, None],
    )
    write_dataframe(conn, "sale", data)
    null = (None,) * 5
    first = (5, "", True, datetime(2026, 1, 2).date(), datetime(2026, 1, 2, 3))
    query = "SELECT pieces, note, open, day, local FROM sale ORDER BY id"
    assert look(query) == [first, null, null]


def test_column_of_nothing_but_none(conn, look):
    """A column that holds nothing but None is NULL, whatever its type."""
    write_dataframe(conn, "sale", frame(pieces=[None], note=[None], local=[None]))
    assert look("SELECT pieces, note, local FROM sale") == [(None, None, None)]


@pytest.mark.parametrize("price", ["0.01", "-0.01", "999999.99", "100"])
def test_money_is_exact(conn, look, price):
    """A Decimal arrives to the cent."""
    write_dataframe(conn, "sale", frame().assign(price=[Decimal(price)]))
    assert look("SELECT price FROM sale") == [(Decimal(price),)]


@pytest.mark.parametrize(
    "columns",
    [
        {"price": [3.2]},
        {"price": [Decimal("3.205")]},
        {"price": [Decimal(1000000)]},
        {"id": [2**31]},
        {"pieces": [1.5]},
        {"local": [MOMENT]},
        {"at": [datetime(2026, 5, 1)]},
        {"note": [b"tea"]},
        {"pieces": ["many"]},
        {"data": ["{}"]},
    ],
    ids=[
        "float for numeric",
        "a third decimal",
        "too many digits",
        "beyond 32 bits",
        "a fraction for an integer",
        "a zone too much",
        "no time zone",
        "bytes for text",
        "text for integer",
        "jsonb",
    ],
)
def test_what_would_change_is_refused(conn, look, columns):
    """Floats for money, a third decimal, a number too big, a fraction for an integer,
    a moment without a time zone: refused before a row is sent."""
    with pytest.raises(ValueError, match=r"\w"):
        write_dataframe(conn, "sale", frame().assign(**columns))
    assert look("SELECT count(*) FROM sale") == [(0,)]


def test_moments_arrive(conn, look):
    """A moment of any time zone is the same moment, to the microsecond."""
    moments = pd.Series([MOMENT.replace(microsecond=1)]).dt.tz_convert("Asia/Kolkata")
    write_dataframe(conn, "sale", frame(at=moments))
    assert look("SELECT at FROM sale") == [(MOMENT.replace(microsecond=1),)]


def test_all_or_nothing(conn, look):
    """The last of 10,000 rows is refused: none of them is there, the error names the
    key, and the connection works again."""
    data = frame(10_000)
    data.loc[9_999, "id"] = 1
    with pytest.raises(adbc.IntegrityError, match=r"Key \(id\)=\(1\)"):
        write_dataframe(conn, "sale", data)
    assert look("SELECT count(*) FROM sale") == [(0,)]
    assert write_dataframe(conn, "sale", frame(10_000)) == 10_000
    assert look("SELECT count(*) FROM sale") == [(10_000,)]


def test_unknown_column_or_table(conn):
    """A column or a table that does not exist is an error; none is made."""
    with pytest.raises(adbc.ProgrammingError, match="colour"):
        write_dataframe(conn, "sale", frame(colour=["red"]))
    with pytest.raises(adbc.ProgrammingError, match="sales"):
        write_dataframe(conn, "sales", frame())


def test_names_are_quoted(conn, postgresql, look):
    """Names with capitals, spaces and quotes work; a hostile one does not exist."""
    with psycopg.connect(postgresql) as setup:
        setup.execute('CREATE SCHEMA "My Shop"')
        setup.execute('CREATE TABLE "My Shop"."S""ale" ("Order Id" int)')
    data = pd.DataFrame({"Order Id": [7]})
    assert write_dataframe(conn, 'S"ale', data, schema="My Shop") == 1
    assert look('SELECT * FROM "My Shop"."S""ale"') == [(7,)]
    with pytest.raises(adbc.ProgrammingError):
        write_dataframe(conn, 'sale"; DROP TABLE sale; --', frame())
    assert look("SELECT count(*) FROM sale") == [(0,)]


def test_index(conn, look):
    """An index with a name holds data: it is not dropped in silence. One without a
    name, as a filter leaves behind, is not written."""
    with pytest.raises(ValueError, match="reset_index"):
        write_dataframe(conn, "sale", frame().set_index("id"))
    filtered = frame(3)
    filtered = filtered[filtered["id"] > 2]
    assert write_dataframe(conn, "sale", filtered) == 1
    assert look("SELECT id FROM sale") == [(3,)]


def test_from_polars(conn, look):
    """A polars frame goes the same way."""
    data = pl.DataFrame(
        {"id": [1, 2], "price": [Decimal("3.20")] * 2, "note": ["a", None]}
    )
    assert write_dataframe(conn, "sale", data.to_arrow()) == 2
    assert look("SELECT note FROM sale ORDER BY id") == [("a",), (None,)]


def test_numeric_without_a_precision(conn, postgresql, look):
    """A numeric without a precision takes every digit."""
    with psycopg.connect(postgresql) as setup:
        setup.execute("CREATE TABLE any_number (n numeric)")
    digits = Decimal("".join(random.choices("123456789", k=30))) / 10**10
    data = pa.table({"n": pa.array([digits, None])})
    write_dataframe(conn, "any_number", data)
    assert look("SELECT n FROM any_number") == [(digits,), (None,)]


# --8<-- [start:wrong]
def write_as_often_copied(frame, connection):  # of psycopg, not of SQLAlchemy
    try:
        frame.to_sql("sale", connection, if_exists="append")
    except Exception as error:
        print("Error loading data:", error)
        return False
    return True


def write_as_often_repaired(frame, engine):
    frame.to_sql("sale", engine, if_exists="replace")


# --8<-- [end:wrong]


@pytest.fixture
def engine(postgresql, conn):
    address = sa.make_url(str(postgresql)).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(address)
    yield engine
    engine.dispose()


def test_often_copied_never_loads(conn, postgresql, capsys):
    """Often copied: to a connection of psycopg, pandas speaks SQLite. It fails every
    time, prints, and goes on."""
    warning = pytest.warns(UserWarning, match="SQLAlchemy connectable")
    with psycopg.connect(postgresql) as raw, warning:
        assert write_as_often_copied(frame(), raw) is False
    assert "the query has 0 placeholders" in capsys.readouterr().out


def test_often_copied_destroys_the_table(conn, engine, look):
    """Often copied: `replace` drops the table. Yesterday's rows, the primary key and
    the types are gone, and there is a column named index."""
    write_dataframe(conn, "sale", frame())
    write_as_often_repaired(frame().assign(id=[2], price=[3.2]), engine)
    assert look("SELECT * FROM sale") == [(0, 2, 3.2)]
    columns = look(
        "SELECT column_name, data_type FROM information_schema.columns"
        " WHERE table_name = 'sale' ORDER BY ordinal_position"
    )
    kinds = ("bigint", "bigint", "double precision")
    assert columns == list(zip(("index", "id", "price"), kinds, strict=True))
    query = "SELECT count(*) FROM pg_constraint WHERE conrelid = 'sale'::regclass"
    assert look(query) == [(0,)]
