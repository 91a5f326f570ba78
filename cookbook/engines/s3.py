"""Amazon S3: MiniStack as its stand-in. A place is an access key of its own."""

from contextlib import closing
from pathlib import Path
from typing import Any

from cookbook.engines.base import Program, Server, Starter
from cookbook.engines.dynamodb import DynamoDB, account_of_its_own, make_client


class S3(DynamoDB):
    service = "s3"
    endpoints = ("AWS_ENDPOINT_URL_S3",)

    name = "s3"
    title = "Amazon S3"
    env = "AWS_ENDPOINT_URL_S3"
    example = "http://127.0.0.1:14566"
    port = 4566
    fetches = None

    starter = Starter(
        body="""\
parts = urlsplit(address)  # what is not in it comes from the environment
client = boto3.client(
    "s3",
    endpoint_url=f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}",
    aws_access_key_id=parts.username,
    aws_secret_access_key=parts.password,
    region_name=dict(parse_qsl(parts.query)).get("region"),
)
return 42 + len(client.list_buckets()["Buckets"])""",
        driver="import boto3",
        dependency="boto3>=1.40",
        standard=("from urllib.parse import parse_qsl, urlsplit",),
    )

    def identify(self, url: str) -> tuple[str, str]:
        product, version = super().identify(url)
        if product != "MiniStack":
            raise ValueError(f"it is {product}")
        with closing(make_client(self, url)) as client:
            client.list_buckets()  # refused where MiniStack serves other things only
        return product, version

    def create_place(self, server: Server, name: str) -> str:
        return account_of_its_own(server.url)

    def drop_place(self, server: Server, url: str) -> None:
        with closing(make_client(self, url)) as client:
            for bucket in client.list_buckets()["Buckets"]:
                empty(client, bucket["Name"])
                client.delete_bucket(Bucket=bucket["Name"])

    def native(self) -> Program | None:
        return None

    def fetch(self, folder: Path) -> None:
        raise NotImplementedError


def empty(client: Any, bucket: str) -> None:
    """Abort what is being uploaded, and delete every version of every object."""
    for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
        for one in page.get("Uploads", []):
            client.abort_multipart_upload(
                Bucket=bucket, Key=one["Key"], UploadId=one["UploadId"]
            )
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for one in page.get("Versions", []) + page.get("DeleteMarkers", []):
            client.delete_object(
                Bucket=bucket, Key=one["Key"], VersionId=one["VersionId"]
            )
