"""A process with the drivers loaded, which forks a child for every recipe it is asked.

`python -m cookbook.forkserver psycopg redis ...` imports the modules, then reads a JSON
line per run from stdin: `{"path", "cwd", "env", "stdout", "stderr"}`. It answers with
`{"pid"}` at once and with `{"status"}` when the child has ended. A child is what
`python path` would be, save that the modules are imported already; so a run costs
milliseconds. (multiprocessing's own fork server confused the exit codes of children.)
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import random
import sys
import threading
import time
import traceback
import types
from typing import NoReturn


def main(modules: list[str]) -> None:
    for name in modules:
        with contextlib.suppress(ImportError):  # an engine's extra may be left out
            importlib.import_module(name)
    if threading.active_count() > 1:
        sys.exit("a preloaded module started a thread; such a process cannot fork")
    gc.collect()
    gc.freeze()  # the children share these objects: collecting would copy the pages
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if not pid:
            _run(**request)
        print(json.dumps({"pid": pid}), flush=True)
        _, status, _ = os.wait4(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        print(json.dumps({"status": code}), flush=True)


def _run(
    path: str, cwd: str, env: dict[str, str], stdout: str, stderr: str
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
    sys.argv = [path]
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
    main(sys.argv[1:])
