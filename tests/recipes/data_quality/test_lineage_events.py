import json
import logging
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg
import pytest
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import (
    InputDataset,
    Job,
    OutputDataset,
    Run,
    RunEvent,
    RunState,
)
from openlineage.client.transport.http import HttpConfig, HttpTransport

from recipes.data_quality.lineage_events import SCHEMA, add_totals, make_client, traced

JOB = Job("shop", "job")
SETS = (InputDataset("files", "in"), OutputDataset("files", "out"))


class Receiver(ThreadingHTTPServer):
    """An OpenLineage backend: it keeps what it is sent, or misbehaves."""

    daemon_threads = True

    def __init__(self):
        self.events = []
        self.headers = []
        self.requests = 0
        self.status = 201
        self.silent = threading.Event()  # set: it takes requests and never answers
        self.closing = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        server.requests += 1
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if server.silent.is_set():
            server.closing.wait()
            return
        if server.status == 201:
            server.events.append(json.loads(body))
            server.headers.append((self.path, dict(self.headers)))
        self.send_response(server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args): ...


@pytest.fixture
def receiver():
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def nobody():
    """The address of a port where nobody listens any more."""
    server = Receiver()
    server.server_close()
    return server.url


@pytest.fixture
def shop(postgresql):
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute(SCHEMA)
        yield conn


@pytest.fixture
def file(tmp_path):
    return tmp_path / "events.jsonl"


def lines(file):
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def states(events):
    return [event["eventType"] for event in events]


@pytest.fixture
def client(file, receiver):
    client = make_client(file, receiver.url, timeout=10)
    yield client
    client.close()


def test_start_and_complete(shop, client, receiver, file):
    """A run that succeeds is START and COMPLETE, with one run id, in the file and at
    the receiver alike."""
    assert add_totals(shop, client) == 2
    assert states(receiver.events) == ["START", "COMPLETE"]
    assert receiver.events == lines(file)
    assert len({event["run"]["runId"] for event in receiver.events}) == 1


def test_names_tables_and_rows(shop, client, receiver):
    """COMPLETE says what was read and written, and how many rows."""
    add_totals(shop, client)
    event = receiver.events[-1]
    where = f"postgres://{shop.info.host}:{shop.info.port}"
    assert [(it["namespace"], it["name"]) for it in event["inputs"]] == [
        (where, f"{shop.info.dbname}.public.orders")
    ]
    (output,) = event["outputs"]
    assert output["name"] == f"{shop.info.dbname}.public.totals"
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 2


def test_fail(shop, client, receiver):
    """A run that fails is START and FAIL; its error reaches the caller as it was."""
    add_totals(shop, client)
    with pytest.raises(psycopg.errors.UniqueViolation):
        add_totals(shop, client)
    assert states(receiver.events)[2:] == ["START", "FAIL"]
    facet = receiver.events[-1]["run"]["facets"]["errorMessage"]
    assert facet["message"] == "UniqueViolation"


def test_two_runs(shop, client, receiver):
    """Each run has an id of its own."""
    for _ in range(2):
        with traced(client, JOB, *SETS):
            pass
    assert len({event["run"]["runId"] for event in receiver.events}) == 2


def test_abort(client, receiver):
    """A run that is stopped, with Ctrl-C say, is ABORT, and stops."""
    with pytest.raises(KeyboardInterrupt), traced(client, JOB, *SETS):
        raise KeyboardInterrupt
    assert states(receiver.events) == ["START", "ABORT"]


def test_no_secrets(shop, client, file, postgresql):
    """No event holds the password or the data that an error names."""
    add_totals(shop, client)
    with pytest.raises(psycopg.errors.UniqueViolation, match="already exists"):
        add_totals(shop, client)
    written = file.read_text("utf-8")
    assert "already exists" not in written
    assert postgresql.split("://")[1].split("@")[0] not in written


def test_commit_fails(shop, client, receiver):
    """A transaction that is refused at COMMIT is FAIL, not COMPLETE."""
    shop.execute("CREATE TABLE seat (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    with (
        pytest.raises(psycopg.errors.UniqueViolation),
        traced(client, JOB, *SETS),
        shop.transaction(),
    ):
        shop.execute("INSERT INTO seat VALUES (1), (1)")
    assert states(receiver.events) == ["START", "FAIL"]


