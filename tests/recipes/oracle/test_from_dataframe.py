"""from_dataframe: in and out, exact, and in pieces."""

from datetime import datetime
from decimal import Decimal

import oracledb
import pandas
import pyarrow as pa
import pytest

from recipes.oracle.from_dataframe import (
    SCHEMA,
    TABLE,
    read_batches,
    read_table,
    write_table,
)

NOON = datetime(2026, 11, 21, 12, 0, 0, 123456)
ALL = "SELECT * FROM orders ORDER BY id"


def orders(count: int, start: int = 0) -> pa.Table:
    """A table in which every second customer is unknown."""
    rows = [
        {
            "id": n,
            "customer": f"Käufer {n}" if n % 2 else None,
            "amount": Decimal("9999999999.99"),
            "placed": NOON,
        }
        for n in range(start, start + count)
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


@pytest.fixture
def shop(conn):
    """A connection to a schema with an empty table."""
    with conn.cursor() as cursor:
        cursor.execute(TABLE)
    return conn


# --8<-- [start:pandas]
def to_pandas(table):
    return table.to_pandas(types_mapper=pandas.ArrowDtype)


# --8<-- [end:pandas]


# With a server.


def test_there_and_back(shop):
    """A table comes back as it was: exact money, microseconds, NULL, beyond ASCII."""
    assert write_table(shop, orders(100)) == 100
    assert read_table(shop, ALL, SCHEMA).equals(orders(100))


def test_table_in_chunks(shop):
    """A table that was put together from several is written to its end."""
    table = pa.concat_tables([orders(3), orders(4, start=3)])
    assert write_table(shop, table) == 7
    assert read_table(shop, ALL, SCHEMA).equals(orders(7))


def test_part_of_a_table(shop):
    """Of a slice those rows are written, and no others."""
    write_table(shop, orders(10).slice(4, 3))
    assert read_table(shop, ALL, SCHEMA).equals(orders(3, start=4))


def test_binds(shop):
    """Keywords are bind variables."""
    write_table(shop, orders(10))
    query = "SELECT * FROM orders WHERE id < :last ORDER BY id"
    assert read_table(shop, query, SCHEMA, last=3).equals(orders(3))


def test_no_rows(shop):
    """No rows: an empty table of the same schema; and none are written."""
    assert write_table(shop, orders(0)) == 0
    table = read_table(shop, ALL, SCHEMA)
    assert (table.num_rows, table.schema) == (0, SCHEMA)


def test_batches(shop):
    """25 000 rows come in three tables, which are the whole together."""
    assert write_table(shop, orders(25_000)) == 25_000
    batches = list(read_batches(shop, ALL, SCHEMA))
    assert [batch.num_rows for batch in batches] == [10_000, 10_000, 5_000]
    assert pa.concat_tables(batches).equals(orders(25_000))


def test_all_or_none(shop):
    """A bad row in the second batch: IntegrityError, and no row stays."""
    table = pa.concat_tables([orders(10_001), orders(1)])
    with pytest.raises(oracledb.IntegrityError):
        write_table(shop, table)
    assert read_table(shop, ALL, SCHEMA).num_rows == 0


def test_value_that_does_not_fit(shop):
    """A number that is too large for the type asked for is an error, not another
    number."""
    schema = pa.schema([("n", pa.int8())])
    with pytest.raises(oracledb.Error):
        read_table(shop, "SELECT 1000 AS n FROM dual", schema)


# Without one.


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"id": [1]}),
        orders(1).rename_columns(["id", "customer", "sum", "placed"]),
        orders(1).set_column(2, "amount", pa.array([0.1])),
        orders(1).select(["customer", "id", "amount", "placed"]),
    ],
    ids=["missing", "renamed", "float", "order"],
)
def test_other_columns_are_refused(table):
    """Missing, renamed or exchanged columns, or money as a float: ValueError, before
    anything is sent."""
    with pytest.raises(ValueError, match="expected"):
        write_table(None, table)


def test_driver_reads_the_table():
    """The driver takes an Arrow table as it is, and gives it back: rows, names, types,
    NULL."""
    frame = oracledb.from_arrow(orders(10))
    assert (frame.num_rows(), frame.column_names()) == (10, SCHEMA.names)
    assert pa.table(frame).equals(orders(10))


def test_frame_of_chunks():
    """`oracledb.from_arrow` of a table in chunks of 3 and 4 rows says 3."""
    table = pa.concat_tables([orders(3), orders(4, start=3)])
    assert oracledb.from_arrow(table).num_rows() == 3


def test_pandas_keeps_the_types():
    """pandas gets decimals, whole numbers and missing values as they are."""
    frame = to_pandas(orders(2))
    assert str(frame.dtypes["id"]) == "int64[pyarrow]"
    assert frame["amount"].sum() == Decimal("19999999999.98")
    assert frame["customer"].isna().tolist() == [True, False]


def test_pandas_and_back():
    """A data frame with these types becomes the same table again."""
    frame = to_pandas(orders(10))
    table = pa.Table.from_pandas(frame, SCHEMA, preserve_index=False)
    assert table.replace_schema_metadata().equals(orders(10))


# --8<-- [start:wrong]
def read_as_copied(conn, query):
    return pa.table(conn.fetch_df_all(query))


# --8<-- [end:wrong]


def test_often_copied_money_is_a_float(shop):
    """Often copied: an amount becomes a float, and ten of 0.10 are not 1."""
    query = (
        "SELECT CAST(0.1 AS NUMBER(12, 2)) AS amount FROM dual CONNECT BY LEVEL <= 10"
    )
    table = read_as_copied(shop, query)
    assert table.schema.field("AMOUNT").type == pa.float64()
    assert sum(table["AMOUNT"].to_pylist()) != 1
