"""The stand-in for Secrets Manager: apart from the net, from AWS, and emptied."""

import pytest

from cookbook import servers
from cookbook.engines import engine
from cookbook.engines.aws import make_client
from cookbook.engines.base import new_name
from cookbook.errors import UnavailableError
from tests.cookbook.conftest import listening

ONE = engine("secretsmanager")


pytestmark = pytest.mark.usefixtures("alone")


def test_says_what_it_is_on_loopback_only(start):
    server = start()
    assert (server.product, server.stand_in_for) == ("MiniStack", "AWS Secrets Manager")
    assert listening() == ["127.0.0.1"]


def test_a_place_is_empty_its_own_and_removed(start):
    server = start()
    places = [ONE.create_place(server, new_name()) for _ in range(2)]
    client, other = (make_client(ONE, place) for place in places)
    for name in ("one", "two/deleted"):
        client.create_secret(Name=name, SecretString="hidden")
    client.delete_secret(SecretId="two/deleted", RecoveryWindowInDays=7)
    assert other.list_secrets()["SecretList"] == []
    ONE.drop_place(server, places[0])
    left = client.list_secrets(IncludePlannedDeletion=True)
    assert left["SecretList"] == []
    client.create_secret(Name="one", SecretString="again")  # the name is free
    ONE.drop_place(server, places[0])
    ONE.drop_place(server, places[1])


def test_address_and_variables(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    assert ONE.external() is None  # those are DynamoDB's and S3's
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:14567")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a/b+c@d:e")
    assert ONE.variables(ONE.external()) == {
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": "http://127.0.0.1:14567",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "a/b+c@d:e",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }


def test_a_ministack_without_it_is_refused(start, monkeypatch):
    endpoint = engine("s3").variables(start(name="s3").url)["AWS_ENDPOINT_URL_S3"]
    monkeypatch.setenv(ONE.env, endpoint)
    with pytest.raises(UnavailableError, match=f"{ONE.env} is set, but"):
        servers.choose(ONE)


def test_it_serves_from_outside(start, monkeypatch):
    given = ONE.variables(start().url)
    monkeypatch.setenv(ONE.env, given[ONE.env])
    assert servers.choose(ONE).provider == "external"
