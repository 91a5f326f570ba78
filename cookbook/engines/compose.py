"""Servers in containers: the services of docker-compose.yml, in a project of their own.

A project for each run, and ports that Docker chooses: two checkouts, or two runs in
one, do not meet.
"""

import functools
import os
import re
import secrets
import subprocess
from pathlib import Path

from cookbook.engines.base import Engine
from cookbook.errors import UnavailableError
from cookbook.paths import COMPOSE_FILE

_START_WITHIN = 900  # seconds; Db2 takes minutes, and an image may have to be pulled


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
    environment = engine.container_environment(folder)
    up = ["up", "--detach", "--wait", "--wait-timeout", str(_START_WITHIN), engine.name]
    done = _compose(project, *up, timeout=_START_WITHIN + 60, **environment)
    if done.returncode:
        logs = _compose(project, "logs", "--no-color", "--tail", "8", engine.name)
        raise UnavailableError(
            f"the service {engine.name} ({image(engine)}) did not get ready:\n"
            f"{_tail(done.stderr)}\n{_tail(logs.stdout)}"
        )

    def published(port: int | None) -> str:
        answer = _compose(project, "port", engine.name, str(port))
        return answer.stdout.strip().rpartition(":")[2]

    for port in engine.further_ports:
        engine.further_port(folder, port).write_text(published(port))
    return engine.container_url(folder, int(published(engine.port)))


def stop(project: str) -> None:
    _compose(project, "down", "--volumes", "--remove-orphans", "--timeout", "3")


def _compose(
    project: str, *arguments: str, timeout: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    names = re.findall(r"\$\{(COOKBOOK_\w+_PORT)", COMPOSE_FILE.read_text("utf-8"))
    return subprocess.run(
        [
            *("docker", "compose", "--project-name", project, "--profile", "*"),
            *("--file", str(COMPOSE_FILE), *arguments),
        ],
        env=os.environ
        | dict.fromkeys(names, "0")  # a port that Docker chooses
        | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def _tail(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.strip().splitlines()[-8:])
