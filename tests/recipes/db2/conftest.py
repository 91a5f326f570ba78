"""What the tests of this chapter share."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import ibm_db_dbi
import pytest
import trustme

from cookbook.engines.db2 import to_dsn
from tests.recipes.support.drda import Impostor


@pytest.fixture(scope="session", autouse=True)
def one_attempt() -> Iterator[None]:
    """The driver tries a refused connection three times, in 5 s. Once will do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DB2_MAX_CLIENT_CONNRETRIES", "0")
        yield


@pytest.fixture
def dsn(db2: str) -> str:
    """The connection string of an empty schema."""
    return to_dsn(db2)


@pytest.fixture
def conn(dsn: str) -> Iterator["ibm_db_dbi.Connection"]:
    """A connection to it; closed, and so rolled back, after the test."""
    with closing(ibm_db_dbi.connect(dsn, "", "")) as conn:
        yield conn


@pytest.fixture
def play() -> Iterator[Callable[..., Impostor]]:
    """Start an impostor; it is stopped after the test."""
    with ExitStack() as stack:

        def start(
            certificate: trustme.LeafCert | None = None, *, only_in_clear: bool = True
        ) -> Impostor:
            impostor = Impostor(certificate, only_in_clear=only_in_clear)
            stack.callback(impostor.close)
            return impostor

        yield start


@pytest.fixture(scope="session")
def ca() -> trustme.CA:
    """The authority that we trust."""
    return trustme.CA()


@pytest.fixture
def ca_file(ca: trustme.CA, tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(file))
    return file


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port on which nobody listens, kept so until the test is over."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
