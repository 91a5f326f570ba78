"""Servers whose commits wait for the disk, as in production.

Those that the tests use throw their data away, and would make the loop with a commit
for each row look far better than it is.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cookbook import places
from cookbook.engines import ENGINES
from cookbook.engines.base import Program, Server
from cookbook.engines.mysql import MySQL
from cookbook.engines.postgresql import PostgreSQL
from cookbook.errors import UnavailableError
from cookbook.servers import Servers

_UNSAFE = ("--innodb-flush-log-at-trx-commit", "--sync-binlog", "--innodb-doublewrite")


class DurablePostgreSQL(PostgreSQL):
    name = "durable_postgresql"

    def settings(self, folder: Path) -> dict[str, str]:
        unsafe = ("fsync", "synchronous_commit", "full_page_writes")
        settings = super().settings(folder).items()
        return {name: value for name, value in settings if name not in unsafe}


class DurableMySQL(MySQL):
    name = "durable_mysql"

    def command(self, program: Program, folder: Path, port: int) -> list[str]:
        command = super().command(program, folder, port)
        return [option for option in command if not option.startswith(_UNSAFE)]


ENGINES |= {one.name: one for one in (DurablePostgreSQL(), DurableMySQL())}


@contextmanager
def place(name: str) -> Iterator[tuple[Server, str]]:
    """Start the engine; give the server and the address of an empty place in it.

    Raises UnavailableError.
    """
    os.environ["TMPDIR"] = tempfile.gettempdir()  # on the disk, not in memory
    servers = Servers()
    servers.start([name])
    try:
        if reason := servers.missing.get(name):
            raise UnavailableError(reason)
        server = servers.running[name]
        with places.place(name, server) as address:
            yield server, address
    finally:
        servers.stop()
