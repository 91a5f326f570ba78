"""materialized_view: the summary is current, and its sums are right."""

from datetime import date
from decimal import Decimal

import pytest
from google.api_core.exceptions import BadRequest, NotFound

from recipes.bigquery.materialized_view import TABLE, Revenue, create_view, revenue, run

JANUARY = date(2026, 1, 1), date(2026, 1, 31)


@pytest.fixture
def name(dataset) -> str:
    return f"cookbook.{dataset}.revenue"


@pytest.fixture
def sell(client, name):
    """Sell something: the table and the view are there."""
    run(client, TABLE)
    create_view(client, name)

    def sell(customer: str, moment: str, *amounts: str) -> None:
        values = [f"('{customer}', TIMESTAMP '{moment}', {a})" for a in amounts]
        run(
            client,
            f"INSERT sale (customer, sold_at, amount) VALUES {', '.join(values)}",
        )

    return sell


def test_is_current_after_insert(client, sell):
    """A row that is inserted is in the next answer, without a refresh."""
    sell("anna", "2026-01-02 10:00:00+00", "1.10")
    assert revenue(client, *JANUARY) == [Revenue("anna", Decimal("1.10"), 1)]
    sell("anna", "2026-01-03 10:00:00+00", "2.20")
    assert revenue(client, *JANUARY) == [Revenue("anna", Decimal("3.30"), 2)]


def test_is_current_after_update_and_delete(client, sell):
    """Rows that are changed or deleted are followed too."""
    sell("anna", "2026-01-02 10:00:00+00", "1", "2", "4")
    run(client, "UPDATE sale SET amount = 8 WHERE amount = 2")
    run(client, "DELETE FROM sale WHERE amount = 1")
    assert revenue(client, *JANUARY) == [Revenue("anna", Decimal(12), 2)]


def test_is_filled_when_it_is_made(client, name):
    """A view on a table that holds rows starts with them."""
    run(client, TABLE)
    run(client, "INSERT sale VALUES ('anna', TIMESTAMP '2026-01-02 10:00:00+00', 5)")
    create_view(client, name)
    assert revenue(client, *JANUARY) == [Revenue("anna", Decimal(5), 1)]


def test_days_of_utc(client, sell):
    """The first and the last day are included; days are those of UTC."""
    sell("anna", "2025-12-31 23:59:59+00", "1")
    sell("anna", "2026-01-01 00:00:00+00", "2")
    sell("anna", "2026-02-01 00:30:00+01", "4")  # 23:30 of the day before
    sell("anna", "2026-02-01 00:00:00+00", "8")
    assert revenue(client, *JANUARY) == [Revenue("anna", Decimal(6), 2)]


def test_each_customer(client, sell):
    """Customers are kept apart, across days."""
    for day in ("02", "03"):
        sell("anna", f"2026-01-{day} 10:00:00+00", "1")
        sell("ben", f"2026-01-{day} 10:00:00+00", "0.10", "0.20")
    assert revenue(client, *JANUARY) == [
        Revenue("anna", Decimal(2), 2),
        Revenue("ben", Decimal("0.60"), 4),
    ]


def test_again_is_no_error(client, name, sell):
    """To create it again is no error, and keeps it."""
    sell("anna", "2026-01-02 10:00:00+00", "1")
    create_view(client, name)
    assert len(revenue(client, *JANUARY)) == 1


def test_a_table_of_that_name(client, name):
    """A table that has the name is found, before anybody reads stale sums from it."""
    run(client, TABLE)
    run(client, "CREATE TABLE revenue AS SELECT 1 AS amount")
    with pytest.raises(ValueError, match="is a TABLE"):
        create_view(client, name)


def test_an_older_view(client, name):
    """A view of that name with other columns is an error, not kept in silence."""
    run(client, TABLE)
    run(
        client,
        "CREATE MATERIALIZED VIEW revenue AS"
        " SELECT customer, SUM(amount) AS amount FROM sale GROUP BY customer",
    )
    with pytest.raises(ValueError, match="customer, amount"):
        create_view(client, name)


def test_nobody_writes_into_it(client, sell):
    """A row cannot be written into the view."""
    with pytest.raises(BadRequest):
        run(client, "INSERT revenue (customer) VALUES ('anna')")


def test_no_table(client, name):
    """Without the table there is no view."""
    with pytest.raises(NotFound):
        create_view(client, name)


# --8<-- [start:wrong]
SUMMARY_AS_OFTEN_COPIED = """
CREATE OR REPLACE TABLE summary AS
SELECT customer, DATE(sold_at) AS day, AVG(amount) AS mean
FROM sale GROUP BY customer, day
"""
MEAN_AS_OFTEN_COPIED = "SELECT AVG(mean) FROM summary"
# --8<-- [end:wrong]


def test_often_copied_is_stale(client, sell, sql):
    """Often copied: a table made from a query knows nothing of later rows."""
    sell("anna", "2026-01-02 10:00:00+00", "1")
    sql(SUMMARY_AS_OFTEN_COPIED)
    sell("anna", "2026-01-03 10:00:00+00", "99")
    assert sql("SELECT COUNT(*) FROM summary") == [(1,)]


def test_often_copied_mean_of_means(client, sell, sql):
    """Often copied: the mean of means is 50.5 where the mean is 25.75."""
    sell("anna", "2026-01-02 10:00:00+00", "1", "1", "1")
    sell("anna", "2026-01-03 10:00:00+00", "100")
    sql(SUMMARY_AS_OFTEN_COPIED)
    assert sql(MEAN_AS_OFTEN_COPIED) == [(50.5,)]
    (anna,) = revenue(client, *JANUARY)
    assert anna.mean == Decimal("25.75")
