"""An application that is served on a thread, or by uvicorn in processes of its own."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
def serve(app: Any) -> Iterator[httpx.Client]:
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
        assert self.process.stdout
        for line in self.process.stdout:
            self.log.append(line)

    def said(self, pattern: str) -> list[str]:
        return re.findall(pattern, "".join(self.log))

    @property
    def url(self) -> str:
        found = r"running on (http://127\.0\.0\.1:\d+)"
        wait_for(lambda: self.said(found) or self.process.poll() is not None)
        assert self.said(found), "".join(self.log)
        return str(self.said(found)[0])

    def when_up(self, workers: int) -> str:
        """Its address, once so many workers have started and connections are taken."""
        started = "Application startup complete"
        wait_for(lambda: len(self.said(started)) >= workers)
        with httpx.Client(transport=httpx.HTTPTransport(retries=10)) as client:
            client.get(f"{self.url}/livez", timeout=60)
        return self.url

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
            assert self.process.stdout
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
        self.puts: Counter[int | str] = Counter()  # their answers
        self.last_failure = 0.0  # of a PUT; a time of time.monotonic()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)
            said = json.loads(line)
            self.puts[said["put"]] += 1
            if said["put"] != 204:
                self.last_failure = said["at"]

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            assert self.process.wait(60) == 0
        finally:
            self.process.kill()
            self._reader.join()
            self.process.stdout.close()
