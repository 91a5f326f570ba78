# /// script
# requires-python = ">=3.11"
# dependencies = ["openlineage-python>=1.40", "psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Send lineage events that cannot harm the job.

OpenLineage records which job read and wrote which tables, and how it ended. The job is
what matters: it runs when the receiver is down, and its own error reaches the caller.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
from openlineage.client import OpenLineageClient, event_v2, facet_v2
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, RunState
from openlineage.client.uuid import generate_new_uuid

log = logging.getLogger(__name__)


# --8<-- [start:client]
def make_client(
    file: Path, url: str | None = None, api_key: str = "", timeout: float = 2
) -> OpenLineageClient:
    """Write each event to the file, one a line; then send it to the URL, if given.

    An event that gets no answer takes twice the timeout (seconds).
    """
    once = {"total": 1, "connect": 1, "read": 1}  # or five times, with long pauses
    auth = {"type": "api_key", "api_key": api_key} if api_key else {}
    keep = {"type": "file", "log_file_path": str(file), "append": True}
    send = {"type": "http", "url": url, "timeout": timeout, "retry": once, "auth": auth}
    both = {"type": "composite", "transports": [keep, send] if url else [keep]}
    return OpenLineageClient(config={"transport": both})


# --8<-- [end:client]


# --8<-- [start:traced]
@contextmanager
def traced(
    client: OpenLineageClient, job: Job, read: InputDataset, written: OutputDataset
) -> Iterator[None]:
    """Emit START, then COMPLETE, FAIL (an error) or ABORT (Ctrl-C).

    The transaction belongs inside: what is not committed is not complete. The job's own
    error goes on to the caller; an event that cannot be sent is logged, never raised.
    """
    run_id = str(generate_new_uuid())

    def emit(state: RunState, facets: dict[str, Any] | None = None) -> None:
        event = event_v2.RunEvent(
            eventType=state,
            eventTime=datetime.now(UTC).isoformat(),
            run=event_v2.Run(run_id, facets or {}),
            job=job,
            inputs=[read],
            outputs=[written],
        )
        try:
            client.emit(event)
        except Exception:
            log.exception("no lineage: %s of %s, run %s", state.name, job.name, run_id)

    emit(RunState.START)
    try:
        yield
    except BaseException as error:
        name = type(error).__name__  # its text may hold data
        told = facet_v2.error_message_run.ErrorMessageRunFacet(name, "PYTHON")
        state = RunState.FAIL if isinstance(error, Exception) else RunState.ABORT
        emit(state, {"errorMessage": told})
        raise
    emit(RunState.COMPLETE)


# --8<-- [end:traced]


# --8<-- [start:use]
ADD = "INSERT INTO totals SELECT day, sum(amount) FROM orders GROUP BY day"


def add_totals(conn: psycopg.Connection, client: OpenLineageClient) -> int:
    """Add up the orders; return how many rows were written. conn is autocommit."""
    where = f"postgres://{conn.info.host}:{conn.info.port}"  # not the password
    source = InputDataset(where, f"{conn.info.dbname}.public.orders")
    target = OutputDataset(where, f"{conn.info.dbname}.public.totals")
    with traced(client, Job("shop", "add_totals"), source, target):
        with conn.transaction():
            written = conn.execute(ADD).rowcount
        statistics = facet_v2.output_statistics_output_dataset
        told = statistics.OutputStatisticsOutputDatasetFacet(rowCount=written)
        target.outputFacets = {"outputStatistics": told}
    return written


# --8<-- [end:use]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)
SCHEMA = """CREATE TABLE orders (day date NOT NULL, amount numeric NOT NULL);
CREATE TABLE totals (day date PRIMARY KEY, amount numeric NOT NULL);
INSERT INTO orders VALUES ('2026-01-01', 3), ('2026-01-01', 4), ('2026-01-02', 5)"""


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    connection = psycopg.connect(url, autocommit=True, connect_timeout=5)
    with connection as conn, TemporaryDirectory() as folder:
        client = make_client(file := Path(folder, "events.jsonl"))
        conn.execute(SCHEMA)
        print("rows written:", add_totals(conn, client))
        try:
            add_totals(conn, client)
        except psycopg.errors.UniqueViolation as error:
            print("second time:", error.diag.constraint_name)
        for event in map(json.loads, file.read_text("utf-8").splitlines()):
            print(event["eventType"], event["job"]["name"])


if __name__ == "__main__":
    main()
