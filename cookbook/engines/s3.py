"""Amazon S3: MiniStack as its stand-in."""

from contextlib import closing
from typing import Any

from cookbook.engines.aws import AWS, asks, make_client
from cookbook.engines.base import Server


class S3(AWS):
    service = "s3"

    name = "s3"
    title = "Amazon S3"
    env = "AWS_ENDPOINT_URL_S3"
    example = "http://127.0.0.1:14566"
    port = 4566

    starter = asks("s3", 'list_buckets()["Buckets"]')

    def identify(self, url: str) -> tuple[str, str]:
        said = super().identify(url)
        with closing(make_client(self, url)) as client:
            client.list_buckets()  # refused where MiniStack serves other things only
        return said

    def drop_place(self, server: Server, url: str) -> None:
        with closing(make_client(self, url)) as client:
            for bucket in client.list_buckets()["Buckets"]:
                empty(client, bucket["Name"])
                client.delete_bucket(Bucket=bucket["Name"])


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
