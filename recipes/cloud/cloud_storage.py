# /// script
# requires-python = ">=3.11"
# dependencies = ["google-cloud-storage>=3.6", "google-crc32c>=1.7"]
# [tool.cookbook]
# needs = ["gcs"]
# ///
"""Store a file in Google Cloud Storage, and fetch it again.

Nothing is overwritten by accident, no half of a file is left, and a large one takes no
more memory. Use this for exports, backups and files to be loaded into a database.
"""

import os
import sys
from base64 import b64encode
from collections import deque
from pathlib import Path
from tempfile import TemporaryDirectory

from google.cloud.exceptions import PreconditionFailed
from google.cloud.storage import Bucket, Client
from google.cloud.storage.retry import DEFAULT_RETRY
from google_crc32c import Checksum

NO_SERVER = (
    "Set STORAGE_BUCKET; for an emulator also STORAGE_EMULATOR_HOST,"
    " for example http://127.0.0.1:14443"
    " after `docker compose up -d --wait gcs`"
)

# --8<-- [start:upload]
TIMEOUT = (5, 60)  # seconds to connect, and between two blocks of an answer
RETRY = DEFAULT_RETRY.with_timeout(120)
CHUNK = 8 << 20  # bytes that are in memory at a time; the default is 100 MiB


def upload(bucket: Bucket, name: str, path: Path, replaces: int = 0) -> int:
    """Store the file, and return the generation of the object that it is now.

    replaces: the generation that may be overwritten; 0 means that there is none.
    Raises FileExistsError if there is another object than that, NotFound (no bucket),
    Forbidden; RetryError or the last error when two minutes were not enough.
    """
    blob = bucket.blob(name, chunk_size=CHUNK)
    try:
        # The client retries in any case. Only the condition makes that safe.
        blob.upload_from_filename(
            path,
            if_generation_match=replaces,
            checksum="crc32c",
            timeout=TIMEOUT,
            retry=RETRY,
        )
    except PreconditionFailed as error:
        # It may be ours: stored, but the answer was lost and the request repeated.
        blob.reload(timeout=TIMEOUT, retry=RETRY)
        if blob.crc32c != crc32c(path) or blob.size != path.stat().st_size:
            raise FileExistsError(f"{name} is there already") from error
    return int(blob.generation)


# --8<-- [end:upload]


# --8<-- [start:download]
def download(bucket: Bucket, name: str, path: Path) -> int:
    """Fetch the object into path, and return its generation.

    What is at path is replaced when the file is whole, or stays as it is. Raises
    NotFound, Forbidden; RetryError or the last error when two minutes were not enough;
    OSError if what came is not what is stored.
    """
    blob = bucket.blob(name)  # without chunk_size: with it, no checksum is verified
    with TemporaryDirectory(dir=path.parent) as folder:
        partial = Path(folder, path.name)
        with partial.open("wb") as file:
            blob.download_to_file(file, raw_download=True, timeout=TIMEOUT, retry=RETRY)
        # The client does not verify a download that was interrupted and resumed.
        if crc32c(partial) != blob.crc32c:
            raise OSError(f"{name}: the checksum does not match")
        partial.replace(path)
    return int(blob.generation)


def crc32c(path: Path) -> str:
    """The checksum of a file, as the service writes it."""
    checksum = Checksum()
    with path.open("rb") as file:
        deque(checksum.consume(file, 1 << 20), maxlen=0)
    return b64encode(checksum.digest()).decode()


# --8<-- [end:download]


def main() -> None:
    name = os.environ.get("STORAGE_BUCKET") or sys.exit(NO_SERVER)
    # Application Default Credentials; none where STORAGE_EMULATOR_HOST is set.
    with Client() as client, TemporaryDirectory() as folder:
        bucket = client.bucket(name)
        export, copy = Path(folder, "export.csv"), Path(folder, "copy.csv")
        export.write_text("id,total\n1,30.10\n")
        first = upload(bucket, "orders/november.csv", export)
        download(bucket, "orders/november.csv", copy)
        print("the same:", copy.read_text() == export.read_text())

        export.write_text("id,total\n1,30.10\n2,9.90\n")
        try:
            upload(bucket, "orders/november.csv", export)
        except FileExistsError as error:
            print("refused:", error)
        second = upload(bucket, "orders/november.csv", export, replaces=first)
        print("replaced:", second != first)
        bucket.blob("orders/november.csv").delete(
            if_generation_match=second, timeout=TIMEOUT, retry=RETRY
        )


if __name__ == "__main__":
    main()
