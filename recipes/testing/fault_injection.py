# /// script
# requires-python = ">=3.11"
# dependencies = ["redis>=6"]
#
# [tool.cookbook]
# needs = ["redis"]
# ///
"""Test what happens when the line breaks.

A proxy between the code under test and the real server slows the line down, cuts it in
the middle of an answer, resets it, or falls silent: at the moment the test chooses.
"""

import os
import struct
import sys
import time
from contextlib import closing, suppress
from socket import SHUT_RD, SO_LINGER, SOL_SOCKET, create_connection, create_server
from socket import socket as Socket
from threading import Thread
from urllib.parse import urlsplit, urlunsplit

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry


# --8<-- [start:proxy]
class FaultProxy:
    """Listens at url, and passes all on to the server until it is told otherwise."""

    latency = 0.0  # seconds, for each block of bytes, both ways
    black_hole = False  # pass nothing on, and keep the connections open
    cut_at: bytes | None = None  # reset all, once, at a request that holds these bytes:
    cut_after: int | None = 0  # after so much of its answer; None: before it arrives

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname, int(parts.port or 0))
        self._listener = create_server(("127.0.0.1", 0))
        user, at, _ = parts.netloc.rpartition("@")
        place = f"{user}{at}127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = urlunsplit(parts._replace(netloc=place))
        self.connections = 0
        self._open: set[Socket] = set()
        self._doomed: Socket | None = None  # the next answer of that server is cut
        Thread(target=self._accept, daemon=True).start()

    def reset(self) -> None:
        """Reset all connections (RST), as a firewall or a crash does."""
        sockets, self._open = self._open, set()
        for sock in [*sockets]:
            with suppress(OSError):  # closed
                sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
                sock.shutdown(SHUT_RD)  # wakes its thread, which closes it

    def close(self) -> None:
        self._listener.shutdown(SHUT_RD)
        self._listener.close()
        self.reset()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: Socket) -> None:
        with client, suppress(OSError), create_connection(self._server) as server:
            self._open.update((client, server))
            answers = (server, client, False)
            Thread(target=self._pass_on, args=answers, daemon=True).start()
            self._pass_on(client, server, True)

    def _pass_on(self, source: Socket, to: Socket, asks: bool) -> None:
        with suppress(OSError):  # one of the two is closed
            while block := source.recv(65536):
                time.sleep(self.latency)
                while self.black_hole and source in self._open:
                    time.sleep(0.01)
                if asks and self.cut_at and self.cut_at in block:
                    self.cut_at, self._doomed = None, to
                    if self.cut_after is None:
                        self.reset()
                elif source is self._doomed:
                    to.sendall(block[: self.cut_after])
                    self.reset()
                if source not in self._open:  # reset meanwhile
                    break
                to.sendall(block)
        with suppress(OSError):
            to.shutdown(SHUT_RD)


# --8<-- [end:proxy]


# --8<-- [start:code]
PAY = """
if redis.call('SET', KEYS[1], 'paid', 'NX') then
    redis.call('INCRBY', KEYS[2], ARGV[1])
end
"""


def open_client(url: str, seconds: float = 5) -> redis.Redis:
    """A client that waits so long for an answer, and asks three times more."""
    return redis.Redis.from_url(
        url,
        socket_connect_timeout=seconds,
        socket_timeout=seconds,
        retry=Retry(ConstantBackoff(0.05), 3),
    )


def pay(client: redis.Redis, key: str, cents: int) -> None:
    """Pay into the account, once for each key, however often it is sent."""
    client.eval(PAY, 2, f"payment:{key}", "account", cents)


# --8<-- [end:code]

NO_SERVER = (
    "Set REDIS_URL, for example redis://:cook@127.0.0.1:16379/0"
    " after `docker compose up -d --wait redis`"
)


def main() -> None:
    url = os.environ.get("REDIS_URL") or sys.exit(NO_SERVER)
    with closing(FaultProxy(url)) as proxy, open_client(proxy.url, 0.5) as client:
        proxy.cut_at = b"EVAL"
        pay(client, "rent, November", 3010)
        print(proxy.connections, "connections, paid:", client.incrby("account", 0))


if __name__ == "__main__":
    main()
