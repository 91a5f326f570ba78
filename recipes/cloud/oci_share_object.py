# /// script
# requires-python = ">=3.11"
# dependencies = ["oci>=2.160"]
#
# [tool.cookbook]
# needs = ["oracle_cloud"]
# ///
"""Share one object of Oracle's Object Storage for a while.

A pre-authenticated request is an address with a password in it: whoever has it may
read, without an account. Make it for one object and for an hour at most, show it to
nobody else, and take it back when it was used.
"""

import os
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import oci
from oci.object_storage import models


# --8<-- [start:share]
@dataclass(frozen=True)
class Link:
    """An address to read one object with. Its repr leaves the address out."""

    id: str
    until: datetime
    url: str = field(repr=False)


def share(client: Any, bucket: tuple[str, str], name: str, lifetime: timedelta) -> Link:
    """Let whoever has the link read the object. bucket is its namespace and its name.

    Raises ValueError (a lifetime over an hour, or none), ServiceError (404: no such
    object or bucket), RequestException.
    """
    if not timedelta() < lifetime <= timedelta(hours=1):
        raise ValueError(f"up to an hour, not {lifetime}")
    client.head_object(*bucket, name)  # a misspelt name is an error here and now
    asked = models.CreatePreauthenticatedRequestDetails(
        name=f"cookbook-{uuid4()}",  # listed for all who may look into the bucket
        access_type="ObjectRead",
        object_name=name,
        time_expires=datetime.now(UTC) + lifetime,
    )
    made = client.create_preauthenticated_request(*bucket, asked).data
    return Link(made.id, made.time_expires, made.full_path)


def take_back(client: Any, bucket: tuple[str, str], link: Link) -> None:
    """From now on nobody reads with the link. Raises ServiceError, RequestException."""
    client.delete_preauthenticated_request(*bucket, link.id)


# --8<-- [end:share]

NO_SERVER = "Set OCI_CONFIG_FILE (~/.oci/config), and for a stand-in OCI_ENDPOINT"


def main() -> None:
    file = os.environ.get("OCI_CONFIG_FILE") or sys.exit(NO_SERVER)
    config = oci.config.from_file(file)
    client = oci.object_storage.ObjectStorageClient(
        config, service_endpoint=os.environ.get("OCI_ENDPOINT"), timeout=(5, 60)
    )
    bucket = (client.get_namespace().data, f"cookbook-{uuid4()}")
    about = {"name": bucket[1], "compartment_id": config["tenancy"]}
    client.create_bucket(bucket[0], models.CreateBucketDetails(**about))
    client.put_object(*bucket, "report.csv", b"id\n42\n")
    link = share(client, bucket, "report.csv", timedelta(minutes=10))
    print("shows its address:", link.url in repr(link))
    take_back(client, bucket, link)
    client.delete_object(*bucket, "report.csv")
    client.delete_bucket(*bucket)
    client.base_client.session.close()


if __name__ == "__main__":
    main()
