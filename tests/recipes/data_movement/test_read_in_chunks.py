from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from recipes.data_movement.read_in_chunks import read_in_chunks
from tests.recipes.support.memory import MB, memory_growth

BIG = 2**53 + 1  # the first integer that a float cannot hold
DIGITS = (
    "(SELECT 0 AS n" + "".join(f" UNION ALL SELECT {n}" for n in range(1, 10)) + ")"
)
# As many rows as asked for, on any engine, up to a million.
NUMBERS = (
    f"SELECT id, '{'x' * 500}' AS note FROM"
    " (SELECT a.n + 10 * b.n + 100 * c.n + 1000 * d.n + 10000 * e.n + 100000 * f.n"
    f" AS id FROM {DIGITS} a, {DIGITS} b, {DIGITS} c, {DIGITS} d, {DIGITS} e,"
    f" {DIGITS} f) many WHERE id < :rows"
)


@pytest.fixture
def engine(database):
    engine = sa.create_engine(database)
    yield engine
    engine.dispose()


@pytest.fixture
def on_postgresql(postgresql):
    address = sa.make_url(str(postgresql)).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(address)
    yield engine
    engine.dispose()


def read(engine, query, rows=50_000, **types):
    query = sa.text(query) if isinstance(query, str) else query
    return list(read_in_chunks(engine, query, pa.schema(types), rows=rows))


def read_all(url, rows):
    engine = sa.create_engine(url)
    schema = pa.schema({"id": pa.int64(), "note": pa.string()})
    query = sa.text(NUMBERS).bindparams(rows=rows)
    chunks = read_in_chunks(engine, query, schema, rows=5_000)
    assert sum(len(chunk) for chunk in chunks) == rows


def test_memory_is_constant(database):
    """100,000 rows of 500 bytes after 5,000: memory grows by less than 10 MB."""
    url = sa.make_url(str(database)).render_as_string(hide_password=False)
    assert memory_growth(read_all, (url, 5_000), (url, 100_000)) < 10 * MB


@pytest.mark.parametrize(
    ("count", "sizes"), [(0, []), (1, [1]), (10, [10]), (25, [10, 10, 5])]
)
def test_chunks_are_complete(engine, count, sizes):
    """Every row is in exactly one chunk; an empty result has none."""
    query = sa.text(NUMBERS + " ORDER BY id").bindparams(rows=count)
    chunks = read(engine, query, 10, id=pa.int64(), note=pa.string())
    assert [len(chunk) for chunk in chunks] == sizes
    assert [n for chunk in chunks for n in chunk["id"]] == list(range(count))


def test_types_do_not_depend_on_the_values(engine):
    """A chunk of nothing but NULL has the same types as the others."""
    numbers = NUMBERS.replace(" id,", " id, CASE WHEN id = 3 THEN 7 END AS pieces,", 1)
    query = sa.text(f"SELECT id, pieces FROM ({numbers}) n ORDER BY id")
    first, second = read(
        engine, query.bindparams(rows=4), 2, id=pa.int64(), pieces=pa.int64()
    )
    assert first.dtypes.equals(second.dtypes)
    assert first["pieces"].isna().all()
    assert second["pieces"].tolist() == [pd.NA, 7]


def test_integers_beside_null_are_exact(engine):
    """An integer beyond 2**53 beside a NULL arrives to the last digit."""
    (chunk,) = read(engine, f"SELECT {BIG} AS n UNION ALL SELECT NULL", n=pa.int64())
    assert chunk["n"].dropna().tolist() == [BIG]


def test_money_is_exact(on_postgresql):
    """A numeric arrives as Decimal, and its sum is exact."""
    query = "SELECT 9007199254740993.10 AS price UNION ALL SELECT 0.20"
    (chunk,) = read(on_postgresql, query, price=pa.decimal128(20, 2))
    assert chunk["price"].sum() == Decimal("9007199254740993.30")


def test_moments_keep_their_time_zone(on_postgresql):
    """A timestamptz is the same moment, in UTC, whatever the zone of the session."""

    @event.listens_for(on_postgresql, "connect")
    def in_berlin(dbapi_connection, _):
        dbapi_connection.execute("SET timezone TO 'Europe/Berlin'")
        dbapi_connection.commit()

    moment = datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin"))
    query = sa.select(sa.literal(moment).label("at"))
    (chunk,) = read(on_postgresql, query, at=pa.timestamp("us", "UTC"))
    assert chunk["at"].tolist() == [moment.astimezone(UTC)]
    assert str(chunk["at"].dtype) == "timestamp[us, tz=UTC][pyarrow]"


