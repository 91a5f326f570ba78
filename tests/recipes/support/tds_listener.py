"""A listener that speaks TDS: it takes a login, and answers what a test tells it to.

It is no SQL Server and runs no SQL. With it a test sees what a driver sends, to whom,
and what the driver makes of an answer: errors, TLS, timeouts, retries.
"""

import contextlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Sequence

PRELOGIN, ANSWER, BATCH, RPC, TRANSACTION, ATTENTION = 0x12, 0x04, 1, 3, 0x0E, 6
TLS_OFF, TLS_ON, NO_TLS = 0, 1, 2
DONE, DONE_IN_PROC, DONE_PROC = 0xFD, 0xFF, 0xFE
FED_AUTH = 2
Answer = bytes | Iterable[bytes] | None
COLLATION = b"\x09\x04\xd0\x00\x34"


def done(token: int = DONE, status: int = 0, rows: int = 0) -> bytes:
    return struct.pack("<BHHQ", token, status | (0x10 if rows else 0), 0, rows)


def error(number: int, text: str, level: int = 16) -> bytes:
    """An error, as the server sends it, and the end of the answer."""
    body = struct.pack("<iBB", number, 1, level) + _text(text, "<H")
    body += _text("listener", "<B") + _text("", "<B") + struct.pack("<i", 1)
    return b"\xaa" + struct.pack("<H", len(body)) + body + done(status=2)


def rolled_back() -> bytes:
    """The server has ended the transaction by itself."""
    return _changed(10, b"\0" + b"\x08" + b"transact")


def message(number: int, text: str) -> bytes:
    """A message that is no error, such as the output of PRINT."""
    body = struct.pack("<iBB", number, 1, 0) + _text(text, "<H")
    body += _text("listener", "<B") + _text("", "<B") + struct.pack("<i", 1)
    return b"\xab" + struct.pack("<H", len(body)) + body


def result(names: Sequence[str], *rows: Sequence[int | str | None]) -> bytes:
    """Rows of numbers and texts, and the end of the answer."""
    return head(names, *rows) + done(rows=len(rows))


def head(names: Sequence[str], *rows: Sequence[int | str | None]) -> bytes:
    """The same, and more is to come. A column is as its first value: a text, or not."""
    is_text = [isinstance(value, str) for value in rows[0]]
    columns = b"".join(
        struct.pack("<IH", 0, 9)
        + (b"\xe7\x40\x1f" + COLLATION if text else b"\x26\x08")
        + _text(name, "<B")
        for name, text in zip(names, is_text, strict=True)
    )
    start = b"\x81" + struct.pack("<H", len(names)) + columns
    return start + b"".join(row(values, is_text) for values in rows)


def row(values: Sequence[int | str | None], is_text: Sequence[bool]) -> bytes:
    data = b"\xd1"
    for value, text in zip(values, is_text, strict=True):
        if value is None:
            data += b"\xff\xff" if text else b"\0"
        elif isinstance(value, str):
            raw = value.encode("utf-16-le")
            data += struct.pack("<H", len(raw)) + raw
        else:
            data += struct.pack("<Bq", 8, value)
    return data


class TdsListener:
    """Listens on a free port; each connection has a thread of its own.

    `answer` is called with the text of each statement, and gives the bytes to answer
    with; None is an answer without rows, no bytes are silence, and blocks of bytes are
    sent one after the other. `requests` are the texts so far, BEGIN and COMMIT
    included, `calls` the same as bytes, where parameters were sent along; `logins` are
    what clients sent to log in: user, password, database, token.
    """

    def __init__(
        self,
        answer: Callable[[str], Answer] = lambda text: None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.answer, self.tls = answer, tls
        self.requests: list[str] = []
        self.calls: list[bytes] = []
        self.logins: list[dict[str, object]] = []
        self.attentions = 0
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def dsn(self) -> str:
        return (
            f"Server=127.0.0.1,{self.port};Database=cookbook;UID=cook;PWD=secret;"
            f"Encrypt={'yes;TrustServerCertificate=yes' if self.tls else 'no'}"
        )

    def close(self) -> None:
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(5)

    def __enter__(self) -> "TdsListener":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError, EOFError):
            _Session(self, sock).run()


