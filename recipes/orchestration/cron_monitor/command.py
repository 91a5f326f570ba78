"""Run a command for one job, once at a time on all machines."""

import fcntl
import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import IO

import psycopg

from . import runs


# --8<-- [start:run]
def run(
    url: str,
    job: str,
    command: list[str],
    locks: Path,  # a folder of this machine
    said: IO[bytes],  # a file, for what the command prints
    stopping: Event,  # set it to stop the command
    timeout: float = 3600,  # seconds
    beat: float = 10,  # seconds between two signs of life
) -> str:
    """Run the command, unless the job runs already. Return how it ended: ok, failed,
    busy, timed out or stopped.

    Raises OSError (no such command), ForeignKeyViolation (no such job), and
    OperationalError: the lock is lost with the connection, so the command is stopped.
    """
    with runs.connect(url) as conn:
        number = runs.begin(conn, job, socket.gethostname())
        outcome = "failed"
        try:
            with (locks / f".{job}.lock").open("a") as lock:
                if take(conn, job, lock):
                    runs.end_lost(conn, job, number)
                    # The command has the lock too, should only this process be killed.
                    child = start(command, said, lock.fileno())
                    outcome = watch(child, conn, number, stopping, timeout, beat)
                else:
                    outcome = "busy"
        finally:
            runs.end(conn, number, outcome)
    return outcome


def take(conn: psycopg.Connection, job: str, lock: IO[str]) -> bool:
    """Take the lock of this machine, and that of all; False if either is not free."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    query = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
    return conn.execute(query, (f"job {job}",)).fetchone() == (True,)


def watch(
    child: "subprocess.Popen[bytes]",
    conn: psycopg.Connection,
    number: int,
    stopping: Event,
    timeout: float,
    beat: float,
) -> str:
    start = last = time.monotonic()
    try:
        while child.poll() is None:
            now = time.monotonic()
            if stopping.is_set() or now > start + timeout:
                return "stopped" if stopping.is_set() else "timed out"
            if now > last + beat:
                runs.beat(conn, number)
                last = now
            with suppress(subprocess.TimeoutExpired):
                child.wait(0.1)
        return "failed" if child.returncode else "ok"
    finally:
        stop(child)


# --8<-- [end:run]


def start(command: list[str], said: IO[bytes], lock: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=subprocess.STDOUT,
        process_group=0,
        pass_fds=[lock],
    )


def stop(child: "subprocess.Popen[bytes]", grace: float = 10) -> None:
    """If it still runs, end it with all that it started: SIGTERM, then SIGKILL."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(grace)
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
