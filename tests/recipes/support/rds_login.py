"""The login of Amazon RDS, in front of a PostgreSQL: TLS, and a token for a password.

The token is checked by MiniStack's code for it: signature, host, port, user, region and
age. Behind the login it is a line to the real server.
"""

import contextlib
import os
import socket
import ssl
import struct
import threading
from collections.abc import Mapping
from unittest import mock

from psycopg import pq

REGION = "eu-central-1"
KEY = "123456789012"  # MiniStack: an account's number is its root's key
SECRET = "wJalr/not+a+real+key"
TOLD = (
    *("server_version", "server_encoding", "client_encoding", "DateStyle", "TimeZone"),
    *("integer_datetimes", "standard_conforming_strings", "IntervalStyle"),
)


class RDSLogin:
    """Listens on `port` of `localhost`. `tokens` are the passwords that were sent."""

    def __init__(self, upstream: Mapping[str, str], tls: ssl.SSLContext) -> None:
        """upstream: libpq's names and values of the real server, with a password."""
        self._upstream, self._tls = upstream, tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.tokens: list[str] = []
        self.refused: list[str] = []  # reasons
        self.without_tls = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        self.cut()
        for thread in self._threads:
            thread.join()

    def cut(self) -> None:
        """Cut every line."""
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), client:
            if _take(client)[:4] != struct.pack("!I", 80877103):  # SSLRequest
                self.without_tls += 1
                return
            client.sendall(b"S")
            with self._tls.wrap_socket(client, server_side=True) as line:
                with self._lock:
                    self._open.add(line)
                try:
                    self._log_in(line)
                finally:
                    with self._lock:
                        self._open.discard(line)

    def _log_in(self, line: ssl.SSLSocket) -> None:
        words = _take(line)[4:].decode().split("\0")
        asked = dict(zip(words[::2], words[1::2], strict=False))
        line.sendall(_message(b"R", struct.pack("!I", 3)))  # a password in clear text
        kind = _exactly(line, 1)
        assert kind == b"p", kind
        token = _take(line).rstrip(b"\0").decode()
        self.tokens.append(token)
        if reason := self._check(token, asked["user"]):
            self.refused.append(reason)
            said = f'PAM authentication failed for user "{asked["user"]}"'
            fields = f"SFATAL\0VFATAL\0C28P01\0M{said}\0\0".encode()
            line.sendall(_message(b"E", fields))
            return
        given = {**self._upstream, "user": asked["user"], "sslmode": "disable"}
        given["options"] = asked.get("options", "")
        words = [f"{name}='{value}'" for name, value in given.items()]
        conn = pq.PGconn.connect(" ".join(words).encode())
        try:
            assert conn.status == pq.ConnStatus.OK, conn.get_error_message()
            line.sendall(_message(b"R", struct.pack("!I", 0)))
            for name in TOLD:
                value = conn.parameter_status(name.encode()) or b""
                line.sendall(_message(b"S", name.encode() + b"\0" + value + b"\0"))
            line.sendall(_message(b"K", struct.pack("!II", conn.backend_pid, 0)))
            line.sendall(_message(b"Z", b"I"))
            with socket.socket(fileno=os.dup(conn.socket)) as server:
                server.setblocking(True)
                _relay(line, server)
        finally:
            conn.finish()

    def _check(self, token: str, user: str) -> str | None:
        """Why the token is refused."""
        from ministack.core.rds_iam import RdsIamTokenError, verify_rds_iam_token

        target = {"hostname": "localhost", "port": self.port, "region": REGION}
        with self._lock, mock.patch.dict(os.environ, AWS_SECRET_ACCESS_KEY=SECRET):
            found = verify_rds_iam_token(token, db_user=user, account_id=KEY, **target)
        return found.code if isinstance(found, RdsIamTokenError) else None


def _relay(client: ssl.SSLSocket, server: socket.socket) -> None:
    def answers() -> None:
        with contextlib.suppress(OSError):
            while block := server.recv(65536):
                client.sendall(block)
        for one in (client, server):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=answers)
    thread.start()
    try:
        while block := client.recv(65536):
            server.sendall(block)
    finally:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        thread.join()


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def _take(line: socket.socket) -> bytes:
    (length,) = struct.unpack("!I", _exactly(line, 4))
    return _exactly(line, length - 4)


def _exactly(line: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        block = line.recv(count - len(found))
        if not block:
            raise EOFError
        found += block
    return found