class _Session:
    def __init__(self, owner: TdsListener, sock: socket.socket) -> None:
        self.owner, self.sock = owner, sock
        self.tls: ssl.SSLObject | None = None
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()

    def run(self) -> None:
        options = self._options(self._receive()[1])
        wants_token = 6 in options
        encryption = TLS_ON if self.owner.tls else NO_TLS
        mine = {
            0: struct.pack(">BBHH", 16, 0, 1000, 0),
            1: bytes([encryption]),
            2: b"\0",
            3: b"",
            4: b"\0",
        }
        if wants_token:
            mine[6] = b"\1"
        self._send(ANSWER, self._prelogin(mine))
        if self.owner.tls:
            self._handshake()
        login = _login(self._receive()[1])
        self.owner.logins.append(login)
        self._send(ANSWER, self._accepted(login))
        while True:
            kind, data = self._receive()
            if kind == ATTENTION:
                self.owner.attentions += 1
                self._send(ANSWER, done(status=0x20))
            elif kind == TRANSACTION:
                start = struct.unpack_from("<I", data)[0]
                self._send(ANSWER, self._transaction(data[start]))
            else:
                self._answer(kind, data)

    def _transaction(self, request: int) -> bytes:
        names = {5: "BEGIN", 7: "COMMIT", 8: "ROLLBACK"}
        self.owner.requests.append(names[request])
        change = {5: b"\x08transact\0", 7: b"\0\x08transact", 8: b"\0\x08transact"}
        kind = {5: 8, 7: 9, 8: 10}[request]
        return _changed(kind, change[request]) + done()

    def _answer(self, kind: int, data: bytes) -> None:
        start = struct.unpack_from("<I", data)[0]
        body = data[start:]
        text = _longest_text(body) if kind == RPC else body.decode("utf-16-le")
        if kind == RPC:
            self.owner.calls.append(body)
        self.owner.requests.append(text)
        answer = self.owner.answer(text)
        if kind == RPC and isinstance(answer, bytes) and answer[-13:-12] == b"\xfd":
            end = struct.pack("<B", DONE_IN_PROC) + answer[-12:]
            answer = answer[:-13] + end + b"\x79\0\0\0\0" + done(DONE_PROC)
        if isinstance(answer, bytes | None):
            if answer != b"":
                self._send(ANSWER, done() if answer is None else answer)
        else:
            self._stream(answer)

    def _stream(self, blocks: Iterable[bytes]) -> None:
        """Send one after the other, until the client has had enough."""
        for block in blocks:
            if select.select([self.sock], [], [], 0)[0]:
                self._receive()
                self.owner.attentions += 1
                self._send(ANSWER, done(status=0x20))
                return
            self._send(ANSWER, block, more=True)
        self._send(ANSWER, done())

    @staticmethod
    def _accepted(login: dict[str, object]) -> bytes:
        ack = b"\x01\x74\x00\x00\x04" + _text("listener", "<B") + b"\x10\0\0\0"
        database = _text(str(login["database"]) or "master", "<B")
        tokens = _changed(1, database + database)
        tokens += b"\xad" + struct.pack("<H", len(ack)) + ack
        tokens += _changed(7, b"\x05" + COLLATION + b"\0")  # the collation
        tokens += _changed(4, _text("4096", "<B") + _text("4096", "<B"))
        if login["token"] is not None:
            tokens += b"\xae" + struct.pack("<BI", FED_AUTH, 0) + b"\xff"
        return tokens + done()

    @staticmethod
    def _options(data: bytes) -> dict[int, bytes]:
        options, at = {}, 0
        while data[at] != 0xFF:
            kind, offset, length = struct.unpack_from(">BHH", data, at)
            options[kind] = data[offset : offset + length]
            at += 5
        return options

    @staticmethod
    def _prelogin(options: dict[int, bytes]) -> bytes:
        head, body = b"", b""
        start = 5 * len(options) + 1
        for kind, value in options.items():
            head += struct.pack(">BHH", kind, start + len(body), len(value))
            body += value
        return head + b"\xff" + body

    def _handshake(self) -> None:
        """TLS inside of PRELOGIN packets; afterwards the packets are inside of TLS."""
        assert self.owner.tls
        tls = self.owner.tls.wrap_bio(self.incoming, self.outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush_wrapped()
                self.incoming.write(self._receive()[1])
            else:
                self._flush_wrapped()
                self.tls = tls
                return

    def _flush_wrapped(self) -> None:
        if data := self.outgoing.read():
            self._send(PRELOGIN, data)

    def _send(self, kind: int, data: bytes, more: bool = False) -> None:
        blocks = [data[at : at + 4000] for at in range(0, len(data), 4000)] or [b""]
        for number, block in enumerate(blocks, 1):
            last = number == len(blocks) and not more
            head = struct.pack(
                ">BBHHBB", kind, last, len(block) + 8, 0, number % 256, 0
            )
            if self.tls:
                self.tls.write(head + block)
                self.sock.sendall(self.outgoing.read())
            else:
                self.sock.sendall(head + block)

    def _receive(self) -> tuple[int, bytes]:
        message = b""
        while True:
            kind, status, length = struct.unpack(">BBH4x", self._read(8))
            message += self._read(length - 8)
            if status & 1:
                return kind, message

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            if self.tls:
                try:
                    data += self.tls.read(count - len(data))
                except ssl.SSLWantReadError:
                    block = self.sock.recv(65536)
                    if not block:
                        raise EOFError from None
                    self.incoming.write(block)
            else:
                block = self.sock.recv(count - len(data))
                if not block:
                    raise EOFError
                data += block
        return data


def _text(text: str, length: str) -> bytes:
    data = text.encode("utf-16-le")
    return struct.pack(length, len(data) // 2) + data


def _changed(kind: int, values: bytes) -> bytes:
    return b"\xe3" + struct.pack("<HB", len(values) + 1, kind) + values


def _longest_text(body: bytes) -> str:
    """The longest run of UTF-16 in the parameters of a call."""
    texts = []
    for start in (0, 1):
        text = body[start:].decode("utf-16-le", "replace")
        printable = "".join(c if c.isprintable() or c in "\n\t" else "\0" for c in text)
        texts += [it for it in printable.split("\0") if it.isascii()]
    return max(texts, key=len, default="")


def _login(data: bytes) -> dict[str, object]:
    def text(at: int, secret: bool = False) -> str:
        offset, length = struct.unpack_from("<HH", data, at)
        raw = data[offset : offset + 2 * length]
        if secret:  # hidden from nobody: every half byte swapped, and a constant
            raw = bytes((it ^ 0xA5) << 4 & 0xF0 | (it ^ 0xA5) >> 4 for it in raw)
        return raw.decode("utf-16-le")

    token = None
    if data[27] & 0x10:
        (at,) = struct.unpack_from("<H", data, 56)
        (at,) = struct.unpack_from("<I", data, at)
        while data[at] != 0xFF:
            kind, length = struct.unpack_from("<BI", data, at)
            if kind == FED_AUTH:
                (size,) = struct.unpack_from("<I", data, at + 6)
                token = data[at + 10 : at + 10 + size]
            at += 5 + length
    return {
        "user": text(40),
        "password": text(44, secret=True),
        "application": text(48),
        "database": text(68),
        "token": token,
    }
