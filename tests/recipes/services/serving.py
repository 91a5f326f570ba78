"""An application that is served on a thread, or by uvicorn in processes of its own."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import uvicorn

from cookbook.paths import ROOT


def wait_for(condition: Callable[[], object], within: float = 30) -> None:
    """Return when the condition is true."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


@contextlib.contextmanager
def serve(app: object) -> Iterator[httpx.Client]:
    """Serve the application on a thread; give a client for it."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = "http://127.0.0.1:{1}".format(*listener.getsockname())
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_for(lambda: server.started or not thread.is_alive())
            assert server.started
            with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


class Service:
    """A process that says where it serves, as uvicorn does, in what it logs."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.log.append(line)

    def said(self, pattern: str) -> list[str]:
        return re.findall(pattern, "".join(self.log))

    @property
    def url(self) -> str:
        found = r"running on (http://127\.0\.0\.1:\d+)"
        wait_for(lambda: self.said(found) or self.process.poll() is not None)
        assert self.said(found), "".join(self.log)
        return self.said(found)[0]

    def close(self) -> int:
        """Ask it to end until it does; return its exit code."""
        try:
            for _ in range(60):
                self.process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return self.process.wait(0.5)
            raise AssertionError("it does not end")
        finally:
            self.process.kill()
            self._reader.join()
            self.process.stdout.close()


class Load:
    """A second process that puts orders and reads them back, until it is closed."""

    def __init__(self, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("load.py"), url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line)

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            assert self.process.wait(60) == 0
        finally:
            self.process.kill()
            self._reader.join()
            self.process.stdout.close()
