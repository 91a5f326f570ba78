"""A listener of Oracle Net that accepts, refuses or says nothing, as it is told.

There is no database behind it: it knows the first packet of a connection, and how a
listener refuses one. With a TLS context it speaks TCPS.
"""

import contextlib
import re
import socket
import ssl
import struct
import threading

_REFUSE = 4  # the type of the packet
_UNKNOWN_SERVICE, _UNKNOWN_SID = 12514, 12505


class TnsListener:
    """Knows services by name, and refuses all of them when it is asked for one."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.dsn = f"cook/cook@127.0.0.1:{self.port}/FREEPDB1"
        self.connections = 0
        self.silent = False
        self.refuse_with: int | None = None  # in place of what it would say
        self.asked: list[str] = []  # the connect descriptors that arrived
        self.client_certificates: list[dict] = []
        self.has_asked = threading.Event()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for sock in self._open:
            with contextlib.suppress(OSError):  # SSLSocket's own would unmake the TLS
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # that a thread uses
        for thread in self._threads:
            thread.join(10)
        for sock in self._open:
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(sock)
            thread = threading.Thread(target=self._answer, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _answer(self, sock: socket.socket) -> None:
        try:
            if self._tls:
                sock = self._tls.wrap_socket(
                    sock, server_side=True, do_handshake_on_connect=False
                )
                self._open.append(sock)
                sock.do_handshake()
                self.client_certificates.append(sock.getpeercert() or {})
            packet = _receive(sock)
            while b"(DESCRIPTION=" not in packet:  # a long one comes after the first
                packet = _receive(sock)
            asked = re.search(rb"\(DESCRIPTION=.*\)", packet, re.DOTALL)
            self.asked.append(asked[0].decode() if asked else "")
            self.has_asked.set()
            if self.silent:
                return
            by_sid = "(SID=" in self.asked[-1]
            known = _UNKNOWN_SID if by_sid else _UNKNOWN_SERVICE
            sock.sendall(_refusal(self.refuse_with or known))
        except OSError:
            pass
        sock.close()


def _receive(sock: socket.socket) -> bytes:
    """One packet, its length included."""
    packet = b""
    while len(packet) < 2 or len(packet) < int.from_bytes(packet[:2]):
        wanted = int.from_bytes(packet[:2]) - len(packet) if len(packet) >= 2 else 2
        if not (block := sock.recv(wanted)):
            raise ConnectionError("the client is gone")
        packet += block
    return packet


def _refusal(code: int) -> bytes:
    said = (
        f"(DESCRIPTION=(TMP=)(VSNNUM=0)(ERR={code})(ERROR_STACK=(ERROR=(CODE={code}))))"
    )
    body = struct.pack(">BBH", 1, 0, len(said)) + said.encode()
    return struct.pack(">HHBBH", 8 + len(body), 0, _REFUSE, 0, 0) + body
