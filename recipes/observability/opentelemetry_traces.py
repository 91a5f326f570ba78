# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "opentelemetry-exporter-otlp-proto-http>=1.38",
#     "opentelemetry-sdk>=1.38",
#     "psycopg[binary]>=3.2",
#     "sqlalchemy>=2.1",
# ]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Trace your statements with OpenTelemetry.

A span for each statement, below the span of the request that asked for it. It holds the
statement with its placeholders and the SQLSTATE, and no value.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


# --8<-- [start:provider]
def make_provider(service: str, endpoint: str) -> TracerProvider:
    """Send spans to a collector, say http://127.0.0.1:4318/v1/traces, in batches.

    Call shutdown() at the end, or the last batch is lost with a killed process.
    """
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


# --8<-- [end:provider]


# --8<-- [start:trace]
def trace_statements(engine: Engine, tracer: Tracer) -> None:
    """From now on, a span for each statement. For an AsyncEngine give sync_engine."""
    fixed = {
        "db.system.name": engine.dialect.name,
        "db.namespace": engine.url.database or "",
        "server.address": engine.url.host or "",
    }

    @event.listens_for(engine, "before_cursor_execute")
    def begin(_1: Any, _2: Any, query: str, _3: Any, context: Any, _4: Any) -> None:
        verb = query.lstrip().partition(" ")[0].upper()
        what = {**fixed, "db.operation.name": verb, "db.query.text": query}
        context.span = tracer.start_span(verb, kind=SpanKind.CLIENT, attributes=what)

    @event.listens_for(engine, "after_cursor_execute")
    def end(_1: Any, _2: Any, _3: Any, _4: Any, context: Any, _5: Any) -> None:
        context.span.end()

    @event.listens_for(engine, "handle_error")
    def fail(error: ExceptionContext) -> None:
        span = getattr(error.execution_context, "span", None)
        if span and span.is_recording():
            original = error.original_exception
            span.set_attribute("error.type", type(original).__name__)
            if code := getattr(original, "sqlstate", None):
                span.set_attribute("db.response.status_code", code)
            span.set_status(Status(StatusCode.ERROR))  # its text quotes the row
            span.end()


@contextmanager
def request_span(tracer: Tracer, name: str) -> Iterator[None]:
    """A span around what a request does. Its error is named, and not quoted."""
    with tracer.start_as_current_span(
        name, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield
        except Exception as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(Status(StatusCode.ERROR))
            raise


# --8<-- [end:trace]


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    tracer = provider.get_tracer("orders")
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    trace_statements(engine, tracer)
    insert = text("INSERT INTO orders VALUES (:id)")
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE orders (id int PRIMARY KEY)"))
    for _ in range(2):
        try:
            with request_span(tracer, "PUT /orders"), engine.begin() as conn:
                conn.execute(insert, {"id": 42})
        except DBAPIError:
            continue
    engine.dispose()
    provider.shutdown()
    for span in spans.get_finished_spans():
        found = dict(span.attributes or {})
        indent = "    " if span.parent else ""
        text_or_name = found.get("db.query.text", span.name)
        print(f"{indent}{text_or_name}: {found.get('error.type', 'ok')}")


if __name__ == "__main__":
    main()