@pytest.mark.parametrize(
    ("value", "arrow"),
    [
        ("1.5", pa.int64()),
        ("70000", pa.int16()),
        ("1.234", pa.decimal128(10, 2)),
        ("'x'", pa.int64()),
        ("timestamp '2026-01-01 00:00:00.000001'", pa.timestamp("ms")),
    ],
    ids=["fraction", "too big", "cents", "text", "microseconds"],
)
def test_value_that_does_not_fit(on_postgresql, value, arrow):
    """A value that its type cannot hold is an error: nothing is cut or wrapped."""
    with pytest.raises(pa.ArrowInvalid):
        read(on_postgresql, f"SELECT {value} AS n", n=arrow)


def test_columns_are_those_of_the_schema(engine):
    """A column that is missing, new or in another place is an error, not a mix-up."""
    for types in ({"a": pa.int64()}, {"b": pa.int64(), "a": pa.int64()}):
        with pytest.raises(ValueError, match="columns"):
            read(engine, "SELECT 1 AS a, 2 AS b", **types)


def test_leaving_early_gives_the_connection_back(engine):
    """Leave after the first chunk and close: the connection is back in its pool."""
    query = sa.text(NUMBERS).bindparams(rows=100)
    schema = pa.schema({"id": pa.int64(), "note": pa.string()})
    chunks = read_in_chunks(engine, query, schema, rows=10)
    next(chunks)
    chunks.close()
    assert engine.pool.checkedout() == 0


def test_error_on_the_way_reaches_the_caller(on_postgresql):
    """The query fails after the first chunk: an error, never a short result."""
    query = sa.text("SELECT 100 / (20 - n) AS n FROM generate_series(1, 40) n")
    chunks = read_in_chunks(on_postgresql, query, pa.schema({"n": pa.int64()}), rows=10)
    assert len(next(chunks)) == 10
    with pytest.raises(sa.exc.DataError, match="division by zero"):
        list(chunks)


# --8<-- [start:wrong]
def read_as_often_copied(engine, query):
    yield from pd.read_sql(query, engine, chunksize=5_000)


# --8<-- [end:wrong]


def read_all_as_often_copied(url, rows):
    query = sa.text(NUMBERS).bindparams(rows=rows)
    chunks = read_as_often_copied(sa.create_engine(url), query)
    assert sum(len(chunk) for chunk in chunks) == rows


def test_often_copied_holds_everything(on_postgresql):
    """Often copied: chunksize alone: 100,000 rows take more than 40 MB."""
    url = on_postgresql.url.render_as_string(hide_password=False)
    few, many = (url, 5_000), (url, 100_000)
    assert memory_growth(read_all_as_often_copied, few, many) > 40 * MB


def test_often_copied_changes_types(engine):
    """Often copied: the values decide on the type, so each chunk may have another."""
    pieces = "CASE WHEN id < 5000 THEN NULL WHEN id < 10000 THEN 1 END"
    query = NUMBERS.replace(" id,", f" id, {pieces} AS pieces,", 1) + " ORDER BY id"
    chunks = read_as_often_copied(engine, sa.text(query).bindparams(rows=10_000))
    assert [str(chunk["pieces"].dtype) for chunk in chunks] == ["object", "int64"]


def test_often_copied_rounds(on_postgresql):
    """Often copied: money becomes float, and so do integers beside a NULL; a dtype
    comes too late."""
    query = sa.text("SELECT 0.10 AS price FROM generate_series(1, 3)")
    (chunk,) = read_as_often_copied(on_postgresql, query)
    assert chunk["price"].sum() == 0.30000000000000004
    query = sa.text(f"SELECT {BIG} AS n UNION ALL SELECT NULL")
    (chunk,) = read_as_often_copied(on_postgresql, query)
    assert chunk["n"].max() == BIG - 1
    late = pd.read_sql(query, on_postgresql, dtype={"n": "Int64"})
    assert late["n"].max() == BIG - 1
