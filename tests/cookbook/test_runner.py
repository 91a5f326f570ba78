"""A recipe's process is what `python recipe.py` would be."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from cookbook.runner import ForkServer, Runner


@pytest.fixture(scope="module")
def runner():
    with ForkServer() as server:
        yield Runner(server.address)


@pytest.fixture
def script(tmp_path):
    def write(text):
        path = tmp_path / "script.py"
        path.write_text(text, "utf-8")
        return path

    return write


@pytest.mark.parametrize(
    "text",
    [
        "print('hello')",
        "import sys; sys.exit(3)",
        "import sys; sys.exit('no server')",
        "raise ValueError('bad')",
        "def f():\n    1/0\nf()",
        "import os; os._exit(7)",
        "print(__name__, __file__ is not None)",
        "import atexit; atexit.register(print, 'bye')",
        "import threading; threading.Thread(target=print, args=('late',)).start()",
        "import asyncio; asyncio.run(asyncio.sleep(0)); print('done')",
        "import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))))",
        "import sys; print(sys.stdin.read() == '')",
        "print('\u00e9\u4e2d\U0001f600')",
        "import warnings; warnings.warn('old')",
        "import logging; logging.warning('careful')",
        "import os; os.kill(os.getpid(), 9)",
        "import time; print(time.tzname)",
    ],
)
def test_same_as_python(runner, script, text):
    path = script(text)
    run = runner.run(path, {})
    plain = subprocess.run(
        [sys.executable, path],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "TZ": "UTC", "LC_ALL": "C.UTF-8"},
    )
    assert run.code == plain.returncode
    assert run.stdout == plain.stdout
    assert run.stderr == plain.stderr


def test_is_given_arguments(runner, script):
    path = script("import sys; print(sys.argv[1:])")
    run = runner.run(path, {}, arguments=("demo", "--days", "3"))
    assert run.stdout == "['demo', '--days', '3']\n"


def test_sees_little_of_our_environment(runner, script, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    path = script("import json, os; print(json.dumps(dict(os.environ)))")
    seen = json.loads(runner.run(path, {"REDIS_URL": "here"}).stdout)
    assert "SECRET" not in seen
    assert seen["REDIS_URL"] == "here"
    assert seen["TZ"] == "UTC"


def test_runs_in_an_empty_directory_that_goes(runner, script):
    path = script("import os; print(os.getcwd(), os.listdir()); open('left', 'w')")
    folder, _, listing = runner.run(path, {}).stdout.partition(" ")
    assert listing.strip() == "[]"
    assert not Path(folder).exists()


def test_one_run_leaves_nothing_to_the_next(runner, script):
    runner.run(
        script("import json; json.left = 1; import os; os.environ['X'] = '1'"), {}
    )
    again = "import json, os; print(hasattr(json, 'left'), 'X' in os.environ)"
    assert runner.run(script(again), {}).stdout == "False False\n"


def test_is_killed_after_its_time_with_all_it_started(runner, script):
    path = script(
        "import subprocess, time\n"
        "print(subprocess.Popen(['sleep', '60']).pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    started = time.monotonic()
    run = runner.run(path, {}, timeout=1)
    assert time.monotonic() - started < 20
    assert run.code == -9
    assert "killed after 1 s" in run.stderr
    assert _is_gone(int(run.stdout))


def test_what_it_leaves_running_is_ended(runner, script):
    path = script("import subprocess\nprint(subprocess.Popen(['sleep', '60']).pid)\n")
    run = runner.run(path, {})
    assert run.code == 0
    assert _is_gone(int(run.stdout))


def test_a_module_that_starts_a_thread_is_not_shared(tmp_path, monkeypatch):
    (tmp_path / "restless.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    script = tmp_path / "script.py"
    script.write_text("")
    said = pytest.raises(RuntimeError, match="ended: restless starts a thread")
    with ForkServer() as server, said:
        Runner(server.address).run(script, {}, modules=["restless"])


def test_runs_side_by_side(runner, script, tmp_path):
    """Two recipes that wait for one another: one after the other, neither would end."""
    code = (
        "import pathlib, time\n"
        "pathlib.Path({own!r}).touch()\n"
        "while not pathlib.Path({other!r}).exists(): time.sleep(0.01)\n"
        "print('met')\n"
    )
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    for name, own, other in (("a.py", one, two), ("b.py", two, one)):
        (tmp_path / name).write_text(code.format(own=own, other=other))
    with ThreadPoolExecutor(2) as pool:
        runs = pool.map(lambda n: runner.run(tmp_path / n, {}, 20), ("a.py", "b.py"))
        assert [run.stdout for run in runs] == ["met\n", "met\n"]


def test_ends_when_its_owner_does(script):
    server = ForkServer()
    process = psutil.Process(server._process.pid)
    server.close()
    assert not process.is_running()


def _is_gone(pid: int) -> bool:
    """Gone, or a zombie that nobody has reaped yet."""
    for _ in range(100):
        if not psutil.pid_exists(pid):
            return True
        if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False
