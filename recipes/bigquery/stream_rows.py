# /// script
# requires-python = ">=3.11"
# dependencies = ["google-cloud-bigquery>=3.40",
#     "google-cloud-bigquery-storage>=2.36", "pyarrow>=22"]
# ///
"""Stream rows, each exactly once.

The Storage Write API takes rows that can be queried at once. With a stream of your own
and an offset for each batch, a batch that is sent again is not stored again.
"""

import os
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any

import grpc
import pyarrow as pa
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient, types

NO_SERVER = (
    "Set GOOGLE_CLOUD_PROJECT and BIGQUERY_DATASET; for an emulator also"
    " BIGQUERY_EMULATOR_HOST, for example http://127.0.0.1:19050"
    " after `docker compose up -d --wait bigquery`"
)
Request = types.AppendRowsRequest
ALREADY_EXISTS = grpc.StatusCode.ALREADY_EXISTS.value[0]
COLUMNS = pa.schema(
    [pa.field("id", pa.int64(), nullable=False), pa.field("page", pa.string())]
)


# --8<-- [start:connect]
def connect() -> BigQueryWriteClient:
    """The service, over TLS; or the emulator that the variable names, without."""
    emulator = os.environ.get("BIGQUERY_STORAGE_EMULATOR_HOST")
    if not emulator:
        return BigQueryWriteClient()
    kind = BigQueryWriteClient.get_transport_class("grpc")
    return BigQueryWriteClient(transport=kind(channel=grpc.insecure_channel(emulator)))


def create_stream(client: BigQueryWriteClient, table: str) -> str:
    """A stream of your own, for "projects/P/datasets/D/tables/T". Raises NotFound.

    Keep its name and the offset: after a crash you go on with them.
    """
    kind = types.WriteStream(type_="COMMITTED")  # readable when confirmed
    return client.create_write_stream(parent=table, write_stream=kind, timeout=10).name


# --8<-- [end:connect]


# --8<-- [start:append]
def to_batch(rows: Iterable[dict[str, Any]]) -> pa.RecordBatch:
    """The rows, at most 10 MB. Raises ValueError: other columns, wrong type, NULL."""
    rows = list(rows)
    if odd := [row for row in rows if row.keys() != set(COLUMNS.names)]:
        raise ValueError(f"{odd[0]}: the columns are {', '.join(COLUMNS.names)}")
    batch = pa.RecordBatch.from_pylist(rows, COLUMNS)
    for field in COLUMNS:
        if batch[field.name].null_count and not field.nullable:
            raise ValueError(f"{field.name} may not be NULL")
    return batch


def append(
    client: BigQueryWriteClient,
    stream: str,
    batches: Sequence[pa.RecordBatch],
    offset: int = 0,
    timeout: float = 60,
) -> int:
    """Append the batches from offset on; return the offset after the last row. What the
    stream has already is passed over.

    Raises OutOfRange for a gap, DeadlineExceeded (timeout, s), ServiceUnavailable.
    """
    requests = []
    for batch in batches:
        data = Request.ArrowData(
            writer_schema={"serialized_schema": COLUMNS.serialize().to_pybytes()},
            rows={"serialized_record_batch": batch.serialize().to_pybytes()},
        )
        requests.append(Request(write_stream=stream, offset=offset, arrow_rows=data))
        offset += batch.num_rows
    answers = client.append_rows(
        iter(requests),
        retry=None,  # the default retries for a day
        timeout=timeout,
        metadata=[("x-goog-request-params", f"write_stream={stream}")],
    )
    for _, answer in zip(requests, answers, strict=True):
        if answer.error.code not in (0, ALREADY_EXISTS):
            raise exceptions.from_grpc_status(answer.error.code, answer.error.message)
    return offset


def append_with_retries(
    *args: Any, pauses: Iterable[float] = (0.1, 1, 5), **more: Any
) -> int:
    """append(); where the line is lost, all again after each of pauses (seconds)."""
    for pause in pauses:
        try:
            return append(*args, **more)
        except (exceptions.ServerError, exceptions.Aborted):
            time.sleep(pause)
    return append(*args, **more)


# --8<-- [end:append]


def main() -> None:
    project = os.environ.get("GOOGLE_CLOUD_PROJECT") or sys.exit(NO_SERVER)
    dataset = os.environ.get("BIGQUERY_DATASET") or sys.exit(NO_SERVER)
    key = AnonymousCredentials() if os.environ.get("BIGQUERY_EMULATOR_HOST") else None
    writer = connect()
    with closing(bigquery.Client(credentials=key)) as client, writer:
        visit = f"`{dataset}.visit`"
        client.query(f"CREATE TABLE {visit} (id INT64 NOT NULL, page STRING)").result()
        path = f"projects/{project}/datasets/{dataset}/tables/visit"
        stream = create_stream(writer, path)
        batch = to_batch([{"id": 1, "page": "home"}, {"id": 2, "page": None}])
        for _ in range(2):
            print("next offset:", append_with_retries(writer, stream, [batch]))
        writer.finalize_write_stream(name=stream, timeout=10)
        (row,) = client.query(f"SELECT COUNT(*) AS n FROM {visit}").result()
        print(f"rows in the table: {row.n}")


if __name__ == "__main__":
    main()
