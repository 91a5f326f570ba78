"""partition_and_cluster: the layout arrives on the server, or there is an error."""

from contextlib import closing
from datetime import date
from decimal import Decimal

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery as driver
from sqlalchemy import TIMESTAMP, Column, MetaData, String, Table, inspect, select
from sqlalchemy.schema import CreateTable

from recipes.bigquery import partition_and_cluster_sqlalchemy as with_sqlalchemy
from recipes.bigquery.partition_and_cluster import ensure, sale_table, total


@pytest.fixture
def name(dataset) -> str:
    return f"cookbook.{dataset}.sale"


@pytest.fixture
def engine(client, dataset):
    engine = with_sqlalchemy.make_engine(client, dataset)
    yield engine
    engine.dispose()


def test_the_server_has_the_layout(client, name):
    """The server's own description names the partitions, their life and the cluster."""
    ensure(client, sale_table(name))
    found = client.get_table(name)
    assert found.time_partitioning.type_ == "DAY"
    assert found.time_partitioning.field == "sold_at"
    assert found.time_partitioning.expiration_ms == 400 * 86_400_000
    assert found.clustering_fields == ["customer"]


def test_the_filter_is_demanded(environment, name, recorder):
    """The request to create it demands a filter on the partition."""
    with closing(driver.Client(credentials=AnonymousCredentials())) as client:
        ensure(client, sale_table(name))
    (table,) = recorder.sent("POST", "/tables")
    assert table["requirePartitionFilter"] is True


def test_again_is_no_error(client, name):
    """A table that is there already, with the same layout, is returned."""
    first = ensure(client, sale_table(name))
    assert ensure(client, sale_table(name)).created == first.created


@pytest.mark.parametrize(
    ("column", "layout"),
    [("time_partitioning", None), ("clustering_fields", None)],
)
def test_another_layout_is_an_error(client, name, column, layout):
    """A table that is there without partitions, or without clusters, is an error."""
    other = sale_table(name)
    setattr(other, column, layout)
    client.create_table(other)
    with pytest.raises(ValueError, match=column):
        ensure(client, sale_table(name))


def test_a_day_is_half_open(client, name, sql):
    """Midnight belongs to the day that begins; other customers are not counted."""
    ensure(client, sale_table(name))
    sql(
        "INSERT sale (sold_at, customer, amount) VALUES"
        " ('2026-01-01 23:59:59.999999+00', 'anna', 1),"
        " ('2026-01-02 00:00:00+00', 'anna', 2),"
        " ('2026-01-02 23:59:59.999999+00', 'anna', 4),"
        " ('2026-01-03 00:00:00+00', 'anna', 8),"
        " ('2026-01-02 12:00:00+00', 'ben', 16)"
    )
    assert total(client, name, "anna", date(2026, 1, 2)) == Decimal(6)
    assert total(client, name, "anna", date(2026, 1, 4)) == 0


def test_sqlalchemy_says_it_in_sql(engine):
    """SQLAlchemy: the options become PARTITION BY, CLUSTER BY and a demanded filter."""
    ddl = str(CreateTable(with_sqlalchemy.sale).compile(engine))
    assert "PARTITION BY TIMESTAMP_TRUNC(sold_at, DAY)" in ddl
    assert "CLUSTER BY customer" in ddl
    assert "require_partition_filter=true" in ddl
    assert "partition_expiration_days=400" in ddl


def test_sqlalchemy_creates_it(engine, client, name):
    """SQLAlchemy: the table is created in the dataset, with partitions by day."""
    with_sqlalchemy.create(engine, with_sqlalchemy.metadata)
    assert client.get_table(name).time_partitioning.type_ == "DAY"
    with engine.connect() as conn:
        assert conn.execute(select(with_sqlalchemy.sale)).all() == []


def test_sqlalchemy_refuses_a_misspelled_option(engine, dataset):
    """SQLAlchemy: an option with a wrong name is refused, and nothing is created."""
    metadata = MetaData()
    Table(
        "sale",
        metadata,
        Column("sold_at", TIMESTAMP),
        bigquery_time_partitioning=driver.TimePartitioning(field="sold_at"),
        bigquery_cluster_by=["customer"],
    )
    with pytest.raises(ValueError, match="bigquery_cluster_by"):
        with_sqlalchemy.create(engine, metadata)
    assert inspect(engine).get_table_names(dataset) == []


# --8<-- [start:wrong]
event = Table(
    "event",
    MetaData(),
    Column("event_id", String),
    Column("event_timestamp", TIMESTAMP),
    bigquery_partition_by="DATE(event_timestamp)",
    bigquery_cluster_by=["event_id"],
)
# --8<-- [end:wrong]


def test_often_copied_options_are_dropped(engine, client, dataset):
    """Often copied: both options are dropped, and the table has no partitions."""
    ddl = str(CreateTable(event).compile(engine))
    assert " BY " not in ddl
    event.create(engine)
    found = client.get_table(f"{dataset}.event")
    assert found.time_partitioning is None
    assert found.clustering_fields is None


def test_often_copied_exists_ok_keeps_the_old_layout(client, name):
    """Often copied: `exists_ok=True` alone is satisfied with any table of that name."""
    client.create_table(driver.Table(name, schema=sale_table(name).schema))
    client.create_table(sale_table(name), exists_ok=True)
    assert client.get_table(name).time_partitioning is None
