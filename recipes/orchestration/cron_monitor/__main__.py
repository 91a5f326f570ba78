# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# arguments = ["demo"]
# ///
"""Run a job from cron once at a time, and notice when it did not run.

This program stands in front of the command in the crontab. It takes a lock, records the
run in a table, and prints what the command said only if that failed. `check` names what
is late. Use it for commands that must not meet themselves, on one machine or on many.
"""

import os
import shutil
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from threading import Event

import psycopg

if not __package__:  # run as a file: the folder above it is where the package lies
    folder = Path(__file__).resolve().parent
    sys.path.insert(0, str(folder.parent))
    __package__ = folder.name

from .command import run
from .runs import SCHEMA, connect, late

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)

# --8<-- [start:main]
EXIT = {"ok": 0, "failed": 1, "busy": 75, "timed out": 124, "stopped": 143}
USAGE = "usage: cron_monitor run JOB SECONDS COMMAND... | check | demo"


def run_command(url: str, job: str, seconds: int, command: list[str]) -> int:
    """What cron calls. Prints nothing if all is well: cron mails what is printed."""
    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    with TemporaryFile() as said:
        try:
            outcome = run(url, job, command, Path.home(), said, stopping, seconds)
            code = EXIT[outcome]
        except (psycopg.Error, OSError) as error:
            # Only the kind: psycopg quotes from an address that it cannot read.
            outcome = type(error).__name__
            code = 69 if isinstance(error, psycopg.Error) else 1
        if code:
            said.seek(0)
            shutil.copyfileobj(said, sys.stderr.buffer)
            print(f"{job}: {outcome}", file=sys.stderr)
    return code


def check(url: str) -> int:
    """Print what is late; 1 if anything is, 69 if the database does not answer."""
    try:
        with connect(url) as conn:
            found = late(conn)
    except psycopg.Error as error:
        print(f"check: {type(error).__name__}", file=sys.stderr)
        return 69
    for job, lacks, since in found:
        print(f"{job}: {lacks} since {since.astimezone(UTC):%Y-%m-%d %H:%M} UTC")
    return int(bool(found))


# --8<-- [end:main]


def demo(url: str) -> int:
    with connect(url) as conn, TemporaryDirectory() as home, TemporaryFile() as said:
        conn.execute(SCHEMA)
        every = "('nightly', '25 hours'), ('weekly', '8 days')"
        conn.execute(f"INSERT INTO job (name, every) VALUES {every}")
        for script in ("exit 0", "exit 3"):
            command = ["sh", "-c", script]
            outcome = run(url, "nightly", command, Path(home), said, Event())
            print(f"{script}: {outcome}, exit code {EXIT[outcome]}")
        long_ago = datetime(2026, 1, 1, tzinfo=UTC)
        conn.execute("UPDATE job SET since = %s WHERE name = 'weekly'", (long_ago,))
    print("check says:", check(url))
    return 0


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    match sys.argv[1:]:
        case ["run", job, seconds, *command] if command and seconds.isdecimal():
            sys.exit(run_command(url, job, int(seconds), command))
        case ["check"]:
            sys.exit(check(url))
        case ["demo"]:
            sys.exit(demo(url))
        case _:
            print(USAGE, file=sys.stderr)
            sys.exit(2)


if __name__ == "__main__":
    main()
