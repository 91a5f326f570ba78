"""What the tests of the chapter share.

A test that asks for `oracle` or `conn` needs a server. The others need none: they talk
to the driver, to a port that is closed, or to a listener without a database.
"""

import socket
from collections.abc import Callable, Iterator

import oracledb
import pytest

from tests.recipes.support.tns_listener import TnsListener

# Or a first connection that hangs would hold up every other one of this process.
oracledb.enable_thin_mode()


@pytest.fixture
def conn(oracle: str) -> Iterator[oracledb.Connection]:
    """A connection to an empty schema."""
    with oracledb.connect(oracle, tcp_connect_timeout=5) as conn:
        conn.call_timeout = 30_000
        yield conn


@pytest.fixture
def listener() -> Iterator[Callable[..., TnsListener]]:
    """Make a listener without a database; closed after the test."""
    made: list[TnsListener] = []

    def make(**options) -> TnsListener:
        made.append(TnsListener(**options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def closed_port() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    return f"cook/cook@127.0.0.1:{port}/FREEPDB1"


@pytest.fixture
def through(fault_proxy):
    """A fault proxy in front of the address of a server, and the address through it."""

    def make(dsn: str):
        credentials, _, address = dsn.rpartition("@")
        proxy = fault_proxy(f"oracle://{address}")
        return (
            proxy,
            f"{credentials}@{proxy.host}:{proxy.port}/{address.partition('/')[2]}",
        )

    return make