def test_nobody_there(shop, file, nobody, caplog):
    """Nobody listens: the job runs, the file has every event, and the log has a warning
    for each that was not sent."""
    client = make_client(file, nobody)
    assert add_totals(shop, client) == 2
    assert states(lines(file)) == ["START", "COMPLETE"]
    warnings = [it for it in caplog.records if "failed to emit" in it.getMessage()]
    assert len(warnings) == 2


@pytest.mark.parametrize("status", [400, 401, 500])
def test_receiver_refuses(client, receiver, file, caplog, status):
    """The receiver answers with an error: the job runs, and the log has a warning."""
    receiver.status = status
    with traced(client, JOB, *SETS):
        pass
    assert states(lines(file)) == ["START", "COMPLETE"]
    assert "failed to emit" in caplog.text


def test_receiver_is_silent(receiver, file):
    """A receiver that never answers is asked twice for each event, then the job goes
    on."""
    receiver.silent.set()
    start = time.monotonic()
    with traced(make_client(file, receiver.url, timeout=0.1), JOB, *SETS):
        pass
    assert receiver.requests == 4
    assert time.monotonic() - start < 15  # the client's own timeout would make it 20
    assert states(lines(file)) == ["START", "COMPLETE"]


def test_nothing_can_be_written(shop, tmp_path, caplog):
    """Not even the file can be written: the job runs, and the log has an error with the
    state, the job and the reason."""
    client = make_client(tmp_path / "missing" / "events.jsonl")
    assert add_totals(shop, client) == 2
    errors = [it for it in caplog.records if it.levelno == logging.ERROR]
    assert [it.getMessage().split(",")[0] for it in errors] == [
        "no lineage: START of add_totals",
        "no lineage: COMPLETE of add_totals",
    ]
    assert all(it.exc_info for it in errors)


def test_error_survives(shop, tmp_path):
    """The job fails and FAIL cannot be sent: the caller gets the error of the job."""
    client = make_client(tmp_path / "missing" / "events.jsonl")
    add_totals(shop, client)
    with pytest.raises(psycopg.errors.UniqueViolation):
        add_totals(shop, client)


def test_api_key(receiver, file):
    """The key goes to the receiver as a bearer token, to its usual path."""
    client = make_client(file, receiver.url, "key-1", timeout=10)
    with traced(client, JOB, *SETS):
        pass
    path, headers = receiver.headers[0]
    assert path == "/api/v1/lineage"
    assert headers["Authorization"] == "Bearer key-1"
    assert "key-1" not in file.read_text("utf-8")
    client.close()


# --8<-- [start:wrong]
def run_as_often_copied(client, run, work):
    client.emit(event(RunState.START, run))
    try:
        work()
        client.emit(event(RunState.COMPLETE, run))
    except Exception:
        client.emit(event(RunState.FAIL, run))
        raise


# --8<-- [end:wrong]


def event(state, run):
    return RunEvent(eventType=state, eventTime="2026-01-01T00:00:00Z", run=run, job=JOB)


RUN = Run("018f0000-0000-7000-8000-000000000000")


@pytest.fixture
def copied(receiver):
    """The client that those use: one receiver, and no second place."""
    config = HttpConfig(receiver.url, timeout=10, retry={"total": 0})
    client = OpenLineageClient(transport=HttpTransport(config))
    yield client
    client.close()


def test_often_copied_does_not_run(copied, receiver):
    """Often copied: the receiver is down, and the job does not run at all."""
    receiver.status = 503
    done = []
    with pytest.raises(Exception, match="503"):
        run_as_often_copied(copied, RUN, lambda: done.append(1))
    assert done == []


def test_often_copied_says_fail(copied, receiver):
    """Often copied: COMPLETE is not taken, so a job that has committed is said to have
    failed, and whoever sees that runs it again."""
    done = []

    def work():
        done.append(1)
        receiver.status = 503

    with pytest.raises(Exception, match="503"):
        run_as_often_copied(copied, RUN, work)
    assert done == [1]


def test_often_copied_hides_the_error(copied, receiver):
    """Often copied: FAIL cannot be sent, and its error takes the place of the job's."""

    def work():
        receiver.status = 503
        raise ZeroDivisionError

    with pytest.raises(Exception, match="503") as caught:
        run_as_often_copied(copied, RUN, work)
    assert not isinstance(caught.value, ZeroDivisionError)
