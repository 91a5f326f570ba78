"""Run one recipe in a process of its own, and keep what it prints."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from cookbook.catalog import Recipe
from cookbook.engines import process
from cookbook.paths import ROOT

# What a recipe sees of our environment, beside its engine's address.
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
_TOOLS = ("COVERAGE_", "DOCKER_", "TESTCONTAINERS_")

# Large libraries: a fork copies the map of all that is loaded.
_LARGE = {
    *("adbc_driver_postgresql", "duckdb", "google", "hypothesis", "matplotlib"),
    *("pandas", "polars", "pyarrow", "scipy", "sqlalchemy_bigquery"),
}


def in_order(recipes: Iterable[Recipe]) -> list[Recipe]:
    """The order in which they are run in the shortest time.

    The engines by turns, for a few of them serve one recipe at a time; those that
    import large libraries last.
    """

    def key(recipe: Recipe) -> tuple[bool, str, str]:
        packages = {module.partition(".")[0] for module in recipe.imports}
        return not packages.isdisjoint(_LARGE), recipe.name, recipe.id

    return sorted(recipes, key=key)


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
    tools = {k: v for k, v in os.environ.items() if k.startswith(_TOOLS)}
    return {**passed, **tools, "TZ": "UTC", "PYTHONHASHSEED": "0", **addresses}


class ForkServer:
    """A process that imports modules once, and forks a child for every run.

    It starts in the background; the runs asked meanwhile wait. Any number of runners,
    in any process that knows its address, share it. Close it, or use it in a `with`.
    """

    def __init__(self) -> None:
        self._folder = process.new_folder("fork")
        self.address = str(self._folder / "socket")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen(128)
            with (self._folder / "stderr").open("wb") as stderr:
                self._process = subprocess.Popen(
                    [
                        *(sys.executable, "-m", "cookbook.forkserver"),
                        str(listener.fileno()),
                    ],
                    cwd=ROOT,
                    env={**os.environ, "PYTHONHASHSEED": "0"},  # read at start only
                    stdin=subprocess.PIPE,  # it ends with us
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    pass_fds=[listener.fileno()],
                    start_new_session=True,  # Ctrl-C ends us; we end it
                )

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> "ForkServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Runner:
    """Runs recipes through the fork server at that address."""

    def __init__(self, address: str) -> None:
        self._address = address

    def run_recipe(self, recipe: Recipe, addresses: Mapping[str, str]) -> Run:
        """Run the recipe as its header says; see run()."""
        return self.run(
            recipe.path,
            addresses,
            arguments=recipe.arguments,
            modules=recipe.imports,
        )

    def run(
        self,
        path: Path,
        addresses: Mapping[str, str],
        timeout: float = 60,
        arguments: Sequence[str] = (),
        modules: Sequence[str] = (),
    ) -> Run:
        """Run the file in an empty directory. After timeout seconds it is killed.

        modules: what it imports, to be imported once, in place of once for each run.
        Imports only: what a module opens would not survive the fork.

        Raises RuntimeError, with its last words, if the fork server has ended.
        """
        folder = process.new_folder("run")
        out, err, cwd = folder / "stdout", folder / "stderr", folder / "work"
        cwd.mkdir()
        out.touch()
        err.touch()
        request = {
            "modules": modules,
            "path": str(path),
            "arguments": arguments,
            "cwd": str(cwd),
            "env": environment(addresses),
            "stdout": str(out),
            "stderr": str(err),
        }
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(self._address)
                with client.makefile("rw", encoding="utf-8") as file:
                    file.write(json.dumps(request) + "\n")
                    file.flush()
                    pid = int(self._answer(file))
                    started = time.monotonic()
                    timer = threading.Timer(timeout, _kill, [pid])
                    timer.start()
                    code = int(self._answer(file))
                    timer.cancel()
                    seconds = time.monotonic() - started
            _kill(pid)  # what the recipe left behind
            stderr = err.read_text("utf-8", "replace")
            if code == -signal.SIGKILL and seconds >= timeout:
                stderr += f"\nkilled after {timeout:g} s\n"
            return Run(code, out.read_text("utf-8", "replace"), stderr, seconds)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _answer(self, file: TextIO) -> str:
        with contextlib.suppress(ConnectionResetError):
            if line := file.readline():
                return line
        said = Path(self._address).with_name("stderr").read_text("utf-8").strip()
        last = said.splitlines()[-1] if said else "without a word"
        raise RuntimeError(f"the fork server ended: {last}")


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
