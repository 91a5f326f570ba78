"""verify_tls: an impostor gets nothing."""

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import asyncpg
import psycopg
import pytest
import trustme
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from recipes.postgresql import verify_tls_asyncpg
from recipes.postgresql.verify_tls import connect_verified, is_encrypted

SSL_REQUEST, GSS_REQUEST = 80877103, 80877104
PASSWORD = "correct horse battery staple"


class Impostor:
    """Speaks PostgreSQL, asks for the password in clear text, lets everyone in."""

    def __init__(self, certificate: trustme.LeafCert | None) -> None:
        self.passwords: list[str] = []
        self._tls = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(self._tls)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def conninfo(self, **parts: str) -> str:
        """Its address, under the name of the server that it plays."""
        port = self._listener.getsockname()[1]
        there = f"host=db.example.com hostaddr=127.0.0.1 port={port} dbname=shop"
        return make_conninfo(there, user="cook", password=PASSWORD, **parts)

    def url(self) -> str:
        """Its address as asyncpg wants it, under the name of localhost."""
        port = self._listener.getsockname()[1]
        return f"postgresql://cook:{quote(PASSWORD)}@localhost:{port}/shop"

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            line.settimeout(5)
            with line, contextlib.suppress(OSError, EOFError):
                self._talk(line)

    def _talk(self, line: socket.socket) -> None:
        request = self._read_startup(line)
        if request == SSL_REQUEST and self._tls:
            line.sendall(b"S")
            with self._tls.wrap_socket(line, server_side=True) as encrypted:
                return self._talk(encrypted)
        if request in (SSL_REQUEST, GSS_REQUEST):
            line.sendall(b"N")
            return self._talk(line)
        line.sendall(b"R" + struct.pack("!ii", 8, 3))  # your password, in clear
        kind, length = struct.unpack("!ci", self._read(line, 5))
        assert kind == b"p"
        self.passwords.append(self._read(line, length - 4)[:-1].decode())
        line.sendall(b"R" + struct.pack("!ii", 8, 0))  # welcome
        line.sendall(b"Z" + struct.pack("!ic", 5, b"I"))
        return None

    def _read_startup(self, line: socket.socket) -> int:
        (length,) = struct.unpack("!i", self._read(line, 4))
        (code,) = struct.unpack("!i", self._read(line, length - 4)[:4])
        return code

    def _read(self, line: socket.socket, count: int) -> bytes:
        read = b""
        while len(read) < count:
            block = line.recv(count - len(read))
            if not block:
                raise EOFError
            read += block
        return read


@pytest.fixture
def play() -> Iterator:
    """Start an impostor; it is stopped after the test."""
    with contextlib.ExitStack() as stack:

        def start(certificate: trustme.LeafCert | None) -> Impostor:
            impostor = Impostor(certificate)
            stack.callback(impostor.close)
            return impostor

        yield start


@pytest.fixture
def ca() -> trustme.CA:
    """The authority that we trust."""
    return trustme.CA()


@pytest.fixture
def ca_file(ca: trustme.CA, tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(file))
    return file


def ca_of(url: str) -> Path:
    return Path(str(conninfo_to_dict(url)["sslrootcert"]))


def test_verified(postgresql_tls):
    """The server whose certificate is right is connected to, and encrypted."""
    with connect_verified(postgresql_tls, ca_of(postgresql_tls)) as conn:
        assert is_encrypted(conn)


def test_encryption_is_asked_of_the_server(postgresql_tls):
    """A connection without TLS is told from one with it."""
    plain = make_conninfo(postgresql_tls, sslmode="disable")
    with psycopg.connect(plain) as conn:
        assert not is_encrypted(conn)


def test_weak_url_is_overruled(postgresql_tls):
    """sslmode=disable in the URL changes nothing."""
    weak = make_conninfo(postgresql_tls, sslmode="disable")
    with connect_verified(weak, ca_of(postgresql_tls)) as conn:
        assert is_encrypted(conn)


def test_wrong_name(postgresql_tls):
    """The right signer under the wrong host name is refused; verify-ca lets it in."""
    other = make_conninfo(postgresql_tls, host="127.0.0.1")
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        connect_verified(other, ca_of(postgresql_tls))
    with psycopg.connect(other, sslmode="verify-ca") as conn:
        assert is_encrypted(conn)


def test_strange_signer(play, ca_file):
    """An impostor with the right name, signed by itself, never sees the password."""
    impostor = play(trustme.CA().issue_cert("db.example.com"))
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        connect_verified(impostor.conninfo(), ca_file)
    assert impostor.passwords == []


