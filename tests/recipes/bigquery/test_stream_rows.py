"""stream_rows: no row is lost, and none is there twice."""

import pyarrow as pa
import pytest
from google.api_core import exceptions
from google.auth.exceptions import DefaultCredentialsError

from recipes.bigquery.stream_rows import (
    COLUMNS,
    Request,
    append,
    append_with_retries,
    connect,
    create_stream,
    to_batch,
)


@pytest.fixture
def table(sql, dataset) -> str:
    """An empty table."""
    sql("CREATE TABLE visit (id INT64 NOT NULL, page STRING)")
    return f"projects/cookbook/datasets/{dataset}/tables/visit"


@pytest.fixture
def writer(environment):
    with connect() as client:
        yield client


@pytest.fixture
def ids(sql):
    """The ids that the table holds, sorted."""
    return lambda: [n for (n,) in sql("SELECT id FROM visit ORDER BY id")]


def batch(*ids: int, page: str = "home") -> pa.RecordBatch:
    return to_batch({"id": number, "page": page} for number in ids)


@pytest.fixture
def through_proxy(environment, fault_proxy, monkeypatch):
    """A writer whose line can be cut, and the proxy that cuts it."""
    proxy = fault_proxy("http://" + environment["BIGQUERY_STORAGE_EMULATOR_HOST"])
    address = f"{proxy.host}:{proxy.port}"
    monkeypatch.setenv("BIGQUERY_STORAGE_EMULATOR_HOST", address)
    with connect() as client:
        yield client, proxy


def test_rows_can_be_queried_at_once(writer, table, sql):
    """What is confirmed can be queried, NULL and any character included."""
    stream = create_stream(writer, table)
    rows = [{"id": 1, "page": "Zoë's 🧂\n"}, {"id": 2, "page": None}]
    assert append(writer, stream, [to_batch(rows)], 0) == 2
    assert sql("SELECT * FROM visit ORDER BY id") == [(1, "Zoë's 🧂\n"), (2, None)]


def test_sent_again_is_stored_once(writer, table, ids):
    """The same batches, sent again with the same offsets, are stored once."""
    stream = create_stream(writer, table)
    for _ in range(2):
        assert append(writer, stream, [batch(1, 2), batch(3)], 0) == 3
    assert ids() == [1, 2, 3]


def test_goes_on_where_it_stopped(writer, table, ids):
    """With the name of the stream and the next offset, another process goes on."""
    stream = create_stream(writer, table)
    offset = append(writer, stream, [batch(1, 2)], 0)
    with connect() as another:
        assert append(another, stream, [batch(3)], offset) == 3
    assert ids() == [1, 2, 3]


def test_a_gap_is_an_error(writer, table, ids):
    """An offset that skips rows is refused: a lost batch cannot go unnoticed."""
    stream = create_stream(writer, table)
    with pytest.raises(exceptions.OutOfRange):
        append(writer, stream, [batch(1)], 7)
    assert ids() == []


def test_lost_answer(through_proxy, table, ids):
    """The line is cut after the rows were stored: the retry stores nothing twice."""
    writer, proxy = through_proxy
    stream = create_stream(writer, table)
    proxy.cut_answer_to(b"a page to be found")
    batches = [batch(1), batch(2, page="a page to be found"), batch(3)]
    assert append_with_retries(writer, stream, batches, pauses=[0] * 5) == 3
    assert proxy.was_cut.is_set()
    assert ids() == [1, 2, 3]


def test_lost_request(through_proxy, table, ids):
    """The line is cut before the rows arrive: the retry stores them."""
    writer, proxy = through_proxy
    stream = create_stream(writer, table)
    proxy.cut_before(b"a page to be found")
    batches = [batch(1), batch(2, page="a page to be found")]
    assert append_with_retries(writer, stream, batches, pauses=[0] * 5) == 2
    assert proxy.was_cut.is_set()
    assert ids() == [1, 2]


def test_gives_up(through_proxy, table):
    """When the line stays down, the error reaches the caller after the last pause."""
    writer, proxy = through_proxy
    stream = create_stream(writer, table)
    proxy.refuse()
    proxy.reset_all()
    with pytest.raises(exceptions.ServiceUnavailable):
        append_with_retries(writer, stream, [batch(1)], pauses=[0])


def test_silent_server(through_proxy, table):
    """A server that falls silent ends in DeadlineExceeded, after the time given."""
    writer, proxy = through_proxy
    stream = create_stream(writer, table)
    proxy.black_hole()
    with pytest.raises(exceptions.DeadlineExceeded):
        append(writer, stream, [batch(1)], timeout=0.2)


@pytest.mark.parametrize(
    "row",
    [
        pytest.param({"id": None, "page": "a"}, id="null-id"),
        pytest.param({"id": "one", "page": "a"}, id="text-for-an-id"),
        pytest.param({"id": 2**63, "page": "a"}, id="too-large"),
        pytest.param({"id": 1}, id="missing-column"),
        pytest.param({"id": 1, "pag": "a"}, id="misspelled-column"),
    ],
)
def test_bad_rows_are_refused(row):
    """Refused before anything is sent: NULL, a text or a number too large for the id, a
    column that is missing or misspelled."""
    with pytest.raises((ValueError, pa.ArrowException, OverflowError)):
        to_batch([row])


def test_no_table(writer, dataset):
    """A table that does not exist is an error."""
    with pytest.raises(exceptions.NotFound):
        create_stream(writer, f"projects/cookbook/datasets/{dataset}/tables/visits")


def test_no_credentials(monkeypatch, tmp_path):
    """Without an emulator and without credentials, `connect` says so."""
    for name in ("BIGQUERY_STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # asks no metadata server
    with pytest.raises(DefaultCredentialsError):
        connect()


# --8<-- [start:wrong]
def append_as_often_copied(client, table, batch):
    data = Request.ArrowData(
        writer_schema={"serialized_schema": COLUMNS.serialize().to_pybytes()},
        rows={"serialized_record_batch": batch.serialize().to_pybytes()},
    )
    request = Request(write_stream=f"{table}/streams/_default", arrow_rows=data)
    return list(client.append_rows(iter([request])))


# --8<-- [end:wrong]


def test_often_copied_stores_twice(writer, table, ids):
    """Often copied: the default stream knows no offsets, and stores a repeat again."""
    for _ in range(2):
        append_as_often_copied(writer, table, batch(1))
    assert ids() == [1, 1]
