"""A TCP proxy that misbehaves on demand, between a recipe and its server."""

import contextlib
import socket
import struct
import threading
from urllib.parse import urlsplit, urlunsplit


class FaultProxy:
    """Passes bytes on to the server of an address, until it is told not to.

    `url` is that address with the proxy's host and port in it.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._upstream = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host, self.port = self._listener.getsockname()
        credentials = parts.netloc.rpartition("@")[0]
        netloc = f"{credentials}@{self.host}:{self.port}"
        self.url = urlunsplit(parts._replace(netloc=netloc))
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._refuse = False
        self._passing = threading.Event()
        self._passing.set()
        self._cut_before: bytes | None = None
        self._cut_after_request: bytes | None = None
        self.connections = 0
        self.was_cut = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def refuse(self, refuse: bool = True) -> None:
        """Close new connections at once."""
        self._refuse = refuse

    def black_hole(self, on: bool = True) -> None:
        """Pass nothing on, but keep the connections open."""
        (self._passing.clear if on else self._passing.set)()

    def cut_before(self, request: bytes) -> None:
        """Cut the line once, when that request comes: the server never sees it."""
        self._cut_before = request

    def cut_answer_to(self, request: bytes) -> None:
        """Cut the line once, after the server has answered that request: it is done,
        and the client never hears."""
        self._cut_after_request = request

    def reset_all(self) -> None:
        """Reset every connection (RST), as a firewall or a crash does."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for sock in (sock for pair in pairs for sock in pair):
            with contextlib.suppress(OSError):
                linger = struct.pack("ii", 1, 0)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def close(self) -> None:
        self._passing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset_all()

    def __enter__(self) -> "FaultProxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self._refuse:
                client.close()
                continue
            try:
                server = socket.create_connection(self._upstream, timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._pairs.add((client, server))
            answer_is_cut = threading.Event()
            for args in ((client, server, True), (server, client, False)):
                threading.Thread(
                    target=self._pump, args=(*args, answer_is_cut), daemon=True
                ).start()

    def _pump(
        self,
        source: socket.socket,
        target: socket.socket,
        is_request: bool,
        answer_is_cut: threading.Event,
    ) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(65536):
                self._passing.wait()
                if is_request and self._cut_before and self._cut_before in block:
                    self._cut_before = None
                    return self._cut()
                wanted = self._cut_after_request
                if is_request and wanted and wanted in block:
                    self._cut_after_request = None
                    answer_is_cut.set()
                if not is_request and answer_is_cut.is_set():
                    return self._cut()
                target.sendall(block)
        for sock in (source, target):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        return None

    def _cut(self) -> None:
        self.was_cut.set()
        self.reset_all()
