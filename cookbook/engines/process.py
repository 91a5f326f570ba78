"""Server processes of our own: start, wait until ready, stop, sweep what was left.

Each server has a directory below `<tmp>/cookbook-<uid>/` that holds its state file, its
data and its log. The state file names the processes of the server and of its owner by
pid and start time. So the next run, of whatever checkout, finds a server whose owner
was killed, and removes it.
"""

import contextlib
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from cookbook.engines.base import Engine, Program, without_password
from cookbook.errors import UnavailableError

READY_WITHIN = 60.0  # seconds
_STOP_WITHIN = 10.0

_children: dict[int, subprocess.Popen[bytes]] = {}  # servers that this process started


def base_folder() -> Path:
    """The directory of this user's servers: open to look through, as the server may
    run as another user; closed to write."""
    folder = Path(tempfile.gettempdir()) / f"cookbook-{os.getuid()}"
    folder.mkdir(mode=0o755, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise UnavailableError(f"{folder} belongs to someone else: set TMPDIR")
    return folder


def owner(pid: int | None = None) -> dict[str, float]:
    """A process, by its pid and start time: pids come again."""
    process = psutil.Process(pid)
    return {"pid": process.pid, "started": process.create_time()}


def is_alive(process: dict[str, float]) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        found = psutil.Process(int(process["pid"]))
        same = abs(found.create_time() - process["started"]) < 1
        return same and found.status() != psutil.STATUS_ZOMBIE
    return False


def new_folder(prefix: str) -> Path:
    """A directory for one server, place or run; its state file names its owner: us."""
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=base_folder()))
    folder.chmod(0o755)  # the server may run as another user
    write_state(folder, {"owner": owner()})
    return folder


def write_state(folder: Path, state: dict[str, object]) -> None:
    new = folder / ".state.new"
    new.touch(mode=0o600)  # it holds the password
    new.write_text(json.dumps(state), "utf-8")
    new.replace(folder / "state.json")


def read_state(folder: Path) -> dict[str, object] | None:
    with contextlib.suppress(OSError, ValueError):
        state: dict[str, object] = json.loads((folder / "state.json").read_text())
        return state
    return None


def states() -> Iterator[tuple[Path, dict[str, object]]]:
    for folder in sorted(base_folder().glob("*/state.json")):
        if state := read_state(folder.parent):
            yield folder.parent, state


def start(engine: Engine, program: Program, folder: Path) -> str:
    """Start the program on a free port, with its data in folder; return its address.

    Raises UnavailableError with the last lines of the server's log.
    """
    password = secrets.token_urlsafe(16)
    drop = {} if engine.keeps_user else _other_user()
    for name in ("data", "tmp"):
        (folder / name).mkdir(mode=0o700)
        _give_to_server_user(folder / name)
    program = _readable(program, folder) if drop else program
    log = folder / "log"
    try:
        engine.prepare(program, folder, password)
    except subprocess.CalledProcessError as error:
        raise _failed(
            engine, program, (error.stderr or error.stdout).decode()
        ) from None
    for attempt in (1, 2, 3):  # the free port may be taken before the server has it
        port = free_port()
        with log.open("wb") as out:
            process = subprocess.Popen(  # type: ignore[call-overload]
                engine.command(program, folder, port),
                cwd=folder,
                env=_environment(folder) | engine.environment(folder, port),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C is for us; we stop it in our order
                **drop,
            )
        _children[process.pid] = process
        state = read_state(folder) or {}
        write_state(folder, {**state, "server": owner(process.pid)})
        url = engine.url(folder, port, password)
        try:
            _wait_until_ready(engine, process, url)
        except UnavailableError as error:
            _end(process.pid)
            text = log.read_text("utf-8", "replace")
            if attempt == 3 or "in use" not in text:
                raise _failed(engine, program, text or str(error)) from None
        else:
            return url
    raise AssertionError("unreachable")


def run_as_server_user(command: list[str], folder: Path) -> None:
    """Run a command of the server's, such as initdb, as the user that will run it."""
    subprocess.run(  # type: ignore[call-overload]
        command,
        cwd=folder,
        env=_environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=READY_WITHIN,
        **_other_user(),
    )


def secret_file(path: Path, text: str) -> Path:
    """Write a file that the server's user alone can read."""
    path.touch(mode=0o600)
    path.write_text(text, "utf-8")
    _give_to_server_user(path)
    return path


def stop(folder: Path, state: dict[str, object]) -> None:
    """End the server with everything that it started, and remove its directory."""
    server = state.get("server")
    if isinstance(server, dict) and is_alive(server):
        _end(int(server["pid"]))
    shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    # Cluster buses use port + 10000.
    return port if port < 55_536 else free_port()


def _wait_until_ready(
    engine: Engine, process: subprocess.Popen[bytes], url: str
) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while process.poll() is None:
        try:
            engine.identify(url)
        except Exception as error:  # noqa: BLE001 - each driver has its own
            if time.monotonic() > deadline:
                raise UnavailableError(str(error)) from None
            time.sleep(0.02)
        else:
            return
    raise UnavailableError(f"it ended with exit code {process.returncode}")


def _failed(engine: Engine, program: Program, log: str) -> UnavailableError:
    tail = "\n".join(f"  {line}" for line in log.strip().splitlines()[-8:])
    return UnavailableError(
        f"{engine.title} did not start ({program.path}, {program.version}).\n"
        f"The end of its log:\n{without_password(tail)}"
    )


def _end(pid: int) -> None:
    """End a process group: first as its engine likes it, then whatever is left."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        # SIGTERM makes PostgreSQL wait for its clients; SIGINT does not.
        fast = signal.SIGINT if process.name() == "postgres" else signal.SIGTERM
        process.send_signal(fast)
        _, alive = psutil.wait_procs(family, timeout=_STOP_WITHIN)
        for straggler in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                straggler.kill()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    if child := _children.pop(pid, None):
        child.wait()


def _environment(folder: Path) -> dict[str, str]:
    """A directory for temporary files of its own: MariaDB clears out what it finds."""
    path = os.environ.get("PATH", "")
    return {"PATH": path, "LC_ALL": "C", "TZ": "UTC", "TMPDIR": str(folder / "tmp")}


def _give_to_server_user(path: Path) -> None:
    if drop := _other_user():
        os.chown(path, pwd.getpwnam(str(drop["user"])).pw_uid, -1)


def _other_user() -> dict[str, object]:
    """PostgreSQL and MySQL refuse to run as root: the user to run them as instead."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": "nobody", "group": nobody.pw_gid, "extra_groups": []}


def _readable(program: Program, folder: Path) -> Program:
    """The program, copied out of a directory into which its user may not look."""
    if all(parent.stat().st_mode & 0o001 for parent in program.path.parents):
        return program
    if program.path.parent.name != "bin":
        copy = folder / program.path.name
        shutil.copy2(program.path, copy)
    else:  # .../bin/postgres needs .../lib and .../share
        shutil.copytree(program.path.parent.parent, folder / "program", symlinks=True)
        copy = folder / "program" / "bin" / program.path.name
    return Program(copy, program.version)
