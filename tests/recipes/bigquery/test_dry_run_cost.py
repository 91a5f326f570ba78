"""dry_run_cost: what is sent, and what is done with the answer.

The emulator estimates every query at 0 bytes. Where a test needs another estimate, the
proxy in front of it writes that number into the answer.
"""

from contextlib import closing
from decimal import Decimal

import pytest
from google.api_core.exceptions import BadRequest, NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery as driver

from recipes.bigquery.dry_run_cost import (
    LEAST,
    TooExpensiveError,
    estimate,
    price,
    run_within,
)


@pytest.fixture
def visits(sql):
    """A table with three visits."""
    sql("CREATE TABLE visit AS SELECT page FROM UNNEST(['a', 'b', 'c']) AS page")


def configurations(recorder) -> list[dict]:
    return [job["configuration"] for job in recorder.sent("POST", "/jobs")]


def answer(recorder, size: int) -> None:
    """The next estimates are of that size."""
    numbers = (b'"totalBytesProcessed":"%d"' % n for n in (0, size))
    recorder.replace = tuple(numbers)


def test_sends_a_dry_run(visits, recorded, recorder):
    """The estimate is one request: a dry run, which ignores the cache of results."""
    estimate(recorded, "SELECT page FROM visit")
    (sent,) = configurations(recorder)
    assert sent["dryRun"] is True
    assert sent["query"]["useQueryCache"] is False


def test_dry_run_changes_nothing(visits, recorded, sql):
    """A dry run of DELETE deletes nothing."""
    estimate(recorded, "DELETE FROM visit WHERE TRUE")
    assert sql("SELECT COUNT(*) FROM visit") == [(3,)]


@pytest.mark.parametrize(
    ("query", "error"),
    [("SELECT pages FROM visit", BadRequest), ("SELECT 1 FROM visits", NotFound)],
)
def test_dry_run_finds_mistakes(visits, recorded, query, error):
    """A wrong column, or a missing table, is found without running the query."""
    with pytest.raises(error):
        estimate(recorded, query)


def test_returns_the_estimate(visits, recorded, recorder):
    """The estimate of the answer (here the proxy wrote it) is returned as a number."""
    answer(recorder, 5 * 2**40)
    assert estimate(recorded, "SELECT page FROM visit") == 5 * 2**40


def test_an_answer_without_an_estimate(visits, recorded, recorder):
    """An answer without an estimate is an error, and not free of charge."""
    recorder.replace = (b"totalBytesProcessed", b"somethingElse")
    with pytest.raises(RuntimeError, match="no estimate"):
        estimate(recorded, "SELECT page FROM visit")


def test_above_the_budget_is_not_run(visits, recorded, recorder, sql):
    """A query estimated above the budget is not run: only the dry run was sent."""
    answer(recorder, 10**9 + 1)
    with pytest.raises(TooExpensiveError, match="1000000001 bytes expected"):
        run_within(recorded, 10**9, "DELETE FROM visit WHERE TRUE")
    assert [sent.get("dryRun") for sent in configurations(recorder)] == [True]
    assert sql("SELECT COUNT(*) FROM visit") == [(3,)]


def test_within_the_budget_is_capped(visits, recorded, recorder):
    """A query within the budget runs, and tells the service the budget as its limit."""
    answer(recorder, 10**9)
    rows = run_within(recorded, 10**9, "SELECT page FROM visit ORDER BY page")
    assert [row.page for row in rows] == ["a", "b", "c"]
    _, real = configurations(recorder)
    assert real.get("dryRun") is None
    assert real["query"]["maximumBytesBilled"] == str(10**9)
    assert real["jobTimeoutMs"] == "60000"


def test_limit_is_at_least_what_is_billed(visits, recorded, recorder):
    """A budget below the least that is billed does not make every query fail."""
    run_within(recorded, 1000, "SELECT page FROM visit")
    assert configurations(recorder)[1]["query"]["maximumBytesBilled"] == str(LEAST)


def test_parameters_go_with_both(visits, recorded, recorder):
    """The dry run and the run are given the same parameters."""
    page = driver.ScalarQueryParameter("page", "STRING", "b")
    query = "SELECT page FROM visit WHERE page = @page"
    assert [row.page for row in run_within(recorded, 10**9, query, [page])] == ["b"]
    dry, real = (sent["query"]["queryParameters"] for sent in configurations(recorder))
    assert dry == real


def test_price_is_exact():
    """The price is a Decimal: exact, and rounded by the caller alone."""
    assert price(2**40, Decimal("6.25")) == Decimal("6.25")
    assert price(2**39, Decimal("0.01")) == Decimal("0.005")


# --8<-- [start:wrong]
def make_client_as_often_copied():
    config = driver.QueryJobConfig(dry_run=True)
    return driver.Client(
        credentials=AnonymousCredentials(), default_query_job_config=config
    )


# --8<-- [end:wrong]


def test_often_copied_dry_run_for_all(visits, dataset, sql):
    """Often copied: with a dry run as the client's default, INSERT succeeds and stores
    nothing, and a query has no rows."""
    with closing(make_client_as_often_copied()) as client:
        client.query(f"INSERT {dataset}.visit (page) VALUES ('d')").result()
        assert list(client.query(f"SELECT page FROM {dataset}.visit").result()) == []
    assert sql("SELECT COUNT(*) FROM visit") == [(3,)]
