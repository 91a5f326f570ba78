"""Run one recipe in a process of its own, and keep what it prints."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cookbook.engines import process
from cookbook.paths import ROOT

# What a recipe sees of our environment, beside its engine's address.
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True)
class Run:
    """How a recipe ended. The code is negative where a signal ended it."""

    code: int
    stdout: str
    stderr: str
    seconds: float


def environment(addresses: Mapping[str, str]) -> dict[str, str]:
    """The environment in which a recipe runs: little, and the same everywhere."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    coverage = {k: v for k, v in os.environ.items() if k.startswith("COVERAGE_")}
    return {**passed, **coverage, "TZ": "UTC", "PYTHONHASHSEED": "0", **addresses}


class Runner:
    """Runs recipes one after the other. Close it, or use it in a `with`.

    preload: modules to import once, in place of once for each run. Imports only: what
    a module opens when it is imported would not survive the fork.
    """

    def __init__(self, preload: Iterable[str] = ()) -> None:
        self._preload = list(preload)
        self._server: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def run(self, path: Path, addresses: Mapping[str, str], timeout: float = 60) -> Run:
        """Run the file in an empty directory. After timeout seconds it is killed."""
        folder = process.new_folder("run")
        try:
            with self._lock:
                return self._run(path, addresses, timeout, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _run(
        self, path: Path, addresses: Mapping[str, str], timeout: float, folder: Path
    ) -> Run:
        out, err = folder / "stdout", folder / "stderr"
        out.touch()
        err.touch()
        cwd = folder / "work"
        cwd.mkdir()
        started = time.monotonic()
        request = {
            "path": str(path),
            "cwd": str(cwd),
            "env": environment(addresses),
            "stdout": str(out),
            "stderr": str(err),
        }
        pid = self._ask(request)["pid"]
        timer = threading.Timer(timeout, _kill, [pid])
        timer.start()
        code = self._answer()["status"]
        timer.cancel()
        _kill(pid)  # what the recipe left behind
        seconds = time.monotonic() - started
        stderr = err.read_text("utf-8", "replace")
        if code == -signal.SIGKILL and seconds >= timeout:
            stderr += f"\nkilled after {timeout:g} s\n"
        return Run(code, out.read_text("utf-8", "replace"), stderr, seconds)

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if not self._server:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "cookbook.forkserver", *self._preload],
                cwd=ROOT,
                env={**os.environ, "PYTHONHASHSEED": "0"},  # read at start only
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,  # Ctrl-C ends us; we end it
            )
        assert self._server.stdin
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._server
        assert self._server.stdout
        line = self._server.stdout.readline()
        if not line:
            raise RuntimeError(f"the fork server ended: {self._server.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        if self._server:
            assert self._server.stdin
            assert self._server.stdout
            self._server.stdin.close()  # at the end of its input it ends
            self._server.wait(timeout=10)
            self._server.stdout.close()
            self._server = None

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
