"""load_dataframe: exact types, all or nothing, the same again when repeated."""

from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO

import pandas as pd
import pytest
from google.api_core.exceptions import NotFound
from google.cloud import bigquery as driver

from recipes.bigquery.load_dataframe import TABLE, load


def sales(**columns) -> pd.DataFrame:
    """Two sales; columns given replace theirs."""
    return pd.DataFrame(
        {
            "id": [9007199254740993, 2],
            "postcode": ["00420", None],
            "amount": [Decimal("999999999999999.99"), Decimal("0.10")],
            "sold_at": pd.to_datetime(
                ["2026-01-02 10:00:00.123456Z", "2026-01-02 11:00Z"], format="ISO8601"
            ),
            **columns,
        }
    )


@pytest.fixture
def table(sql, dataset) -> str:
    """An empty table for sales."""
    sql(TABLE)
    return f"{dataset}.sale"


def test_values_survive(client, table, sql):
    """Large ids, leading zeros, cents, NULL and microseconds arrive as they were."""
    assert load(client, sales(), table) == 2
    assert sql("SELECT * FROM sale ORDER BY id DESC") == [
        (
            9007199254740993,
            "00420",
            Decimal("999999999999999.99"),
            datetime(2026, 1, 2, 10, 0, 0, 123456, tzinfo=UTC),
        ),
        (2, None, Decimal("0.10"), datetime(2026, 1, 2, 11, tzinfo=UTC)),
    ]


def test_any_time_zone(client, table, sql):
    """Times of another zone are the same moments."""
    zurich = sales().assign(sold_at=lambda f: f.sold_at.dt.tz_convert("Europe/Zurich"))
    load(client, zurich, table)
    assert sql("SELECT MAX(sold_at) FROM sale") == [
        (datetime(2026, 1, 2, 11, tzinfo=UTC),)
    ]


def test_again_is_the_same(client, table, sql):
    """The load run twice leaves the rows once."""
    for _ in range(2):
        load(client, sales(), table)
    assert sql("SELECT COUNT(*) FROM sale") == [(2,)]


def test_append(client, table, sql):
    """`WRITE_APPEND` keeps what is there."""
    load(client, sales(), table)
    load(client, sales(id=[3, 4]), table, "WRITE_APPEND")
    assert sql("SELECT id FROM sale ORDER BY id") == [
        (2,),
        (3,),
        (4,),
        (9007199254740993,),
    ]


def test_no_rows(client, table, sql):
    """A frame without rows empties the table, and is no error."""
    load(client, sales(), table)
    assert load(client, sales().iloc[:0], table) == 0
    assert sql("SELECT COUNT(*) FROM sale") == [(0,)]


def test_columns_go_by_name(client, table, sql):
    """The order of the frame's columns does not matter, nor does its index."""
    frame = sales()[["sold_at", "amount", "postcode", "id"]].set_axis([7, 8])
    load(client, frame, table)
    assert sql("SELECT postcode FROM sale WHERE id > 2") == [("00420",)]


NAIVE = pd.to_datetime(["2026-01-02", "2026-01-03"])
NANOSECONDS = pd.to_datetime(["2026-01-02 00:00:00.123456789Z"] * 2, format="ISO8601")


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({"amount": [0.1, 0.2]}, id="float-for-money"),
        pytest.param({"amount": [Decimal("0.005"), Decimal(1)]}, id="half-a-cent"),
        pytest.param({"amount": [Decimal("1e16"), Decimal(1)]}, id="too-large"),
        pytest.param({"amount": [Decimal(1), None]}, id="null-amount"),
        pytest.param({"id": [1, None]}, id="null-id"),
        pytest.param({"id": [1.5, 2]}, id="fraction-of-an-id"),
        pytest.param({"id": ["one", "two"]}, id="text-for-an-id"),
        pytest.param({"sold_at": NAIVE}, id="no-time-zone"),
        pytest.param({"sold_at": NANOSECONDS}, id="nanoseconds"),
        pytest.param({"discount": [0, 0]}, id="unknown-column"),
    ],
)
def test_refused_before_anything_is_sent(client, table, sql, columns):
    """Refused, with the table as it was: a float for money, a fraction of a cent, a
    number too large, a NULL or a text in the wrong place, a time without a zone or with
    nanoseconds, a column that the table does not have."""
    load(client, sales(), table)
    with pytest.raises(ValueError):
        load(client, sales(**columns), table)
    assert sql("SELECT COUNT(*), MAX(id) FROM sale") == [(2, 9007199254740993)]


def test_missing_column(client, table):
    """A missing column is refused by its name."""
    with pytest.raises(ValueError, match="postcode"):
        load(client, sales().drop(columns="postcode"), table)


def test_no_table(client, dataset):
    """A table that does not exist is an error, and is not made."""
    with pytest.raises(NotFound):
        load(client, sales(), f"{dataset}.sales")
    assert list(client.list_tables(dataset)) == []


# --8<-- [start:wrong]
def load_as_often_copied(client, frame, table):
    config = driver.LoadJobConfig(source_format="CSV", autodetect=True)
    file = BytesIO(frame.to_csv(index=False).encode())
    client.load_table_from_file(file, table, job_config=config).result()


# --8<-- [end:wrong]


def test_often_copied_money_is_a_float(client, dataset, sql):
    """Often copied: money becomes a float, and 0.10 and 0.20 are not 0.30."""
    frame = sales(amount=[Decimal("0.10"), Decimal("0.20")])
    load_as_often_copied(client, frame, f"{dataset}.guessed")
    assert sql("SELECT SUM(amount) = 0.3 FROM guessed") == [(False,)]
    types = {
        f.name: f.field_type for f in client.get_table(f"{dataset}.guessed").schema
    }
    assert types["amount"] == "FLOAT"


def test_often_copied_twice(client, dataset, sql):
    """Often copied: run again, and every row is there twice."""
    for _ in range(2):
        load_as_often_copied(client, sales(), f"{dataset}.guessed")
    assert sql("SELECT COUNT(*) FROM guessed") == [(4,)]
