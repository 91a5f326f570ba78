"""A database that is killed under load and brought back, and the service that needs it.

The service is the recipe's, under uvicorn with two workers; the load is a process of
its own. PostgreSQL is killed with all its processes, is away, and starts again on the
data, which it has to recover. Timed is from when it accepts a connection again.

A wrong answer, or an order that was accepted and is not there afterwards, is an error
here: then there is nothing to publish.
"""

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psutil
import psycopg

from benchmarks import servers as _durable  # noqa: F401 - adds the engine
from benchmarks.common import Progress, bar, chart, drivers
from cookbook.engines import process
from cookbook.errors import UnavailableError
from cookbook.pages.chart import Chart
from cookbook.servers import Servers
from recipes.services import fastapi_service as recipe
from tests.recipes.services.serving import Load, Service, wait_for

ENOUGH = 200  # orders that are accepted before the outage, and again after it
PATIENCE = 300.0  # seconds, for whatever has to happen
APP = "recipes.services.fastapi_service:make_app"


def run(quick: bool, progress: Progress) -> Chart:
    """Drill, again and again, on one database."""
    away, calm, runs = (0.5, 0.5, 1) if quick else (5, 6, 20)
    drills = []
    with closing(Database()) as database:
        with psycopg.connect(database.url) as conn:
            conn.execute(recipe.SCHEMA)
        for number in range(1, runs + 1):
            progress(f"{number} of {runs}")
            drills.append(drill(database, away, calm))
        versions = {database.server.product: database.server.version}
    total = sum((one.requests for one in drills), Counter[str]())
    title = (
        f"Seconds from the database's return until orders are accepted again."
        f" {runs} outages of {away:g} s, {total['sent']:,} requests:"
        f" {total['served']:,} served, {total['refused']:,} answered with 503,"
        f" {total['failed']:,} not answered, {total['wrong']:,} answered wrongly."
        f" {total['accepted']:,} orders were accepted, {total['lost']:,} of them lost."
    )
    bars = [
        bar("until one is accepted", "recipe", [one.first for one in drills]),
        bar("until none is refused", "recipe", [one.every for one in drills]),
    ]
    versions |= drivers("psycopg", "psycopg-pool", "fastapi", "uvicorn")
    return chart(title, "s", "lower", runs, versions, {"fastapi_service": bars})


@dataclass
class Drill:
    """One outage, as the load saw it."""

    requests: Counter[str]
    first: float  # seconds until an order was accepted
    every: float  # seconds until none was refused any more


def drill(database: "Database", away: float, calm: float) -> Drill:
    """Stop when nothing was refused for `calm` seconds.

    Raises RuntimeError at a wrong answer, and at a lost order.
    """
    with psycopg.connect(database.url) as conn:
        conn.execute("TRUNCATE orders")
    command = ["-m", "uvicorn", "--factory", APP, "--workers=2", "--port=0"]
    command += ["--no-access-log", "--timeout-worker-healthcheck=60"]
    with (
        closing(Service(command, {"POSTGRESQL_URL": database.url})) as service,
        closing(Load(service.when_up(workers=2))) as load,
    ):
        wait_for(lambda: load.puts[204] >= ENOUGH, PATIENCE)
        database.kill()
        refused = load.puts[503]
        time.sleep(away)
        wait_for(lambda: load.puts[503] > refused, PATIENCE)
        back = database.start()
        accepted = load.puts[204]
        wait_for(lambda: load.puts[204] >= accepted + ENOUGH, PATIENCE)
        wait_for(lambda: time.monotonic() > load.last_failure + calm, PATIENCE)
    said = [json.loads(line) for line in load.lines]
    with psycopg.connect(database.url) as conn:
        rows = conn.execute("SELECT id::text, total FROM orders").fetchall()
    requests = count(said, dict(rows))
    if requests["wrong"] or requests["lost"]:
        raise RuntimeError(f"{requests}")
    first = min(one["at"] for one in said if one["put"] == 204 and one["at"] > back)
    return Drill(requests, first - back, max(first, load.last_failure) - back)


def count(said: list[dict[str, Any]], stored: dict[str, Decimal]) -> Counter[str]:
    """Sort the requests; `stored` is what the database holds of them at the end."""
    found = Counter[str]()
    for one in said:
        found["sent"] += 1
        found[kind_of(one["put"], one["put"] == 204)] += 1
        if one["put"] == 204:
            found["sent"] += 1
            is_right = one["get"] == 200 and json.loads(one["got"]) == {
                "total": one["total"]
            }
            found[kind_of(one["get"], is_right)] += 1
            found["accepted"] += 1
            found["lost"] += stored.get(one["key"]) != Decimal(one["total"])
    return found


def kind_of(status: int | str, is_right: bool) -> str:
    if isinstance(status, str):  # the name of the client's error
        return "failed"
    return "served" if is_right else "refused" if status == 503 else "wrong"


class Database:
    """A PostgreSQL of our own, which can be killed and started again.

    Raises UnavailableError: there is none, or it is not ours to kill.
    """

    def __init__(self) -> None:
        name = "durable_postgresql"
        os.environ["TMPDIR"] = tempfile.gettempdir()  # on the disk, not in memory
        self._servers = Servers()
        self._servers.start([name])
        if reason := self._servers.missing.get(name):
            raise UnavailableError(reason)
        self.server = self._servers.running[name]
        if self.server.provider not in ("embedded", "native"):
            raise UnavailableError(f"the {self.server.provider} PostgreSQL is not ours")
        self.url = self.server.url
        with psycopg.connect(self.url) as conn:
            parent = psutil.Process(conn.info.backend_pid).ppid()
        self._process = psutil.Process(parent)
        self._folder, self._state = next(
            (folder, state)
            for folder, state in process.states()
            if state.get("server") == process.owner(parent)
        )
        self._command = self._process.cmdline()
        self._user = self._process.uids().real, self._process.gids().real

    def kill(self) -> None:
        """Leave no process of it alive, as when the machine loses its power."""
        everything = [self._process, *self._process.children(recursive=True)]
        for one in everything:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(everything, PATIENCE)

    def start(self) -> float:
        """Return when it accepted a connection, a time of time.monotonic()."""
        user, group = self._user if os.geteuid() == 0 else (None, None)
        started = subprocess.Popen(
            self._command,
            cwd=self._folder,
            env={"LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
        )
        self._process = psutil.Process(started.pid)
        server = {"server": process.owner(started.pid)}
        process.write_state(self._folder, self._state | server)
        wait_for(self._answers, PATIENCE)
        return time.monotonic()

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(self.url, connect_timeout=2).close()
            return True
        return False

    def close(self) -> None:
        self._servers.stop()
