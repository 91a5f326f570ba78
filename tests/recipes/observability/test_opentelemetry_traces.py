import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import IntegrityError, OperationalError

from recipes.observability.opentelemetry_traces import (
    make_provider,
    request_span,
    trace_statements,
)

EMAIL = "ann@example.com"
INSERT = text("INSERT INTO customer VALUES (:email)")


@pytest.fixture
def engine(postgresql):
    """An engine for a database with a table of customers."""
    engine = create_engine(make_url(postgresql).set(drivername="postgresql+psycopg"))
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE customer (email text CONSTRAINT once UNIQUE)"))
    yield engine
    engine.dispose()


def insert(engine):
    with engine.begin() as conn:
        conn.execute(INSERT, {"email": EMAIL})


@pytest.fixture
def tracer(spans):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    yield provider.get_tracer("test")
    provider.shutdown()


@pytest.fixture
def spans():
    return InMemorySpanExporter()


@pytest.fixture
def traced(engine, tracer):
    trace_statements(engine, tracer)
    return engine


class Receiver(ThreadingHTTPServer):
    """A collector: takes OTLP over HTTP, as protobuf."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        super().__init__(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self.serve_forever)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


def test_exported(engine, receiver):
    """A collector receives the spans, over OTLP, under the name of the service."""
    provider = make_provider("orders", receiver.endpoint)
    tracer = provider.get_tracer("test")
    trace_statements(engine, tracer)
    with tracer.start_as_current_span("request"), engine.connect() as conn:
        conn.execute(text("SELECT 1"))
    provider.shutdown()
    (request,) = receiver.requests
    (resource,) = request.resource_spans
    attributes = {it.key: it.value.string_value for it in resource.resource.attributes}
    assert attributes["service.name"] == "orders"
    statement, parent = resource.scope_spans[0].spans
    assert (statement.name, parent.name) == ("SELECT", "request")
    assert statement.parent_span_id == parent.span_id
    assert statement.trace_id == parent.trace_id
    assert EMAIL not in str(request)


def test_attributes(traced, spans):
    """A span says which database, which statement, and that it was a client's."""
    with traced.begin() as conn:
        conn.execute(INSERT, {"email": EMAIL})
    (span,) = spans.get_finished_spans()
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes) == {
        "db.system.name": "postgresql",
        "db.namespace": traced.url.database,
        "server.address": "127.0.0.1",
        "db.operation.name": "INSERT",
        "db.query.text": "INSERT INTO customer VALUES (%(email)s)",
    }


def test_time(traced, spans):
    """A span lasts as long as its statement."""
    with traced.connect() as conn:
        conn.execute(text("SELECT pg_sleep(0.1)"))
    (span,) = spans.get_finished_spans()
    assert 0.1 <= (span.end_time - span.start_time) / 1e9 < 20


def test_below_its_request(traced, spans, tracer):
    """Each statement is below the request that asked for it, and no other."""
    for name in ("first", "second"):
        with tracer.start_as_current_span(name), traced.connect() as conn:
            conn.execute(text("SELECT 1"))
            conn.execute(text("SELECT 2"))
    found = spans.get_finished_spans()
    parents = {span.context.span_id: span.name for span in found}
    children = [(parents[it.parent.span_id]) for it in found if it.parent]
    assert children == ["first"] * 2 + ["second"] * 2


def test_error(traced, spans):
    """A failed statement has type and SQLSTATE of its error, and no value at all."""
    with traced.begin() as conn:
        conn.execute(INSERT, {"email": EMAIL})
    with traced.connect() as conn, pytest.raises(IntegrityError):
        conn.execute(INSERT, {"email": EMAIL})
    span = spans.get_finished_spans()[1]
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "UniqueViolation"
    assert span.attributes["db.response.status_code"] == "23505"
    assert EMAIL not in span.to_json()
    assert span.events == ()


def test_error_of_a_request(traced, spans, tracer):
    """A failed request has the type of its error, and no value in any of its spans."""
    for _ in range(2):
        with (
            suppress(IntegrityError),
            request_span(tracer, "PUT"),
            traced.begin() as conn,
        ):
            conn.execute(INSERT, {"email": EMAIL})
    *_, statement, request = spans.get_finished_spans()
    assert statement.parent.span_id == request.context.span_id
    assert request.status.status_code is StatusCode.ERROR
    assert request.attributes["error.type"] == "IntegrityError"
    assert EMAIL not in request.to_json() + statement.to_json()


def test_lost_line(spans, tracer, postgresql, fault_proxy):
    """A statement whose line is cut has a span that ends, without a SQLSTATE."""
    proxy = fault_proxy(postgresql)
    url = make_url(proxy.url).set(drivername="postgresql+psycopg")
    engine = create_engine(url)
    trace_statements(engine, tracer)
    with engine.connect() as conn:
        proxy.cut_before(b"SELECT 42")
        with pytest.raises(OperationalError):
            conn.execute(text("SELECT 42"))
    engine.dispose()
    (span,) = spans.get_finished_spans()
    assert span.attributes["error.type"] == "OperationalError"
    assert "db.response.status_code" not in span.attributes


def test_no_statement(spans, tracer):
    """A database that cannot be reached raises its own error, without a span."""
    engine = create_engine("postgresql+psycopg://127.0.0.1:1/")
    trace_statements(engine, tracer)
    with pytest.raises(OperationalError):
        engine.connect()
    assert spans.get_finished_spans() == ()


def test_dead_collector(engine, caplog):
    """Without a collector the statements run all the same."""
    provider = make_provider("orders", "http://127.0.0.1:1/v1/traces")
    trace_statements(engine, provider.get_tracer("test"))
    with engine.connect() as conn:
        assert conn.scalar(text("SELECT 42")) == 42
    for processor in provider._active_span_processor._span_processors:
        processor.span_exporter._shutdown = True  # try no longer
    provider.shutdown()


# --8<-- [start:wrong]
def trace_as_often_copied(engine, provider, **options):
    options |= {"engine": engine, "tracer_provider": provider}
    SQLAlchemyInstrumentor().instrument(**options)


# --8<-- [end:wrong]


@pytest.fixture
def provider(spans):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    yield provider
    if SQLAlchemyInstrumentor().is_instrumented_by_opentelemetry:
        SQLAlchemyInstrumentor().uninstrument()
    provider.shutdown()


def insert_twice(engine):
    for _ in range(2):
        with suppress(IntegrityError):
            insert(engine)


def test_often_copied_traces_nothing(engine, provider, spans, caplog):
    """Often copied: with SQLAlchemy 2.1 there is no span, only a line in the log."""
    trace_as_often_copied(engine, provider)
    insert_twice(engine)
    assert spans.get_finished_spans() == ()
    assert "nothing can be instrumented" in caplog.text


def test_often_copied_quotes_the_row(engine, provider, spans):
    """Often copied: told to skip that check, it makes the text of the error, with the
    row that was refused, the status of the span."""
    trace_as_often_copied(engine, provider, skip_dep_check=True)
    insert_twice(engine)
    (said,) = {it.status.description for it in spans.get_finished_spans()} - {None}
    assert f"Key (email)=({EMAIL}) already exists" in said


def test_often_copied_request_quotes_the_row(traced, tracer, spans):
    """Often copied: a plain `start_as_current_span` around it records the text too."""
    for _ in range(2):
        with (
            suppress(IntegrityError),
            tracer.start_as_current_span("PUT"),
            traced.begin() as conn,
        ):
            conn.execute(INSERT, {"email": EMAIL})
    request = spans.get_finished_spans()[-1]
    assert f"Key (email)=({EMAIL}) already exists" in request.to_json()
