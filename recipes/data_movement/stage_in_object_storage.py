# /// script
# requires-python = ">=3.11"
# dependencies = ["boto3>=1.40", "botocore>=1.40", "psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql", "s3"]
# ///
"""Stage a table in object storage.

PostgreSQL's COPY goes to S3 in parts, and comes back in parts: one part is in memory,
whatever the size of the table. An object is there whole or not at all, and so are rows.
"""

import os
import sys
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from typing import Any
from uuid import uuid4

import boto3
import psycopg
from botocore.config import Config
from psycopg.sql import SQL, Identifier

Connection = psycopg.Connection[tuple[Any, ...]]

# --8<-- [start:client]
CONFIG = Config(
    connect_timeout=5,
    read_timeout=60,
    retries={"mode": "standard", "total_max_attempts": 4},
)
# --8<-- [end:client]

# --8<-- [start:unload]
PART = 16 * 2**20  # bytes: at least 5 MiB, and S3 takes 10,000 parts


def unload(conn: Connection, s3: Any, bucket: str, key: str, table: str) -> int:
    """Copy the table into one object, as CSV; return how many rows.

    Raises psycopg.Error, ClientError or BotoCoreError: then what was sent is removed,
    and an older object of that key is as it was; or, if the answer to the last request
    was lost, the object is there, whole.
    """
    out = SQL("COPY {} TO STDOUT (FORMAT csv, HEADER)").format(Identifier(table))
    target = {"Bucket": bucket, "Key": key}
    checked = {"ChecksumAlgorithm": "SHA256"}  # S3 refuses a part that arrives damaged
    target["UploadId"] = s3.create_multipart_upload(**target, **checked)["UploadId"]
    done = []
    try:
        with conn.transaction(), conn.cursor() as cursor:
            cursor.execute("SET LOCAL DateStyle = ISO")
            with cursor.copy(out) as copy:
                for number, body in enumerate(in_parts(copy), 1):
                    part = {"PartNumber": number}
                    sent = s3.upload_part(**target, **part, Body=body, **checked)
                    names = ("ETag", "ChecksumSHA256")
                    done.append(part | {name: sent[name] for name in names})
            rows = cursor.rowcount
        s3.complete_multipart_upload(**target, MultipartUpload={"Parts": done})
    except BaseException as error:
        try:
            s3.abort_multipart_upload(**target)
        except Exception as also:  # parts stay, and cost: have a lifecycle rule
            error.add_note(f"the upload was not aborted: {also}")
        raise
    return rows


def in_parts(blocks: psycopg.Copy) -> Iterator[bytearray]:
    part = bytearray()
    for block in blocks:
        part += block
        if len(part) >= PART:
            yield part
            part = bytearray()
    if part:
        yield part


# --8<-- [end:unload]


# --8<-- [start:load]
def load(conn: Connection, s3: Any, bucket: str, key: str, table: str) -> int:
    """Append the rows of an object that unload() made; return how many.

    Raises ValueError (other content, or no checksum), psycopg.Error, ClientError or
    BotoCoreError: then no row of it is in the table. Call it again.
    """
    source = {"Bucket": bucket, "Key": key}
    head = s3.head_object(**source, ChecksumMode="ENABLED")
    expected, _, count = head.get("ChecksumSHA256", "").partition("-")
    if not count:
        raise ValueError(f"{key} has no SHA-256 of its parts")
    into = SQL("COPY {} FROM STDIN (FORMAT csv, HEADER match)")
    total = sha256()
    with conn.transaction(), conn.cursor() as cursor:
        with cursor.copy(into.format(Identifier(table))) as copy:
            for number in range(1, int(count) + 1):
                part = s3.get_object(**source, PartNumber=number, IfMatch=head["ETag"])
                content = part["Body"].read()  # an error if the line is cut
                total.update(sha256(content).digest())
                copy.write(content)
            if b64encode(total.digest()).decode() != expected:
                raise ValueError(f"{key} is not what was uploaded")
        return cursor.rowcount


# --8<-- [end:load]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    s3 = boto3.client(
        "s3", endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"], config=CONFIG
    )
    bucket = f"cookbook-{uuid4()}"
    region: Any = {"LocationConstraint": s3.meta.region_name}
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=region)
    with psycopg.connect(url, connect_timeout=5, autocommit=True) as conn:
        conn.execute("CREATE TABLE item AS SELECT generate_series(1, 1000) AS id")
        conn.execute("CREATE TABLE item_copy (LIKE item)")
        print("unloaded:", unload(conn, s3, bucket, "item.csv", "item"))
        print("loaded:", load(conn, s3, bucket, "item.csv", "item_copy"))
    s3.delete_object(Bucket=bucket, Key="item.csv")
    s3.delete_bucket(Bucket=bucket)
    s3.close()


if __name__ == "__main__":
    main()
