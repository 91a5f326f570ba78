# /// script
# requires-python = ">=3.11"
# dependencies = ["boto3>=1.40", "botocore>=1.40", "psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql", "s3"]
# ///
"""Export a query to S3, and import it elsewhere.

Each export has a folder of its own, and counts only when its manifest is there, with
the number of rows and a checksum. Memory stays constant, whatever the size.
"""

import json
import os
import sys
from hashlib import sha256
from typing import Any, TypedDict
from uuid import uuid4

import boto3
import psycopg
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError
from psycopg import Connection
from psycopg.sql import SQL, Composable, Identifier

# --8<-- [start:export]
CONFIG = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard"})
# In this thread, part by part: one part is in memory, and 10,000 of them are 160 GB.
PARTS = TransferConfig(multipart_chunksize=16 * 2**20, use_threads=False)


class Manifest(TypedDict):
    key: str
    rows: int
    sha256: str


class Reader:  # what COPY gives, as the file that boto3 wants
    def __init__(self, copy: psycopg.Copy) -> None:
        self._copy, self._rest, self.digest = copy, bytearray(), sha256()

    def read(self, size: int = sys.maxsize) -> bytes:
        while len(self._rest) < size and (block := self._copy.read()):
            self._rest += block
        found, self._rest = bytes(self._rest[:size]), self._rest[size:]
        self.digest.update(found)
        return found


def export(
    conn: Connection, s3: Any, bucket: str, folder: str, query: Composable
) -> Manifest:
    """Write the rows of the query to folder, as CSV, and then its manifest.

    Raises psycopg.Error or ClientError: nothing of it is left, and an older export is
    as it was. BotoCoreError: the same, unless it was done and only the answer lost.
    """
    key, manifest = f"{folder}/{uuid4()}.csv", None  # nothing is ever overwritten
    out = SQL("COPY ({}) TO STDOUT (FORMAT csv, HEADER)").format(query)
    try:
        with conn.transaction(), conn.cursor() as cursor:
            cursor.execute("SET LOCAL DateStyle = ISO")
            with cursor.copy(out) as copy:
                reader = Reader(copy)
                s3.upload_fileobj(reader, bucket, key, Config=PARTS)  # or it aborts
            total = reader.digest.hexdigest()
            manifest = Manifest(key=key, rows=cursor.rowcount, sha256=total)
        at = {"Bucket": bucket, "Key": f"{folder}/manifest.json"}
        s3.put_object(**at, Body=json.dumps(manifest), IfNoneMatch="*")  # one wins
    except (psycopg.Error, ClientError):
        # Sent again after a lost answer, the manifest is refused: it is there already.
        if not manifest or find(s3, bucket, folder) != manifest:
            s3.delete_object(Bucket=bucket, Key=key)
            raise
    return manifest


def find(s3: Any, bucket: str, folder: str) -> Manifest | None:
    """The manifest of a folder; None if no whole export is there."""
    try:
        answer = s3.get_object(Bucket=bucket, Key=f"{folder}/manifest.json")
    except s3.exceptions.NoSuchKey:
        return None
    manifest: Manifest = json.loads(answer["Body"].read())
    return manifest


# --8<-- [end:export]


# --8<-- [start:load]
def load(conn: Connection, s3: Any, bucket: str, folder: str, table: str) -> int:
    """Append the rows of an export to the table; return how many.

    Raises ValueError (no export, or not what was exported), psycopg.Error, ClientError
    or BotoCoreError: the table is as it was.
    """
    if not (manifest := find(s3, bucket, folder)):
        raise ValueError(f"{folder} has no manifest: no export, or half of one")
    into, digest = SQL("COPY {} FROM STDIN (FORMAT csv, HEADER match)"), sha256()
    with conn.transaction(), conn.cursor() as cursor:
        body = s3.get_object(Bucket=bucket, Key=manifest["key"])["Body"]
        with body, cursor.copy(into.format(Identifier(table))) as copy:
            for block in body.iter_chunks(2**20):  # an error if the line is cut
                digest.update(block)
                copy.write(block)
            if digest.hexdigest() != manifest["sha256"]:
                raise ValueError(f"{manifest['key']} is not what was exported")
        if cursor.rowcount != manifest["rows"]:  # a trigger may have dropped some
            raise ValueError(f"{cursor.rowcount} of {manifest['rows']} rows arrived")
    return manifest["rows"]


# --8<-- [end:load]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    endpoint = os.environ["AWS_ENDPOINT_URL_S3"]
    s3 = boto3.client("s3", endpoint_url=endpoint, config=CONFIG)
    bucket = f"cookbook-{uuid4()}"
    region: Any = {"LocationConstraint": s3.meta.region_name}
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=region)
    with psycopg.connect(url, connect_timeout=5, autocommit=True) as conn:
        conn.execute("CREATE TABLE item AS SELECT generate_series(1, 1000) AS id")
        conn.execute("CREATE TABLE item_copy (LIKE item)")
        print("exported:", export(conn, s3, bucket, "1", SQL("TABLE item"))["rows"])
        print("imported:", load(conn, s3, bucket, "1", "item_copy"))


if __name__ == "__main__":
    main()
