from datetime import UTC, datetime
from decimal import Decimal

import adbc_driver_postgresql.dbapi as adbc
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from recipes.data_movement.read_to_arrow import (
    connect,
    open_reader,
    read_to_arrow,
    to_pandas,
    to_polars,
)
from tests.recipes.support.memory import MB, memory_growth

ROWS = """
SELECT pieces, big, price::numeric(18, 2), at FROM (VALUES
    (1, 9007199254740993, 9.10, timestamptz '2026-10-25 02:30+02'),
    (NULL, NULL, 10.20, timestamptz '2026-10-25 02:30+01'),
    (3, 2, NULL, NULL)
) v (pieces, big, price, at)
"""


@pytest.fixture
def conn(postgresql):
    with connect(postgresql) as conn:
        yield conn


def test_numeric_is_decimal(conn):
    """numeric(18, 2) is Arrow's decimal(18, 2), in polars and pandas too; sums are
    exact."""
    table = read_to_arrow(conn, ROWS)
    assert table.schema.field("price").type == pa.decimal128(18, 2)
    prices = [Decimal("9.10"), Decimal("10.20"), None]
    assert table["price"].to_pylist() == prices
    assert to_polars(table).schema["price"] == pl.Decimal(18, 2)
    assert to_polars(table)["price"].sum() == Decimal("19.30")
    assert to_pandas(table)["price"].sum() == Decimal("19.30")


def test_integers_beside_null(conn):
    """A column of integers with NULL stays integer, exact beyond 2**53."""
    table = read_to_arrow(conn, ROWS)
    assert table["big"].to_pylist() == [2**53 + 1, None, 2]
    assert to_polars(table)["big"].to_list() == [2**53 + 1, None, 2]
    frame = to_pandas(table)
    assert str(frame["pieces"].dtype) == "int32[pyarrow]"
    assert frame["big"].tolist() == [2**53 + 1, pd.NA, 2]


def test_moments_are_in_utc(conn):
    """A timestamptz is the same moment in UTC, whatever the zone of the session."""
    with conn.cursor() as cur:
        cur.execute("SET timezone TO 'Europe/Berlin'")
    table = read_to_arrow(conn, ROWS)
    moments = [datetime(2026, 10, 25, h, 30, tzinfo=UTC) for h in (0, 1)]
    assert table["at"].to_pylist() == [*moments, None]
    assert to_polars(table)["at"].to_list() == [*moments, None]
    assert to_pandas(table)["at"].dropna().tolist() == moments


@pytest.mark.parametrize(
    "value",
    ["0.01", "-0.01", "99999999999999999999999999999999999.999", "0"],
)
def test_decimals_are_exact(conn, value):
    """Up to 38 digits, with either sign, arrive to the last one."""
    table = read_to_arrow(conn, f"SELECT '{value}'::numeric(38, 3) AS n")
    assert table["n"].to_pylist() == [Decimal(value)]


@pytest.mark.parametrize("kind", ["numeric", "numeric(39, 2)", "numeric(3, -2)"])
def test_numeric_without_a_fitting_type(conn, kind):
    """A numeric without a precision, or of a size Arrow or polars lacks, is refused
    with the way out, before a row is read."""
    with pytest.raises(ValueError, match="cast total to numeric"):
        read_to_arrow(conn, f"SELECT 1.5::{kind} AS total")


def test_nan_is_refused(conn):
    """Arrow's decimal has no NaN: such a value is an error, not a NULL."""
    with pytest.raises(pa.ArrowInvalid, match="nan"):
        read_to_arrow(conn, "SELECT 'NaN'::numeric(5, 2) AS n")


def test_parameters_are_values(conn):
    """A hostile parameter is a text, never SQL."""
    hostile = "' OR 1 = 1 --"
    query = "SELECT $1::text AS said, $2::int AS n"
    table = read_to_arrow(conn, query, [hostile, 7])
    assert table.to_pylist() == [{"said": hostile, "n": 7}]


def test_no_rows(conn):
    """An empty result has its columns and their types."""
    table = read_to_arrow(conn, f"{ROWS} WHERE false")
    assert table.num_rows == 0
    assert table.schema.field("price").type == pa.decimal128(18, 2)


def read_all(url, rows):
    query = (
        "SELECT n AS id, repeat('x', 500) AS note, 1.10::numeric(9, 2) AS price"
        f" FROM generate_series(1, {rows}) n"
    )
    with connect(url) as conn, open_reader(conn, query) as reader:
        assert sum(batch.num_rows for batch in reader) == rows


def test_memory_is_constant(postgresql):
    """Read batch by batch, 400,000 rows of 500 bytes after 100,000 add less than
    40 MB."""
    url = str(postgresql)
    assert memory_growth(read_all, (url, 100_000), (url, 400_000)) < 40 * MB


def test_error_on_the_way_reaches_the_caller(conn):
    """A query that fails after the first rows: an error, never a short table. After a
    rollback the connection works again."""
    query = "SELECT 1 / (n - 900000) AS n FROM generate_series(1, 1000000) n"
    with pytest.raises(OSError, match="division by zero"):
        read_to_arrow(conn, query)
    conn.rollback()
    assert read_to_arrow(conn, "SELECT 1 AS n").num_rows == 1


def test_error_at_the_start(conn):
    """A mistake in the query is an error of ADBC that names it."""
    with pytest.raises(adbc.ProgrammingError, match="no_such_table"):
        read_to_arrow(conn, "SELECT * FROM no_such_table")


def test_limits(postgresql, conn):
    """The connection has a limit for statements; the address may have a query part."""
    query = "SELECT current_setting('statement_timeout') AS t"
    assert read_to_arrow(conn, query)["t"].to_pylist() == ["1min"]
    with connect(f"{postgresql}?application_name=a") as other:
        assert read_to_arrow(other, query)["t"].to_pylist() == ["1min"]


def test_infinity_has_no_place(conn):
    """The timestamp 'infinity' arrives as a moment in the far past: leave it out."""
    table = read_to_arrow(conn, "SELECT timestamptz 'infinity' AS until")
    year = 365 * 86_400 * 10**6
    assert table["until"].cast(pa.int64())[0].as_py() < -290_000 * year


# --8<-- [start:wrong]
def read_pandas_as_often_copied(conn, query):
    return pd.read_sql(query, conn)


def read_polars_as_often_copied(conn, query):
    return pl.read_database(query, conn)


# --8<-- [end:wrong]


def test_often_copied_joins_the_prices(conn):
    """Often copied: numeric is text, so the sum of 9.10 and 10.20 is "9.1010.20", and
    the dearest is 9.10."""
    frame = read_pandas_as_often_copied(conn, f"{ROWS} WHERE price IS NOT NULL")
    assert frame["price"].sum() == "9.1010.20"
    assert frame["price"].max() == "9.10"


def test_often_copied_rounds(conn):
    """Often copied: in pandas, integers with NULL become float: 9007199254740993
    loses its last digit."""
    frame = read_pandas_as_often_copied(conn, ROWS)
    assert str(frame["pieces"].dtype) == "float64"
    assert frame["big"].max() == 2**53


def test_often_copied_is_no_number_in_polars(conn):
    """Often copied: polars cannot add them up at all."""
    frame = read_polars_as_often_copied(conn, ROWS)
    with pytest.raises(pl.exceptions.PolarsError):
        frame["price"].sum()
