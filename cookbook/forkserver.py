"""A process that imports each driver once, and forks a child for every recipe.

`python -m cookbook.forkserver FD` takes connections from the listening socket FD. A
client sends a JSON line, `{"modules", "path", "arguments", "cwd", "env", "stdout",
"stderr"}`; it is answered with the child's pid at once, and with its exit code when it
has ended. A child is what `python path arguments` would be, save that the modules are
imported already, most of them for an earlier child; so a run costs milliseconds.
(multiprocessing's own fork server confused the exit codes of children.) It ends when
its stdin does.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import random
import selectors
import signal
import socket
import sys
import threading
import time
import traceback
import types
from typing import NoReturn


def main(listener: socket.socket) -> None:
    clients: dict[int, socket.socket] = {}  # by the pid of the child
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    ours = [listener, woken, wakes]
    with selectors.DefaultSelector() as selector:
        for source in (listener, woken, sys.stdin):
            selector.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:
                    return
                if key.fileobj is woken:
                    woken.recv(4096)
                    _answer_ended(clients)
                else:
                    client, _ = listener.accept()
                    request = json.loads(_line(client))
                    _load(request.pop("modules"))
                    if not (pid := os.fork()):
                        selector.close()
                        _forget([*ours, client, *clients.values()])
                        _run(**request)
                    clients[pid] = client
                    client.sendall(b"%d\n" % pid)


def _line(client: socket.socket) -> str:
    with client.makefile("r", encoding="utf-8") as file:
        return file.readline()


def _load(modules: list[str]) -> None:
    if not (new := [name for name in modules if name not in sys.modules]):
        return
    for name in new:
        with contextlib.suppress(Exception):  # the child meets the error itself
            importlib.import_module(name)
        if threading.active_count() > 1:
            sys.exit(f"{name} starts a thread when imported: then no fork is safe")
    gc.collect()
    gc.freeze()  # the children share these objects: collecting would copy the pages


def _answer_ended(clients: dict[int, socket.socket]) -> None:
    while clients:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with clients.pop(pid) as client, contextlib.suppress(OSError):  # it may be gone
            client.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


def _forget(ours: list[socket.socket]) -> None:
    """In a child: nothing of the server's is left open."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for it in ours:
        it.close()


def _run(
    path: str,
    arguments: list[str],
    cwd: str,
    env: dict[str, str],
    stdout: str,
    stderr: str,
) -> NoReturn:
    os.setsid()  # the client can end the recipe with all that it started
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    for name, flags, number in (
        (os.devnull, os.O_RDONLY, 0),
        (stdout, os.O_WRONLY, 1),
        (stderr, os.O_WRONLY, 2),
    ):
        os.dup2(os.open(name, flags), number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(  # noqa: SIM115
        2, "w", encoding="utf-8", errors="backslashreplace", closefd=False
    )
    sys.argv = [path, *arguments]
    sys.path[0] = os.path.dirname(path)  # noqa: PTH120
    random.seed()
    main_module = types.ModuleType("__main__")
    main_module.__file__ = path
    sys.modules["__main__"] = main_module
    code = 0
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123
            source = file.read()
        exec(compile(source, path, "exec", dont_inherit=True), vars(main_module))  # noqa: S102
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
    except BaseException as error:  # noqa: BLE001 - reported as python does
        tb = error.__traceback__
        error.__traceback__ = tb.tb_next if tb else None  # without this frame
        traceback.print_exception(error)
        code = 1
    finally:
        with contextlib.suppress(Exception):
            threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
