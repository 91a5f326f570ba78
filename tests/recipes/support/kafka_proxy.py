"""A proxy in front of a Kafka broker that loses requests, or answers, on demand.

A client asks the first broker for the addresses of all, and goes on with those. So the
proxy writes its own port into every answer that names the broker's.
"""

import contextlib
import socket
import struct
import threading
from collections import Counter
from enum import IntEnum


class Api(IntEnum):
    """The keys of requests, from the protocol guide."""

    PRODUCE = 0
    FETCH = 1
    OFFSET_COMMIT = 8
    ADD_PARTITIONS_TO_TXN = 24
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


class KafkaProxy:
    """Passes frames on to a broker, until it is told not to."""

    def __init__(self, servers: str) -> None:
        self._host, port = servers.rsplit(":", 1)
        self._listener = socket.create_server(("127.0.0.1", 0))
        own_port = self._listener.getsockname()[1]
        self.servers = f"127.0.0.1:{own_port}"
        self._port = int(port)
        host = self._host.encode()
        self._theirs = host + struct.pack(">i", self._port)
        self._ours = host + struct.pack(">i", own_port)
        self._lose_request: Api | None = None
        self._lose_answer: Api | None = None
        self._refuse = False
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self.requests: Counter[int] = Counter()
        self.was_cut = threading.Event()
        self.has_refused = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_before(self, api: Api) -> None:
        """Cut the line once, when such a request comes: the broker never sees it."""
        self._lose_request = api

    def cut_answer_to(self, api: Api) -> None:
        """Cut the line once, after the broker has done such a request."""
        self._lose_answer = api

    def refuse(self, refuse: bool = True) -> None:
        """Cut all connections, and every new one at once."""
        self._refuse = refuse
        if refuse:
            self._cut_all()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._cut_all()

    def _cut_all(self) -> None:
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refuse:
                client.close()
                self.has_refused.set()
                continue
            server = socket.create_connection((self._host, self._port), timeout=5)
            server.settimeout(None)
            with self._lock:
                self._sockets |= {client, server}
            lost: set[int] = set()  # the requests whose answers get lost
            for pump in (self._requests, self._answers):
                args = (client, server, lost)
                threading.Thread(target=pump, args=args, daemon=True).start()

    def _requests(
        self, client: socket.socket, server: socket.socket, lost: set[int]
    ) -> None:
        with contextlib.suppress(OSError), client.makefile("rb") as frames:
            while frame := _read_frame(frames):
                api, _, correlation = struct.unpack(">hhi", frame[4:12])
                self.requests[api] += 1
                if api == self._lose_request:
                    self._lose_request = None
                    self.was_cut.set()
                    break
                if api == self._lose_answer:
                    self._lose_answer = None
                    lost.add(correlation)
                server.sendall(frame)
        _shut(client, server)

    def _answers(
        self, client: socket.socket, server: socket.socket, lost: set[int]
    ) -> None:
        with contextlib.suppress(OSError), server.makefile("rb") as frames:
            while frame := _read_frame(frames):
                (correlation,) = struct.unpack(">i", frame[4:8])
                if correlation in lost:
                    self.was_cut.set()
                    break
                client.sendall(frame.replace(self._theirs, self._ours))
        _shut(client, server)


def _read_frame(stream) -> bytes:
    head = stream.read(4)
    return head + stream.read(*struct.unpack(">i", head)) if len(head) == 4 else b""


def _shut(*sockets: socket.socket) -> None:
    for sock in sockets:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
