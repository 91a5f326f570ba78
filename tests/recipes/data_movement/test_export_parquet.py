from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import adbc_driver_postgresql.dbapi as adbc
import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from recipes.data_movement.export_parquet import export_parquet
from tests.recipes.support.memory import MB

SALES = """
SELECT id, pieces, price::numeric(18, 2), at, day, note FROM (VALUES
    (1, NULL::int, 9007199254740993.10,
        timestamptz '2026-10-25 02:30:00.000001+02', date '2026-01-31', 'Käse'),
    (2, 7, 0.20, NULL, NULL, '')
) v (id, pieces, price, at, day, note)
"""


@pytest.fixture
def conn(postgresql):
    with adbc.connect(postgresql) as conn:
        yield conn


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.parquet"


def test_duckdb_reads_it(conn, path):
    """DuckDB sees the types of the table, and its sums are exact."""
    assert export_parquet(conn, SALES, path) == 2
    with duckdb.connect() as duck:
        sales = duck.read_parquet(str(path))
        assert [str(kind) for kind in sales.types] == [
            "INTEGER",
            "INTEGER",
            "DECIMAL(18,2)",
            "TIMESTAMP WITH TIME ZONE",
            "DATE",
            "VARCHAR",
        ]
        assert sales.sum("price").fetchall() == [(Decimal("9007199254740993.30"),)]


def test_polars_reads_it(conn, path):
    """polars reads the same values: NULL, money, moments to the microsecond, text."""
    export_parquet(conn, SALES, path)
    moment = datetime(2026, 10, 25, 0, 30, 0, 1, tzinfo=UTC)
    assert pl.read_parquet(path).rows() == [
        (1, None, Decimal("9007199254740993.10"), moment, date(2026, 1, 31), "Käse"),
        (2, 7, Decimal("0.20"), None, None, ""),
    ]


def test_more_types(conn, path):
    """Lists, bytes, booleans, JSON and UUID are kept."""
    query = (
        "SELECT array[1, 2] AS a, 'ab'::bytea AS b, true AS c,"
        """ '{"x": 1}'::jsonb AS d, '00000000-0000-0000-0000-000000000007'::uuid AS e"""
    )
    export_parquet(conn, query, path)
    (row,) = pq.read_table(path).to_pylist()
    assert row == {
        "a": [1, 2],
        "b": b"ab",
        "c": True,
        "d": '{"x": 1}',
        "e": UUID(int=7),
    }


@pytest.mark.parametrize(
    ("value", "way"),
    [("sum(1.10)", "cast x to numeric"), ("inet '192.0.2.1'", "cast x to text")],
)
def test_type_that_parquet_lacks(conn, path, value, way):
    """A numeric without a precision, or a type of PostgreSQL alone, is an error that
    says what to do; nothing is written."""
    with pytest.raises(ValueError, match=way):
        export_parquet(conn, f"SELECT {value} AS x", path)
    assert list(path.parent.iterdir()) == []


def test_empty_result(conn, path):
    """No rows: a file with the columns and their types."""
    assert export_parquet(conn, f"{SALES} WHERE false", path) == 0
    assert pl.read_parquet(path).schema["price"] == pl.Decimal(18, 2)


def test_parameters_are_values(conn, path):
    """A hostile parameter is a text, never SQL."""
    hostile = "' OR 1 = 1 --"
    export_parquet(conn, "SELECT $1::text AS said", path, [hostile])
    assert pl.read_parquet(path).rows() == [(hostile,)]


def test_error_on_the_way_leaves_the_old_file(conn, path):
    """The query fails after the first row groups: the file of yesterday is still
    there, and no part of a new one."""
    export_parquet(conn, SALES, path)
    before = path.read_bytes()
    query = "SELECT n, 1 / (n - 900000) AS x FROM generate_series(1, 1000000) n"
    with pytest.raises(OSError, match="division by zero"):
        export_parquet(conn, query, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def many(rows):
    return f"SELECT n AS id, repeat('x', 500) AS note FROM generate_series(1, {rows}) n"


def test_row_groups(conn, path):
    """A large result becomes several row groups, complete and in order."""
    assert export_parquet(conn, many(100_000), path) == 100_000
    assert pq.ParquetFile(path).num_row_groups > 1
    assert pl.read_parquet(path)["id"].to_list() == list(range(1, 100_001))


def test_replaces_the_file(conn, path):
    """An export replaces the file of the one before."""
    export_parquet(conn, "SELECT 1 AS x", path)
    export_parquet(conn, "SELECT 2 AS x", path)
    assert pl.read_parquet(path).rows() == [(2,)]


def export_many(folder, url, rows):
    with adbc.connect(url) as conn:
        assert export_parquet(conn, many(rows), Path(folder) / "x.parquet") == rows


def test_memory_is_constant(growth):
    """400,000 rows of 500 bytes after 100,000 add less than 60 MB of the 150 MB."""
    assert growth(export_many, 100_000, 400_000) < 60 * MB


# --8<-- [start:wrong]
def export_as_often_copied(engine, query, path):
    pd.read_sql(query, engine).to_parquet(path)


# --8<-- [end:wrong]


def test_often_copied_changes_the_types(postgresql, path):
    """Often copied: money becomes DOUBLE and loses its cents, integers beside a NULL
    become DOUBLE too."""
    address = sa.make_url(str(postgresql)).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(address)
    export_as_often_copied(engine, sa.text(SALES.replace(":", r"\:")), path)
    engine.dispose()
    with duckdb.connect() as duck:
        sales = duck.read_parquet(str(path))
        kinds = dict(zip(sales.columns, map(str, sales.types), strict=True))
        assert (kinds["pieces"], kinds["price"]) == ("DOUBLE", "DOUBLE")
        assert sales.max("price").fetchall() == [(9007199254740994.0,)]


def test_often_copied_writes_over_the_old_file(postgresql, path):
    """Often copied: pandas writes into the file itself, so a reader may find half of
    it."""
    path.write_bytes(b"the file of yesterday")
    seen = path.stat().st_ino
    address = sa.make_url(str(postgresql)).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(address)
    export_as_often_copied(engine, "SELECT 1 AS x", path)
    engine.dispose()
    assert path.stat().st_ino == seen
