# /// script
# requires-python = ">=3.11"
# dependencies = ["oci>=2.160"]
# [tool.cookbook]
# needs = ["oracle_cloud"]
# ///
"""Keep a dump in Oracle's Object Storage.

It goes up and comes back in parts, of which one is in memory. Nothing is replaced
unawares, and a file gets its name when its checksum is right.
"""

import os
import sys
from base64 import b64encode
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO
from uuid import uuid4

import oci
from oci.object_storage import models

# --8<-- [start:client]
RETRIES = oci.retry.RetryStrategyBuilder(max_attempts=4).get_retry_strategy()


def make_client(config: dict[str, Any], endpoint: str | None = None) -> Any:
    """The client of one process. Raises InvalidConfig, InvalidPrivateKey."""
    return oci.object_storage.ObjectStorageClient(
        config,
        service_endpoint=endpoint,  # None: that of the region in config
        timeout=(5, 60),  # seconds to connect, and between two bytes
        retry_strategy=RETRIES,
    )


# --8<-- [end:client]

# --8<-- [start:upload]
PART = 16 * 2**20  # bytes, held in memory; the service takes 10,000 parts


def upload(
    client: Any, bucket: tuple[str, str], name: str, source: BinaryIO, *, old: str = ""
) -> str:
    """Upload what source gives to bucket (namespace, name); return the object's ETag.

    It replaces the object whose ETag is old; "": there must be none of that name.
    Raises ServiceError (412: it is another one), RequestException, ValueError (nothing
    to read): nothing of it is left, unless it was done and only the answer was lost.
    """
    if not (part := source.read(PART)):
        raise ValueError(f"nothing to upload to {name}")
    only_if = {"if_match": old} if old else {"if_none_match": "*"}
    hashed = {"opc_checksum_algorithm": "SHA256"}
    about = models.CreateMultipartUploadDetails(
        object=name, metadata={"opc-meta-part-size": str(PART)}
    )
    started = client.create_multipart_upload(*bucket, about, **hashed, **only_if)
    target = (*bucket, name, started.data.upload_id)
    done: list[Any] = []
    try:
        while part:
            nth = len(done) + 1
            hashed["opc_content_sha256"] = b64encode(sha256(part).digest()).decode()
            etag = client.upload_part(*target, nth, part, **hashed).headers["etag"]
            done.append(
                models.CommitMultipartUploadPartDetails(part_num=nth, etag=etag)
            )
            part = source.read(PART)
        all_parts = models.CommitMultipartUploadDetails(parts_to_commit=done)
        committed = client.commit_multipart_upload(*target, all_parts, **only_if)
    except BaseException as error:
        try:
            client.abort_multipart_upload(*target)
        except Exception as also:  # parts stay, and cost: have a lifecycle rule
            error.add_note(f"the upload was not aborted: {also}")
        raise
    return str(committed.headers["etag"])


# --8<-- [end:upload]


# --8<-- [start:download]
def download(client: Any, bucket: tuple[str, str], name: str, path: Path) -> str:
    """Write an object that upload() made to path, checked; return its ETag.

    Raises ServiceError (404; 412: replaced meanwhile), RequestException, OSError (the
    line was cut), ValueError (other content, or no checksum): then path is as it was.
    """
    head = client.head_object(*bucket, name).headers
    size, expected = head.get("opc-meta-part-size"), head.get("opc-multipart-sha256")
    if not size or not expected:
        raise ValueError(f"{name} has no SHA-256 of its parts")
    total, parts = sha256(), 0
    unchecked = path.with_name(f"{path.name}.{uuid4()}")
    try:
        with unchecked.open("xb") as file:
            for start in range(0, int(head["content-length"]), int(size)):
                asked = f"bytes={start}-{start + int(size) - 1}"
                only_if = {"range": asked, "if_match": head["etag"]}
                part = client.get_object(*bucket, name, **only_if).data.content
                total.update(sha256(part).digest())
                file.write(part)
                parts += 1
        if f"{b64encode(total.digest()).decode()}-{parts}" != expected:
            raise ValueError(f"{name} is not what was uploaded")
        unchecked.replace(path)
    finally:
        unchecked.unlink(missing_ok=True)
    return str(head["etag"])


# --8<-- [end:download]

NO_SERVER = "Set OCI_CONFIG_FILE (~/.oci/config), and for a stand-in OCI_ENDPOINT"


def main() -> None:
    file = os.environ.get("OCI_CONFIG_FILE") or sys.exit(NO_SERVER)
    config = oci.config.from_file(file)
    client = make_client(config, os.environ.get("OCI_ENDPOINT"))
    bucket = (client.get_namespace().data, f"cookbook-{uuid4()}")
    about = {"name": bucket[1], "compartment_id": config["tenancy"]}
    client.create_bucket(bucket[0], models.CreateBucketDetails(**about))
    etag = upload(client, bucket, "dump.sql", BytesIO(b"SELECT 42;\n"))
    with TemporaryDirectory() as folder:
        path = Path(folder, "dump.sql")
        print("it is the same:", download(client, bucket, "dump.sql", path) == etag)
    client.delete_object(*bucket, "dump.sql", if_match=etag)
    client.delete_bucket(*bucket)
    client.base_client.session.close()


if __name__ == "__main__":
    main()
