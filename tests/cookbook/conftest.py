"""A small checkout of its own, for tests that break things."""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from cookbook import ledger
from cookbook.engines import engine, process
from cookbook.ledger import Record
from cookbook.paths import ROOT
from cookbook.servers import Servers

GOOD = '''\
# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Say hello."""

import os


def greet(name: str) -> str:
    return f"hello {name}"


def main() -> None:
    os.environ["SQLITE_PATH"]
    print(greet("reader"))


if __name__ == "__main__":
    main()
'''

GOOD_TEST = '''\
from recipes.sqlite.greet import greet


def test_greets(sqlite):
    """It greets by name."""
    assert greet("you") == "hello you"
'''


@dataclass
class Checkout:
    """A copy of the machinery, with one recipe: sqlite/greet."""

    root: Path

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")

    def run(
        self, *command: str, timeout: float = 100, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """`cookbook ...`, or `pytest ...`, of that checkout."""
        program, *arguments = command
        module = "cookbook.cli" if program == "cookbook" else program
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.root,
            env=self.environment(environment),
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def environment(self, more: dict[str, str]) -> dict[str, str]:
        ours = ("COOKBOOK_", "PYTEST_", "COVERAGE_", "COV_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        return {
            **kept,
            "PYTHONPATH": str(self.root),
            "COLUMNS": "200",
            "TMPDIR": str(self.root / "tmp"),  # so that no sweep meets other runs
            **more,
        }

    def records(self) -> list[Record]:
        return list(ledger.read(self.root / "build" / "ledger.json").records)


@pytest.fixture
def open_folder():
    """A directory that other users can look into, as servers run as another user.

    Below pytest's own they could not: every session closes that.
    """
    with tempfile.TemporaryDirectory(prefix="cookbook-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def checkout(open_folder):
    """A checkout in which anything may be broken."""
    root = open_folder / "checkout"
    shutil.copytree(
        ROOT / "cookbook",
        root / "cookbook",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for name in ("pyproject.toml", "docker-compose.yml", "README.md"):
        shutil.copy(ROOT / name, root / name)
    made = Checkout(root)
    (root / "tmp").mkdir()
    output_test = (ROOT / "tests/recipes/test_output.py").read_text("utf-8")
    made.write("tests/recipes/test_output.py", output_test)
    made.write("recipes/sqlite/greet.py", GOOD)
    made.write("recipes/sqlite/greet.out", "hello reader\n")
    made.write("tests/recipes/sqlite/test_greet.py", GOOD_TEST)
    made.write("docs/sqlite/greet.md", "# Say hello\n")
    return made


# For the tests of an engine: the module's constant ONE.


@pytest.fixture
def alone(request, open_folder, monkeypatch):
    """A directory for servers, and an environment, of this test's own."""
    monkeypatch.setenv("TMPDIR", str(open_folder))
    monkeypatch.setattr("tempfile.tempdir", None)  # it reads the variable again
    for name in request.module.ONE.variables(""):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def start(request, alone):
    """Start the engine, or the one of that name; skip where it was not fetched."""
    started = Servers()

    def start(provider=None, name=request.module.ONE.name):
        here = "embedded" if engine(name).embedded() else "native"  # no container
        started.start([name], provider or here)
        if name in started.missing and engine(name).fetches:
            pytest.skip(f"{started.missing[name]}: cookbook fetch {name}")
        return started.running[name]

    yield start
    started.stop()


@pytest.fixture
def server(start):
    """The engine's server."""
    return start()


def only_server():
    """The process of the one server that runs in this test."""
    ((_, state),) = process.states()
    return psutil.Process(int(state["server"]["pid"]))


def listening():
    """The addresses on which it listens."""
    sockets = only_server().net_connections()
    ips = (it.laddr.ip for it in sockets if it.status == psutil.CONN_LISTEN)
    return [ip.removeprefix("::ffff:") for ip in ips]
