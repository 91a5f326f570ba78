"""What the tests of the chapter share."""

import pytest
from pymongo import MongoClient


@pytest.fixture
def client(mongodb):
    """A client of the empty database, as the recipes get one."""
    with MongoClient(mongodb, tz_aware=True, timeoutMS=10_000) as client:
        yield client


@pytest.fixture
def db(client):
    return client.get_default_database()


@pytest.fixture
def set_client(mongodb_replica_set):
    """The same in a replica set."""
    with MongoClient(mongodb_replica_set, tz_aware=True, timeoutMS=10_000) as client:
        yield client


@pytest.fixture
def set_db(set_client):
    return set_client.get_default_database()
