"""MongoDB itself, as a replica set: for transactions, change streams and query plans.

The stand-in for MongoDB is not asked: it is no member of a set.
"""

from cookbook.engines.base import Program, on_path
from cookbook.engines.mongodb import MongoDB, _connect
from cookbook.errors import UnavailableError


class MongoDBReplicaSet(MongoDB):
    name = "mongodb_replica_set"
    title = "MongoDB"
    env = "MONGODB_REPLICA_SET_URI"
    example = "mongodb://127.0.0.1:27019/cookbook?directConnection=true"
    install = "install mongod (the stand-in has no replica set)"
    fetches = None
    only_in_container = True  # unless somebody installed mongod: no registry has it

    def native(self) -> Program | None:
        return on_path("mongod")

    def identify(self, url: str) -> tuple[str, str]:
        with _connect(url) as client:
            if "setName" not in client.admin.command("hello"):
                raise UnavailableError("that server is no member of a replica set")
        return super().identify(url)
