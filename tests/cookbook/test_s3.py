"""The stand-in for S3: apart from the net, from AWS, and emptied after each test."""

import pytest

from cookbook import servers
from cookbook.engines import engine
from cookbook.engines.aws import make_client
from cookbook.engines.base import new_name
from cookbook.errors import UnavailableError
from tests.cookbook.conftest import listening

ONE = engine("s3")


pytestmark = pytest.mark.usefixtures("alone")


def test_says_what_it_is_on_loopback_only(start):
    server = start()
    assert (server.product, server.stand_in_for) == ("MiniStack", "Amazon S3")
    assert listening() == ["127.0.0.1"]


def test_a_place_is_empty_its_own_and_removed(start):
    server = start()
    places = [ONE.create_place(server, new_name()) for _ in range(2)]
    client, other = (make_client(ONE, place) for place in places)
    where = {"LocationConstraint": "eu-central-1"}
    for bucket in ("one", "two"):
        bucket = f"{bucket}-bucket"
        client.create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
        client.create_multipart_upload(Bucket=bucket, Key="half")
        client.put_object(Bucket=bucket, Key="a/b c", Body=b"1")
    versioned = {"Bucket": "one-bucket", "Key": "a/b c"}
    client.put_bucket_versioning(
        Bucket="one-bucket", VersioningConfiguration={"Status": "Enabled"}
    )
    client.put_object(**versioned, Body=b"2")
    client.delete_object(**versioned)
    assert other.list_buckets()["Buckets"] == []
    ONE.drop_place(server, places[0])
    assert client.list_buckets()["Buckets"] == []
    other.create_bucket(Bucket="one-bucket", CreateBucketConfiguration=where)
    assert "Uploads" not in other.list_multipart_uploads(Bucket="one-bucket")
    ONE.drop_place(server, places[1])


def test_address_and_variables(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    assert ONE.external() is None  # that is DynamoDB's
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:14566")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a/b+c@d:e")
    assert ONE.variables(ONE.external()) == {
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:14566",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "a/b+c@d:e",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }


def test_a_ministack_without_s3_is_refused(start, monkeypatch):
    given = ONE.variables(start(name="dynamodb").url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", given["AWS_ENDPOINT_URL_S3"])
    with pytest.raises(UnavailableError, match="AWS_ENDPOINT_URL_S3 is set, but"):
        servers.choose(ONE)


def test_it_serves_from_outside(start, monkeypatch):
    given = ONE.variables(start().url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", given["AWS_ENDPOINT_URL_S3"])
    assert servers.choose(ONE).provider == "external"
