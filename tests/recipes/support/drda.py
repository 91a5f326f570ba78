"""A server that speaks the first words of Db2's protocol (DRDA), up to the login."""

import contextlib
import socket
import ssl
import struct
import threading
from dataclasses import dataclass
from typing import BinaryIO

import trustme

EXCSAT, ACCSEC, SECCHK = 0x1041, 0x106D, 0x106E  # who are you, how, and the login
MANAGERS, METHOD, USER, PASSWORD, DATABASE = 0x1404, 0x11A2, 0x11A0, 0x11A1, 0x2110
CHAINED = 0x40  # another message of the same request follows
IN_CLEAR = struct.pack("!H", 3)  # of the ways to send a password


@dataclass(frozen=True)
class Login:
    """What a client gave away; user and password are None where it encrypted them."""

    database: str
    user: str | None
    password: str | None


class Impostor:
    """Lets the client log in, notes how, and says that the password is wrong."""

    def __init__(
        self, certificate: trustme.LeafCert | None = None, *, only_in_clear: bool = True
    ) -> None:
        """TLS with the certificate, if there is one. only_in_clear: take no encrypted
        password, which a client then sends in clear text."""
        self.logins: list[Login] = []
        self.connections = 0
        self._only_in_clear = only_in_clear
        self._tls = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(self._tls)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

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
            self.connections += 1
            line.settimeout(5)
            with contextlib.suppress(OSError, EOFError), line:
                if self._tls:
                    line = self._tls.wrap_socket(line, server_side=True)
                with line, line.makefile("rb") as stream:
                    self._talk(line, stream)

    def _talk(self, line: socket.socket, stream: BinaryIO) -> None:
        answers = b""
        while True:
            length, magic, flags, number = struct.unpack("!HBBH", _read(stream, 6))
            if magic != 0xD0:  # TLS, say
                return
            ((code, content),) = _objects(_read(stream, length - 6))[:1]
            answer = self._answer(code, dict(_objects(content)))
            if not answer:
                continue
            last = code == SECCHK or not flags & CHAINED
            kind = 0x02 if last else 0x02 | CHAINED
            answers += struct.pack("!HBBH", len(answer) + 6, 0xD0, kind, number)
            answers += answer
            if last:
                line.sendall(answers)
                answers = b""

    def _answer(self, code: int, given: dict[int, bytes]) -> bytes:
        if code == EXCSAT:
            product, release = "QDB2/LINUXX8664", "SQL12014"
            return _object(
                0x1443,
                _object(0x115E, "cook".encode("cp500")),
                _object(MANAGERS, given[MANAGERS]),
                _object(0x1147, product.encode("cp500")),
                _object(0x116D, "cook".encode("cp500")),
                _object(0x115A, release.encode("cp500")),
            )
        if code == ACCSEC:
            method = IN_CLEAR if self._only_in_clear else given[METHOD]
            return _object(0x14AC, _object(METHOD, method))
        if code == SECCHK:
            texts = [given.get(key) for key in (DATABASE, USER, PASSWORD)]
            database, user, password = (text and text.decode() for text in texts)
            self.logins.append(Login((database or "").rstrip(), user, password))
            return _object(0x1219, _object(0x1149, b"\0\x08"), _object(0x11A4, b"\x0f"))
        return b""


def _object(code: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack("!HH", len(content) + 4, code) + content


def _objects(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while len(data) >= 4:
        length, code = struct.unpack("!HH", data[:4])
        if length < 4:  # the rest is no object
            break
        found.append((code, data[4:length]))
        data = data[length:]
    return found


def _read(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data
