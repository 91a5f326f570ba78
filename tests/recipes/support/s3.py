"""What the tests of the recipes with S3 share: a client, its faults, and a table."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from io import BytesIO
from typing import Any

import boto3
import psycopg
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from cookbook.engines import engine

MIB = 2**20
_session = boto3.Session()  # it reads the description of the service once


@contextmanager
def connected(address: str, config: Config) -> Iterator[Any]:
    """A client of the server at that address, with the recipe's settings."""
    one = engine("s3").variables(address)
    client = _session.client(
        "s3",
        endpoint_url=one["AWS_ENDPOINT_URL_S3"],
        aws_access_key_id=one["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=one["AWS_SECRET_ACCESS_KEY"],
        region_name=one["AWS_DEFAULT_REGION"],
        config=config,
    )
    with closing(client):
        yield client


def make_bucket(client: Any, address: str) -> str:
    """A bucket of this test's own: names are shared by all accounts."""
    name = f"bucket-{engine('s3').variables(address)['AWS_ACCESS_KEY_ID']}"
    where = {"LocationConstraint": client.meta.region_name}
    client.create_bucket(Bucket=name, CreateBucketConfiguration=where)
    return name


def left(client: Any, bucket: str) -> tuple[list[str], int]:
    """The keys of the objects, and the uploads that are neither done nor aborted."""
    objects = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return [one["Key"] for one in objects], len(uploads)


def on(client: Any, event: str, act: Callable, nth: int = 1) -> list[int]:
    """Call act when that event comes for the nth time; returns what counts them."""
    seen = []

    def handle(**given: object) -> object:
        seen.append(1)
        return act(**given) if len(seen) == nth else None

    client.meta.events.register(event, handle)
    return seen


def answer(status: int, code: str) -> Callable[..., AWSResponse]:
    """S3's answer, in place of the stand-in's."""

    def act(request: Any, **_: object) -> AWSResponse:
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()

        class Raw(BytesIO):
            def stream(self, *_args: object, **_named: object) -> Iterator[bytes]:
                yield self.read()

        return AWSResponse(request.url, status, {}, Raw(body))

    return act


@contextmanager
def things(url: str) -> Iterator[psycopg.Connection]:
    """A connection to a database with the empty tables thing and thing_copy."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(
            "CREATE TABLE thing (id bigint, amount numeric, at timestamptz, note text)"
        )
        conn.execute("CREATE TABLE thing_copy (LIKE thing)")
        yield conn


def fill(conn: psycopg.Connection, rows: int, width: int = 1_000) -> None:
    conn.execute(
        "INSERT INTO thing SELECT n, n / 100.0, '2026-01-01Z', repeat('x', %s)"
        " FROM generate_series(1, %s) AS n",
        (width, rows),
    )


def everything(conn: psycopg.Connection, table: str) -> list[tuple]:
    return conn.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()
