# /// script
# requires-python = ">=3.11"
# dependencies = ["azure-core>=1.35", "azure-storage-blob>=12.31"]
#
# [tool.cookbook]
# needs = ["azurite"]
# ///
"""Keep files in Azure Blob Storage.

Two writers must not overwrite each other, and a reader must not get half a file. Files
of any size pass through a few megabytes of memory, and arrive with the right checksum.
"""

import hashlib
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from azure.core import MatchConditions
from azure.core.credentials import AzureNamedKeyCredential, TokenCredential
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError
from azure.storage.blob import ContainerClient, ContentSettings, ExponentialRetry

# --8<-- [start:client]
Credential = TokenCredential | AzureNamedKeyCredential
BLOCK = 4 * 1024 * 1024  # bytes in memory; a blob has at most 50,000 blocks


def open_container(
    url: str, name: str, credential: Credential, **more: Any
) -> ContainerClient:
    """A client for one container. credential: in Azure one of azure-identity's."""
    sizes = ("single_put", "block", "single_get", "chunk_get")
    options = {
        **{f"max_{what}_size": BLOCK for what in sizes},  # or up to 64 MB in memory
        **{"connection_timeout": 5, "read_timeout": 30},  # seconds
        "retry_policy": ExponentialRetry(1, 2, retry_total=3, random_jitter_range=1),
    }
    return ContainerClient(url, name, credential, **{**options, **more})


# --8<-- [end:client]


# --8<-- [start:upload]
def upload(
    container: ContainerClient, name: str, path: Path, replaces: str | None = None
) -> str:
    """Upload a file and return the blob's ETag.

    replaces: the ETag of the blob that it replaces; None: there must be none yet.
    Raises ResourceExistsError, ResourceModifiedError when somebody was faster.
    """
    blob = container.get_blob_client(name)
    is_same = {"etag": replaces, "match_condition": MatchConditions.IfNotModified}
    condition: dict[str, Any] = is_same if replaces else {}
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
        size = file.tell()
        file.seek(0)
        try:
            done = blob.upload_blob(
                file,
                length=size,
                validate_content="md5",  # of each block, checked by the server
                content_settings=ContentSettings(content_md5=bytearray(md5.digest())),
                overwrite=replaces is not None,
                **condition,
            )
        except (ResourceExistsError, ResourceModifiedError):
            # Perhaps by ourselves: the answer was lost, and the client sent it again.
            now = blob.get_blob_properties()
            if bytes(now.content_settings.content_md5 or b"") != md5.digest():
                raise
            return str(now.etag)
    return str(done["etag"])


# --8<-- [end:upload]


# --8<-- [start:download]
def download(container: ContainerClient, name: str, path: Path) -> str:
    """Download a blob to a file and return its ETag.

    The file is replaced when all of it is there and right. Raises ResourceModifiedError
    (changed meanwhile), ResourceNotFoundError, ValueError (wrong checksum, or none).
    """
    part = path.with_name(f".{path.name}.{uuid4().hex}")
    md5 = hashlib.md5(usedforsecurity=False)
    try:
        stream = container.download_blob(name)
        with part.open("wb") as file:
            for chunk in stream.chunks():
                md5.update(chunk)
                file.write(chunk)
        if bytes(stream.properties.content_settings.content_md5 or b"") != md5.digest():
            raise ValueError(f"{name} is not what its checksum says")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return str(stream.properties.etag)


# --8<-- [end:download]

NO_SERVER = (
    "Set AZURE_STORAGE_BLOB_ENDPOINT, AZURE_STORAGE_ACCOUNT, AZURE_STORAGE_KEY"
    " and AZURE_STORAGE_CONTAINER, for example to what .env.example says"
    " after `docker compose up -d --wait azurite`"
)


def main() -> None:
    given = ("BLOB_ENDPOINT", "CONTAINER", "ACCOUNT", "KEY")
    values = [os.environ.get(f"AZURE_STORAGE_{name}") for name in given]
    url, name, account, key = [value or sys.exit(NO_SERVER) for value in values]
    credential = AzureNamedKeyCredential(account, key)  # in Azure: an identity
    with open_container(url, name, credential) as box, TemporaryDirectory() as folder:
        box.create_container()
        path = Path(folder, "orders.csv")
        path.write_text("1,anna\n")
        first = upload(box, "orders.csv", path)
        path.write_text("1,anna\n2,ben\n")
        upload(box, "orders.csv", path, replaces=first)
        path.write_text("1,anna\n3,cleo\n")
        try:
            upload(box, "orders.csv", path, replaces=first)
        except ResourceModifiedError as error:
            print("refused:", error.status_code, error.reason)
        download(box, "orders.csv", path)
        print(path.read_text(), end="")
        box.delete_container()


if __name__ == "__main__":
    main()