def test_certificate_of_someone_else(play, ca, ca_file):
    """An impostor with a valid certificate of another host never sees it either."""
    impostor = play(ca.issue_cert("attacker.example"))
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        connect_verified(impostor.conninfo(), ca_file)
    assert impostor.passwords == []


def test_no_tls(play, ca_file):
    """A server without TLS is refused before the password is sent."""
    impostor = play(None)
    with pytest.raises(psycopg.OperationalError, match="does not support SSL"):
        connect_verified(impostor.conninfo(), ca_file)
    assert impostor.passwords == []


def test_require_with_a_root_certificate(play, ca, ca_file):
    """Where it finds a root certificate, sslmode=require checks the signer, no name."""
    stranger = play(trustme.CA().issue_cert("db.example.com"))
    weak = {"sslmode": "require", "sslrootcert": str(ca_file)}
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        psycopg.connect(stranger.conninfo(**weak))
    other = play(ca.issue_cert("attacker.example"))
    psycopg.connect(other.conninfo(**weak)).close()
    assert (stranger.passwords, other.passwords) == ([], [PASSWORD])


def test_tunnel(play, ca, ca_file):
    """Through a tunnel: host names the server, hostaddr says where to connect."""
    server = play(ca.issue_cert("db.example.com"))  # listens on 127.0.0.1
    connect_verified(server.conninfo(), ca_file).close()
    assert server.passwords == [PASSWORD]


def test_channel_binding(play):
    """channel_binding=require keeps a password from whoever asks for it in clear."""
    impostor = play(trustme.CA().issue_cert("attacker.example"))
    conninfo = impostor.conninfo(sslmode="require", channel_binding="require")
    with pytest.raises(psycopg.OperationalError, match="channel binding"):
        psycopg.connect(conninfo)
    assert impostor.passwords == []


# The same, with asyncpg.


def connect_asyncpg(url: str, ca_file: Path) -> bool:
    """Return whether the connection is encrypted."""

    async def run() -> bool:
        conn = await verify_tls_asyncpg.connect_verified(url, ca_file)
        try:
            return await verify_tls_asyncpg.is_encrypted(conn)
        finally:
            await conn.close()

    return asyncio.run(run())


def test_asyncpg_verified(postgresql_tls):
    """asyncpg: the server whose certificate is right is connected to."""
    assert connect_asyncpg(postgresql_tls, ca_of(postgresql_tls))


def test_asyncpg_weak_url_is_overruled(postgresql_tls):
    """asyncpg: sslmode=disable in the URL changes nothing."""
    weak = postgresql_tls.replace("verify-full", "disable")
    assert connect_asyncpg(weak, ca_of(postgresql_tls))


def test_asyncpg_strange_signer(play, ca_file):
    """asyncpg: an impostor signed by itself never sees the password."""
    impostor = play(trustme.CA().issue_cert("localhost"))
    with pytest.raises(ssl.SSLCertVerificationError):
        connect_asyncpg(impostor.url(), ca_file)
    assert impostor.passwords == []


def test_asyncpg_certificate_of_someone_else(play, ca, ca_file):
    """asyncpg: an impostor with the certificate of another host never sees it."""
    impostor = play(ca.issue_cert("attacker.example"))
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        connect_asyncpg(impostor.url(), ca_file)
    assert impostor.passwords == []


def test_asyncpg_no_tls(play, ca_file):
    """asyncpg: a server without TLS is refused before the password is sent."""
    impostor = play(None)
    with pytest.raises(ConnectionError, match="rejected SSL"):
        connect_asyncpg(impostor.url(), ca_file)
    assert impostor.passwords == []


def test_often_copied_asyncpg(play):
    """Often copied: asyncpg with ssl="require" hands it to attacker.example too."""
    impostor = play(trustme.CA().issue_cert("attacker.example"))
    with contextlib.suppress(Exception):  # what the impostor says next is no protocol
        asyncio.run(asyncpg.connect(impostor.url(), ssl="require", timeout=1))
    assert impostor.passwords == [PASSWORD]


# --8<-- [start:wrong]
def connect_as_copied(conninfo):
    return psycopg.connect(conninfo, sslmode="require")


# --8<-- [end:wrong]


def test_often_copied_hands_the_password_to_an_impostor(play):
    """Often copied: with sslmode=require, the password goes to attacker.example."""
    impostor = play(trustme.CA().issue_cert("attacker.example"))
    connect_as_copied(impostor.conninfo()).close()
    assert impostor.passwords == [PASSWORD]


def test_often_copied_default(play):
    """Often copied: with no sslmode, a server without TLS gets it in clear text."""
    impostor = play(None)
    psycopg.connect(impostor.conninfo()).close()
    assert impostor.passwords == [PASSWORD]
