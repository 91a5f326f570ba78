"""oci_share_object: the SDK, and a stand-in that asks for its signatures."""

import logging
import traceback
from datetime import UTC, datetime, timedelta
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import oci
import pytest
from oci.exceptions import ServiceError
from oci.object_storage import models

from cookbook.engines import engine
from cookbook.engines.in_process import behind
from recipes.cloud.oci_share_object import share, take_back

MINUTE = timedelta(minutes=1)


@pytest.fixture
def stand_in(oracle_cloud):
    return behind(oracle_cloud)


@pytest.fixture
def config(oracle_cloud):
    file = engine("oracle_cloud").variables(oracle_cloud)["OCI_CONFIG_FILE"]
    return oci.config.from_file(file)


@pytest.fixture
def client(config, stand_in):
    made = oci.object_storage.ObjectStorageClient(config, service_endpoint=stand_in.url)
    yield made
    made.base_client.session.close()


@pytest.fixture
def bucket(client, stand_in, config):
    bucket = stand_in.namespace, "reports"
    about = {"name": "reports", "compartment_id": config["tenancy"]}
    client.create_bucket(bucket[0], models.CreateBucketDetails(**about))
    client.put_object(*bucket, "a report.csv", b"id\n42\n")
    client.put_object(*bucket, "other.csv", b"secret")
    return bucket


def status(url, body=None):
    try:
        request = Request(url, body, method="PUT" if body else "GET")
        with urlopen(request, timeout=20) as answer:
            return answer.status
    except HTTPError as error:
        with error:
            return error.code


def test_whoever_has_it_may_read(client, bucket):
    """The address alone is enough to read the object, without a signature."""
    link = share(client, bucket, "a report.csv", MINUTE)
    with urlopen(link.url, timeout=20) as answer:
        assert answer.read() == b"id\n42\n"


def test_that_object_only(client, bucket):
    """Another object is not read with it, and nothing is written."""
    link = share(client, bucket, "a report.csv", MINUTE)
    start = link.url.rpartition("/")[0]
    assert status(f"{start}/other.csv") == 404
    assert status(link.url, b"x") == 404


def test_its_end(client, bucket, stand_in):
    """It ends after its lifetime, an aware datetime."""
    before = datetime.now(UTC)
    link = share(client, bucket, "a report.csv", MINUTE)
    assert before + MINUTE <= link.until + timedelta(seconds=1)
    assert link.until <= datetime.now(UTC) + MINUTE
    (one,) = stand_in.buckets["reports"].shared.values()
    one["until"] = before.isoformat()  # as if the minute were over
    assert status(link.url) == 404


def test_taken_back(client, bucket):
    """After it was taken back, nobody reads with it."""
    link = share(client, bucket, "a report.csv", MINUTE)
    take_back(client, bucket, link)
    assert status(link.url) == 404
    with pytest.raises(ServiceError):
        take_back(client, bucket, link)


@pytest.mark.parametrize("hours", [-1, 0, 1.01, 24])
def test_lifetime(client, bucket, stand_in, hours):
    """More than an hour, or none: ValueError, and nothing is shared."""
    with pytest.raises(ValueError, match="an hour"):
        share(client, bucket, "a report.csv", timedelta(hours=hours))
    assert stand_in.buckets["reports"].shared == {}


def test_no_such_object(client, bucket, stand_in):
    """An object that is not there: ServiceError 404, and nothing is shared, which who
    uploads it later would not know of."""
    with pytest.raises(ServiceError) as caught:
        share(client, bucket, "none", MINUTE)
    assert caught.value.status == 404
    assert stand_in.buckets["reports"].shared == {}


def test_address_is_not_shown(client, bucket, caplog, capsys):
    """The address is in no log, error or object that is shown."""
    caplog.set_level(logging.DEBUG)
    link = share(client, bucket, "a report.csv", MINUTE)
    take_back(client, bucket, link)
    logging.getLogger(__name__).info("shared: %s", link)
    with pytest.raises(ServiceError) as caught:
        take_back(client, bucket, link)
    shown = traceback.format_exception(caught.value)
    out = "".join((*shown, repr([link]), caplog.text, *capsys.readouterr()))
    assert link.id in out
    password = link.url.partition("/p/")[2].partition("/")[0]
    assert len(password) > 20
    assert password not in out


# --8<-- [start:wrong]
def share_as_copied(client, namespace, bucket, name, days):
    details = models.CreatePreauthenticatedRequestDetails(
        name=name,
        access_type="AnyObjectReadWrite",
        time_expires=datetime.now(UTC) + timedelta(days=days),
    )
    made = client.create_preauthenticated_request(namespace, bucket, details).data
    logging.info("shared: %s", made)
    return made.full_path + name


# --8<-- [end:wrong]


def test_often_copied_shares_the_bucket(client, bucket):
    """Often copied: the address of one report opens every object of the bucket, and
    writes over it."""
    url = share_as_copied(client, *bucket, "other.csv", 365)
    assert status(url) == 200
    another = url.replace("other.csv", "a%20report.csv")
    assert status(another) == 200
    assert status(another, b"x") == 200
    assert client.get_object(*bucket, "a report.csv").data.content == b"x"


def test_often_copied_logs_the_address(client, bucket, caplog):
    """Often copied: what the SDK returns shows the address when it is logged."""
    caplog.set_level(logging.INFO)
    url = share_as_copied(client, *bucket, "other.csv", 365)
    assert url.partition("/p/")[2].partition("/")[0] in caplog.text
