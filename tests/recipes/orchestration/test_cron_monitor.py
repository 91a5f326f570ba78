import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from tempfile import TemporaryFile
from urllib.parse import urlsplit

import psycopg
import pytest

from recipes.orchestration.cron_monitor import command, runs

MAIN = command.__file__.replace("command.py", "__main__.py")


@pytest.fixture
def db(postgresql):
    """A connection; there is the job `load`, which is due every day."""
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute(runs.SCHEMA)
        conn.execute("INSERT INTO job (name, every) VALUES ('load', '1 day')")
        yield conn


@pytest.fixture
def cli(db, postgresql, tmp_path):
    """Start the program with these arguments, as cron does."""

    def start(*arguments, url=postgresql):
        return subprocess.Popen(
            [sys.executable, MAIN, *arguments],
            env={**os.environ, "POSTGRESQL_URL": url, "HOME": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


def ended(process):
    """Exit code, stdout and stderr."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def outcomes(db):
    query = "SELECT outcome FROM run ORDER BY id"
    return [outcome for (outcome,) in db.execute(query).fetchall()]


def wait_for(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def sh(script):
    return ["sh", "-c", script]


def run(url, folder, script, **options):
    """Run the script as the job; return the outcome and what the script said."""
    options = {"stopping": threading.Event(), **options}
    with TemporaryFile() as said:
        outcome = command.run(url, "load", sh(script), folder, said, **options)
        said.seek(0)
        return outcome, said.read().decode()


@contextmanager
def running(url, folder, **options):
    """The job runs in a thread; yields its future and the pid of the command."""
    pids = folder / "pid"
    with ThreadPoolExecutor(1) as pool:
        script = f"echo $$ > {pids}.new; mv {pids}.new {pids}; exec sleep 600"
        future = pool.submit(run, url, folder, script, **options)
        wait_for(lambda: pids.exists() or future.done())
        pid = int(pids.read_text())
        try:
            yield future, pid
        finally:
            kill(pid)


def kill(pid):
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_good_run(cli, db):
    """A good run is recorded with its machine and times, and prints nothing."""
    assert ended(cli("run", "load", "60", "echo", "done")) == (0, "", "")
    query = "SELECT outcome, host > '', ended >= started FROM run"
    assert db.execute(query).fetchall() == [("ok", True, True)]


def test_bad_run(cli, db):
    """A command that fails: exit 1, and all that it said goes to stderr."""
    script = "echo line 1; echo no disk >&2; exit 3"
    done = ended(cli("run", "load", "60", *sh(script)))
    assert done == (1, "", "line 1\nno disk\nload: failed\n")
    assert outcomes(db) == ["failed"]


def test_killed_command(postgresql, db, tmp_path):
    """A command that is killed, as by a lack of memory, has failed."""
    assert run(postgresql, tmp_path, "kill -KILL $$") == ("failed", "")


def test_no_such_command(cli, db):
    """A command that is not there: exit 1, and the run is recorded as failed."""
    done = ended(cli("run", "load", "60", "/nowhere/load"))
    assert done == (1, "", "load: FileNotFoundError\n")
    assert outcomes(db) == ["failed"]


def test_no_such_job(cli, db, tmp_path):
    """A job that the table does not know does not run: nobody would miss it."""
    done = ended(cli("run", "laod", "60", "touch", str(tmp_path / "ran")))
    assert done == (69, "", "laod: ForeignKeyViolation\n")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("same_machine", [True, False], ids=["one", "two"])
def test_one_at_a_time(postgresql, db, tmp_path, same_machine):
    """While it runs, it does not start again: on this machine by the lock on a file,
    on another one by the lock in the database."""
    other = tmp_path if same_machine else tmp_path / "other"
    other.mkdir(exist_ok=True)
    with running(postgresql, tmp_path) as (first, pid):
        outcome = run(postgresql, other, f"touch {tmp_path}/ran")[0]
        assert outcome == "busy"
        assert outcomes(db) == [None, "busy"]
        kill(pid)
        assert first.result(60)[0] == "failed"
    assert not (tmp_path / "ran").exists()
    assert run(postgresql, other, "true")[0] == "ok"


def test_other_jobs_run_beside_it(postgresql, db, tmp_path):
    """The locks are those of one job: another one runs at the same time."""
    db.execute("INSERT INTO job (name, every) VALUES ('clean', '1 day')")
    with running(postgresql, tmp_path), TemporaryFile() as said:
        args = (["true"], tmp_path, said, threading.Event())
        assert command.run(postgresql, "clean", *args) == "ok"


def test_busy_is_said(cli, postgresql, db, tmp_path):
    """A second run says so, and exits with 75."""
    with running(postgresql, tmp_path):
        assert ended(cli("run", "load", "60", "true")) == (75, "", "load: busy\n")


def test_sigterm(cli, db, tmp_path):
    """On SIGTERM the command is stopped with all that it started: exit 143."""
    script = f"sleep 600 & echo $! > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid"
    process = cli("run", "load", "600", *sh(f"{script}; wait"))
    wait_for((tmp_path / "pid").exists)
    pid = int((tmp_path / "pid").read_text())
    process.terminate()
    assert ended(process) == (143, "", "load: stopped\n")
    assert outcomes(db) == ["stopped"]
    wait_for(lambda: not is_alive(pid))


def test_timeout(postgresql, db, tmp_path):
    """A command that takes too long is stopped, and its run says so."""
    assert run(postgresql, tmp_path, "exec sleep 600", timeout=0.2)[0] == "timed out"
    assert outcomes(db) == ["timed out"]


def test_stubborn_command(tmp_path):
    """A command that ignores SIGTERM is killed after the time of grace."""
    ready = tmp_path / "ready"
    with (tmp_path / "lock").open("a") as lock, TemporaryFile() as said:
        script = f"trap '' TERM; touch {ready}; while :; do sleep 1; done"
        child = command.start(sh(script), said, lock.fileno())
        wait_for(ready.exists)
        command.stop(child, grace=0.1)
    assert child.returncode == -signal.SIGKILL


def test_killed_monitor(cli, postgresql, db, tmp_path):
    """Killed itself, it leaves its run open: `check` finds no sign of life. Its command
    lives on and still has the lock of the machine; the next run after that records the
    first as lost."""
    pids = tmp_path / "pid"
    script = f"echo $$ > {pids}.new; mv {pids}.new {pids}; exec sleep 600"
    process = cli("run", "load", "600", *sh(script))
    wait_for(pids.exists)
    process.kill()
    process.wait(60)
    try:
        assert run(postgresql, tmp_path, "true")[0] == "busy"
        db.execute("UPDATE run SET seen = now() - interval '2 minutes'")
        found = runs.late(db)
        assert [row[:2] for row in found] == [("load", "no sign of life")]
    finally:
        kill(int(pids.read_text()))
        process.communicate()  # close the pipes
    wait_for(lambda: run(postgresql, tmp_path, "true")[0] == "ok")
    seen = outcomes(db)
    assert (seen[0], seen[-1]) == ("lost", "ok")
    assert runs.late(db) == []


def test_lost_connection(postgresql, db, tmp_path, fault_proxy):
    """When the connection is lost, so is the lock: the command is stopped, and the
    caller gets the error."""
    proxy = fault_proxy(postgresql)
    with running(proxy.url, tmp_path, beat=0.05) as (future, pid):
        proxy.reset_all()
        with pytest.raises(psycopg.OperationalError):
            future.result(60)
        wait_for(lambda: not is_alive(pid))
    assert outcomes(db) == [None]


def test_signs_of_life(postgresql, db, tmp_path):
    """While the command runs, its row shows signs of life."""
    stopping = threading.Event()
    query = "SELECT FROM run WHERE seen > started"
    with running(postgresql, tmp_path, beat=0.05, stopping=stopping) as (future, _):
        wait_for(lambda: db.execute(query).rowcount)
        stopping.set()
        assert future.result(60)[0] == "stopped"


def test_no_database(cli, postgresql, tmp_path, fault_proxy):
    """Without the database the command does not run: exit 69, and nothing of the
    address is in what it says. `check` says so as well."""
    proxy = fault_proxy(postgresql)
    proxy.refuse()
    ran = tmp_path / "ran"
    args = ("run", "load", "60", "touch", str(ran))
    assert ended(cli(*args, url=proxy.url)) == (69, "", "load: OperationalError\n")
    assert ended(cli("check", url=proxy.url)) == (69, "", "check: OperationalError\n")
    assert not ran.exists()


def test_no_password(cli, db, postgresql):
    """An address that psycopg cannot read: the password in it is not shown."""
    address = postgresql.replace(f":{urlsplit(postgresql).password}@", ":s3%zzcret@")
    with pytest.raises(psycopg.Error, match="s3%zzcret"):
        psycopg.connect(address)  # its own message has it
    code, out, err = ended(cli("run", "load", "60", "true", url=address))
    assert code == 69
    assert "cret" not in out + err


def test_check(cli, db):
    """`check` prints what is late and exits with 1; when all is well it is silent."""
    assert ended(cli("check")) == (0, "", "")
    db.execute("UPDATE job SET since = '2026-01-01 12:00+00'")
    line = "load: no good run since 2026-01-01 12:00 UTC\n"
    assert ended(cli("check")) == (1, line, "")


def test_late(postgresql, db, tmp_path):
    """Late is a job without a good run in its time: one that never ran, and one whose
    runs all failed."""
    db.execute("UPDATE job SET since = now() - interval '2 days'")
    assert [row[:2] for row in runs.late(db)] == [("load", "no good run")]
    run(postgresql, tmp_path, "exit 1")
    assert len(runs.late(db)) == 1
    run(postgresql, tmp_path, "exit 0")
    assert runs.late(db) == []
    db.execute("UPDATE run SET ended = now() - interval '25 hours'")
    assert len(runs.late(db)) == 1


def test_usage(cli):
    """A call that makes no sense: exit 2, and how to call it."""
    for arguments in ((), ("run", "load", "60"), ("run", "load", "soon", "true")):
        code, out, err = ended(cli(*arguments))
        assert (code, out) == (2, "")
        assert err.startswith("usage: ")


# --8<-- [start:wrong]
def main_as_often_copied(pid_file, work):
    if pid_file.exists():
        print("already running")
        sys.exit()
    pid_file.write_text(str(os.getpid()))
    try:
        work()
    except Exception as error:
        print(f"failed: {error}")
    pid_file.unlink()


# --8<-- [end:wrong]


def test_often_copied_never_again(tmp_path):
    """Often copied: a run that was killed leaves its file, and the job never runs
    again; each time it exits with 0."""
    pid_file = tmp_path / "pid"
    source = inspect.getsource(main_as_often_copied)
    path = f"Path({str(pid_file)!r})"
    call = f"main_as_often_copied({path}, lambda: os.kill(os.getpid(), 9))"
    program = f"import os, sys\nfrom pathlib import Path\n{source}\n{call}"
    assert subprocess.run([sys.executable, "-c", program]).returncode == -9
    with pytest.raises(SystemExit) as stopped:
        main_as_often_copied(pid_file, None)
    assert not stopped.value.code


def test_often_copied_twice(tmp_path):
    """Often copied: two that start together both look before either has written, and
    both run."""
    both_looked = threading.Barrier(2, timeout=60)
    ran = []

    class SlowPath(type(tmp_path)):
        def exists(self):
            found = super().exists()
            both_looked.wait()
            return found

    def work():
        ran.append(1)
        both_looked.wait()  # neither removes the file before both have begun

    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            pool.submit(main_as_often_copied, SlowPath(tmp_path / "pid"), work)
    assert ran == [1, 1]


def test_often_copied_hides_the_error(tmp_path, capsys):
    """Often copied: a failure is a line that nobody reads, and the program returns as
    if all were well."""
    main_as_often_copied(tmp_path / "pid", lambda: 1 / 0)
    assert capsys.readouterr().out == "failed: division by zero\n"
