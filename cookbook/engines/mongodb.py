"""MongoDB, or mongoeco as its stand-in. A place is a database."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from cookbook import fetch as fetching
from cookbook.engines import process
from cookbook.engines.base import Engine, Program, Server, Starter, on_path, with_path
from cookbook.errors import UnavailableError
from cookbook.paths import lock_of

if TYPE_CHECKING:  # drivers are imported late: not every extra is installed
    from pymongo import MongoClient

_LOCK = lock_of("mongoeco")
# mongoeco has no program of its own. It answers `getCmdLineOpts` with sys.argv.
_SERVER = """\
import asyncio, importlib.metadata, pathlib, sys
from mongoeco.engines import MemoryEngine
from mongoeco.wire import AsyncMongoEcoProxyServer
from mongoeco.wire.auth import WireAuthUser

async def main(port, secret):
    user = WireAuthUser("cook", pathlib.Path(secret).read_text())
    async with AsyncMongoEcoProxyServer(
        engine=MemoryEngine(), port=int(port), mongodb_dialect="8.0", auth_users=(user,)
    ):
        await asyncio.Event().wait()

arguments = sys.argv[1:]
sys.argv = ["mongoeco " + importlib.metadata.version("mongoeco")]
asyncio.run(main(*arguments))
"""


class MongoDB(Engine):
    name = "mongodb"
    title = "MongoDB"
    env = "MONGODB_URI"
    example = "mongodb://127.0.0.1:27018/cookbook?directConnection=true"
    port = 27017
    install = "install mongod"
    fetches: ClassVar[str | None] = (
        "mongoeco, a stand-in in Python 3.13, from PyPI (0.15 GB)"
    )

    starter = Starter(
        body="""\
with MongoClient(address, timeoutMS=5000) as client:
    numbers = client.get_default_database()["numbers"]
    numbers.insert_many([{"n": 20}, {"n": 22}])
    return sum(row["n"] for row in numbers.find())""",
        driver="from pymongo import MongoClient",
        dependency="pymongo>=4.15",
    )

    def native(self) -> Program | None:
        return on_path("mongod") or self._stand_in()

    def _stand_in(self) -> Program | None:
        found = [*self.fetched.glob("lib/python*/site-packages/mongoeco-*.dist-info")]
        if not found:
            return None
        version = re.sub(r"(.*)-(.*)\.dist-info", r"\1 \2", found[0].name)
        # Python itself may lie in the home directory of root.
        return Program(self.fetched / "bin" / "python", version, as_ourselves=True)

    @property
    def is_fetched(self) -> bool:
        return fetching.is_synced(self.fetched, _LOCK)

    def fetch(self, folder: Path) -> None:
        fetching.sync(folder, _LOCK, python=">=3.13")

    def prepare(self, program: Program, folder: Path, password: str) -> None:
        if program.path.name == "python":  # mongod would need a key file for its set
            process.secret_file(folder / "password", password)

    def command(self, program: Program, folder: Path, port: int) -> list[str]:
        if program.path.name == "python":
            server = [str(program.path), "-I", "-c", _SERVER]
            return [*server, str(port), str(folder / "password")]
        return [
            *(str(program.path), "--dbpath", str(folder / "data"), "--nounixsocket"),
            *("--bind_ip", "127.0.0.1", "--port", str(port), "--replSet", "rs0"),
        ]

    def url(self, folder: Path, port: int, password: str) -> str:
        if not (folder / "password").exists():
            return self.container_url(folder, port)
        login = "authSource=admin&authMechanism=SCRAM-SHA-256"  # it has no other
        address = f"mongodb://cook:{password}@127.0.0.1:{port}/"
        return f"{address}?directConnection=true&{login}"

    def container_url(self, folder: Path, port: int) -> str:
        return f"mongodb://127.0.0.1:{port}/?directConnection=true"

    def settle(self, url: str) -> None:
        """Make a set of one node: transactions and change streams need a set."""
        with _connect(url) as client:
            hello = client.admin.command("hello")
            if hello.get("isreplicaset"):  # a member to be, of a set without a name
                member = {"_id": 0, "host": urlsplit(url).netloc}
                wanted = {"_id": "rs0", "members": [member]}
                client.admin.command("replSetInitiate", wanted)
            if not hello["isWritablePrimary"]:
                raise UnavailableError("the replica set has no primary yet")

    def identify(self, url: str) -> tuple[str, str]:
        with _connect(url) as client:
            info = client.admin.command("buildInfo")
            if info["gitVersion"] != "mongoeco":
                return "MongoDB", info["version"]
            said = client.admin.command("getCmdLineOpts")["argv"][0]
            return "mongoeco", said.removeprefix("mongoeco ")

    def create_place(self, server: Server, name: str) -> str:
        """A database begins with its first document. The client is named after it."""
        parts = urlsplit(with_path(server.url, name))
        query = {"authSource": "admin", **dict(parse_qsl(parts.query)), "appName": name}
        if not parts.username:
            del query["authSource"]
        return urlunsplit(parts._replace(query=urlencode(query)))

    def drop_place(self, server: Server, url: str) -> None:
        name = urlsplit(url).path[1:]
        with _connect(server.url) as client:
            if server.product == self.title:
                _end_transactions(client, name)  # the deletion would wait for them
            client.drop_database(name)


def _end_transactions(client: "MongoClient[dict[str, Any]]", name: str) -> None:
    idle = {"$currentOp": {"allUsers": True, "idleSessions": True}}
    open_ones = {"$match": {"appName": name, "transaction": {"$exists": True}}}
    for found in client.admin.aggregate([idle, open_ones]):
        client.admin.command("killSessions", [{"id": found["lsid"]["id"]}])


def _connect(url: str) -> "MongoClient[dict[str, Any]]":
    from pymongo import MongoClient

    return MongoClient(url, timeoutMS=30_000, serverSelectionTimeoutMS=5000)
