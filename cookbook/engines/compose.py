"""Servers in containers: the services of docker-compose.yml, in a project of their own.

A project for each run, and ports that Docker chooses: two checkouts, or two runs in
one, do not meet.
"""

import functools
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cookbook.engines.base import Engine
from cookbook.errors import BrokenServerError, UnavailableError
from cookbook.paths import COMPOSE_FILE

_START_WITHIN = 900  # seconds; Db2 takes minutes, and an image may have to be pulled
_TELL_EVERY = 15  # seconds


@functools.cache
def why_not() -> str | None:
    """Why no container can be started here; None where one can."""
    for command in (["docker", "compose", "version"], ["docker", "info"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        except OSError:
            return "docker is not installed"
        except subprocess.TimeoutExpired:
            return f"`{' '.join(command)}` does not answer"
        if done.returncode:
            said = (done.stderr.strip() or "it failed").splitlines()[-1]
            return f"`{' '.join(command)}` says: {said}"
    return None


def image(engine: Engine) -> str:
    """The image of the engine's service, as docker-compose.yml names it."""
    text = COMPOSE_FILE.read_text("utf-8")
    found = re.search(rf"(?m)^  {engine.name}:\n(?:    .*\n)*?    image: (\S+)", text)
    if not found:
        raise UnavailableError(f"docker-compose.yml has no service {engine.name}")
    return found[1]


def new_project() -> str:
    return f"cookbook-{secrets.token_hex(4)}"


def start(engine: Engine, project: str, folder: Path) -> str:
    """Start the engine's service, wait until it is healthy, and return its address."""
    if reason := why_not():
        raise UnavailableError(reason)
    if failure := _up(engine, project, engine.container_environment(folder)):
        raise BrokenServerError(
            f"the service {engine.name} ({image(engine)}) did not get ready:\n"
            f"{_tail(failure)}\n{_tail(_log(engine, project, 8))}"
        )

    def published(port: int | None) -> str:
        answer = _compose(project, "port", engine.name, str(port))
        return answer.stdout.strip().rpartition(":")[2]

    for port in engine.further_ports:
        engine.further_port(folder, port).write_text(published(port))
    return engine.container_url(folder, int(published(engine.port)))


def _up(engine: Engine, project: str, environment: dict[str, str]) -> str | None:
    """Bring the service up, and tell what takes long; return why it failed."""
    wait = ("--detach", "--wait", "--wait-timeout", str(_START_WITHIN))
    started = time.monotonic()
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(
            _command(project, "up", *wait, engine.name),
            env=_environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        ) as up,
    ):
        while True:
            try:
                code = up.wait(timeout=_TELL_EVERY)
            except subprocess.TimeoutExpired:
                took = time.monotonic() - started
                said.seek(0)
                doing = [
                    *_last_line(said.read()),
                    *_last_line(_log(engine, project, 1)),
                ]
                print(
                    f"{engine.name}: {took:.0f} s so far; {'; '.join(doing)}",
                    file=sys.stderr,
                    flush=True,
                )
                if took > _START_WITHIN + 60:
                    up.kill()
            else:
                said.seek(0)
                return said.read() if code else None


def _log(engine: Engine, project: str, lines: int) -> str:
    return _compose(
        *(project, "logs", "--no-color", "--no-log-prefix"),
        *("--tail", str(lines), engine.name),
    ).stdout


def _last_line(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()[-1:]]


def stop(project: str) -> None:
    _compose(project, "down", "--volumes", "--remove-orphans", "--timeout", "3")


def _compose(project: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(project, *arguments),
        env=_environment({}),
        capture_output=True,
        text=True,
        timeout=120,
    )


def _command(project: str, *arguments: str) -> list[str]:
    command = ["docker", "compose", "--progress", "plain", "--project-name", project]
    return [*command, "--profile", "*", "--file", str(COMPOSE_FILE), *arguments]


def _environment(more: dict[str, str]) -> dict[str, str]:
    names = re.findall(r"\$\{(COOKBOOK_\w+_PORT)", COMPOSE_FILE.read_text("utf-8"))
    return {
        **os.environ,
        **dict.fromkeys(names, "0"),  # a port that Docker chooses
        **more,
    }


def _tail(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.strip().splitlines()[-8:])
