"""A Docker engine, for the recipes that start containers themselves.

A place is a turn: tests look at all containers of the machine, so one has it at a time.
"""

import functools
import os
import subprocess

from filelock import FileLock

from cookbook.engines import compose, process
from cookbook.engines.base import Engine, Program, Server, Starter, on_path


class Docker(Engine):
    name = "docker"
    title = "Docker Engine"
    env = "DOCKER_HOST"
    example = "unix:///var/run/docker.sock"
    install = "start Docker, with compose 2.20 or newer"

    starter = Starter(
        body="""\
command = ["docker", "--host", address, "version", "--format", "{{.Server.Os}}"]
done = subprocess.run(command, check=True, capture_output=True, timeout=30)
return 42 if done.stdout else 0""",
        standard=("import subprocess",),
    )

    @property
    def no_server(self) -> str:
        return f"Set {self.env}, for example {self.example}, and start Docker"

    def native(self) -> Program | None:
        if compose.why_not():
            return None
        program = on_path("docker")
        return program and Program(program.path, " ".join(self.identify("")))

    def identify(self, url: str) -> tuple[str, str]:
        command = ["docker", "version", "--format", "{{.Server.Version}}"]
        done = subprocess.run(
            command,
            env={**os.environ, **({"DOCKER_HOST": url} if url else {})},
            capture_output=True,
            text=True,
            timeout=20,
        )
        if done.returncode:
            raise OSError(done.stderr.strip())
        return "Docker Engine", done.stdout.strip()

    def create_place(self, server: Server, name: str) -> str:
        turn().acquire()
        return server.url or self.example

    def drop_place(self, server: Server, url: str) -> None:
        """What a recipe starts, it removes: its tests look."""
        turn().release()


@functools.cache
def turn() -> FileLock:
    """The lock that all processes of this user share."""
    return FileLock(process.base_folder() / "docker.turn")
