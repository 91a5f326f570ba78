"""connect: limits on time and cost, and errors that reach the caller."""

import time
from contextlib import closing

import pytest
from google.api_core.exceptions import BadRequest, NotFound, RetryError
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError
from google.cloud import bigquery as driver

from recipes.bigquery.connect import connect, query


@pytest.fixture
def connected(environment, dataset, recorder):
    """A client that the recipe made, through the recording proxy."""
    with closing(connect("cookbook", dataset)) as client:
        yield client


def test_rows_by_name(connected):
    """Rows come back by the names of their columns."""
    assert query(connected, "SELECT 6 * 7 AS answer") == [{"answer": 42}]


def test_tables_of_the_dataset(connected, sql):
    """A table without a dataset is one of the client's dataset."""
    query(connected, "CREATE TABLE visit AS SELECT 1 AS id")
    assert sql("SELECT id FROM visit") == [(1,)]


def test_every_query_carries_the_limits(connected, recorder):
    """Every query carries the limits of time and of cost, and the label."""
    query(connected, "SELECT 1")
    (job,) = recorder.sent("POST", "/jobs")
    limits = job["configuration"]
    assert limits["jobTimeoutMs"] == "60000"
    assert limits["query"]["maximumBytesBilled"] == "10000000000"
    assert limits["labels"] == {"app": "cookbook"}
    assert limits["query"]["useLegacySql"] is False


def test_wrong_dataset_is_found_at_once(environment):
    """A dataset that does not exist is an error of `connect`, not of a query."""
    with pytest.raises(NotFound, match="no_such"):
        connect("cookbook", "no_such")


@pytest.mark.parametrize(
    ("sql", "error"),
    [("SELEKT", BadRequest), ("SELECT * FROM nowhere", NotFound)],
)
def test_a_mistake_is_an_error_at_once(connected, recorder, sql, error):
    """A mistake in the SQL, or a missing table, is an error, and is sent once."""
    with pytest.raises(error):
        query(connected, sql)
    assert len(recorder.sent("POST", "/jobs")) == 1


def test_a_passing_fault_is_retried(connected, recorder):
    """A 503 is retried under the same job id, by which the service knows it again."""
    recorder.failures = [503]
    assert query(connected, "SELECT 1 AS one") == [{"one": 1}]
    first, second = recorder.sent("POST", "/jobs")
    assert first["jobReference"]["jobId"] == second["jobReference"]["jobId"]


def test_a_lasting_fault_ends(connected, recorder):
    """A fault that lasts ends in RetryError after the time given, not after minutes."""
    recorder.failures = [503] * 100
    started = time.monotonic()
    with pytest.raises(RetryError):
        query(connected, "SELECT 1", wait=0.2)
    assert time.monotonic() - started < 5


def test_connect_to_a_silent_server_ends(
    environment, dataset, fault_proxy, monkeypatch
):
    """A server that accepts the connection and says nothing ends in RetryError."""
    proxy = fault_proxy(environment["BIGQUERY_EMULATOR_HOST"])
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", proxy.url)
    proxy.black_hole()
    with pytest.raises(RetryError):
        connect("cookbook", dataset, wait=0.2)


def test_query_to_a_silent_server(environment, dataset, fault_proxy, monkeypatch):
    """So does a query whose server falls silent after the connect."""
    proxy = fault_proxy(environment["BIGQUERY_EMULATOR_HOST"])
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", proxy.url)
    with closing(connect("cookbook", dataset)) as client:
        proxy.black_hole()
        with pytest.raises(RetryError):
            query(client, "SELECT 1", wait=0.2, attempt=0.1)


def test_no_credentials(monkeypatch, tmp_path):
    """Without an emulator and without credentials, `connect` says so."""
    monkeypatch.delenv("BIGQUERY_EMULATOR_HOST", raising=False)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # asks no metadata server
    with pytest.raises(DefaultCredentialsError):
        connect("cookbook", "shop")


# --8<-- [start:wrong]
def query_as_often_copied(client, sql):
    try:
        return list(client.query(sql).result())
    except Exception as error:
        print(f"Query failed: {error}")
        return []


# --8<-- [end:wrong]


def test_often_copied_a_missing_table_is_an_empty_one(client):
    """Often copied: a missing table, or a typing error, looks like an empty table."""
    assert query_as_often_copied(client, "SELECT * FROM nowhere") == []
    assert query_as_often_copied(client, "SELEKT") == []


def test_often_copied_has_no_limit(environment, recorder):
    """Often copied: no limit of time or of cost is sent with the query."""
    with closing(driver.Client(credentials=AnonymousCredentials())) as client:
        query_as_often_copied(client, "SELECT 1")
    (job,) = recorder.sent("POST", "/jobs")
    assert "jobTimeoutMs" not in job["configuration"]
    assert "maximumBytesBilled" not in job["configuration"]["query"]


# --8<-- [start:wrong_retry]
def query_with_half_a_limit(client, sql, seconds):
    retry = driver.DEFAULT_RETRY.with_timeout(seconds)
    return list(client.query(sql, retry=retry).result(retry=retry))


# --8<-- [end:wrong_retry]


def test_often_copied_retry_alone_is_no_limit(environment, recorder):
    """Often copied: `retry` with a limit of 0 s, and the request is sent again; with
    `job_retry=None` the limit holds."""
    recorder.failures = [503]
    with closing(driver.Client(credentials=AnonymousCredentials())) as client:
        assert query_with_half_a_limit(client, "SELECT 1", 0)
        assert len(recorder.sent("POST", "/jobs")) == 2
        recorder.failures = [503]
        with pytest.raises(RetryError):
            query(client, "SELECT 1", wait=0)
    assert len(recorder.sent("POST", "/jobs")) == 3
