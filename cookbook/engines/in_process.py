"""A stand-in of the cookbook's own that runs in threads of this process.

A place is a stand-in: a vault, or a tenancy, of its own.
"""

import contextlib
import importlib.util
import shutil
import sys
import threading
from abc import abstractmethod
from pathlib import Path
from socketserver import BaseServer
from typing import ClassVar
from urllib.parse import urlsplit

from cookbook.engines import process
from cookbook.engines.base import Engine, Program, Server
from cookbook.stand_ins import NAME, version_of

_running: dict[str, tuple[BaseServer, Path]] = {}  # by address, with its folder


class InProcess(Engine):
    library: ClassVar[str]  # the module that its stand-in needs

    @abstractmethod
    def make(self, name: str, folder: Path) -> tuple[BaseServer, str]:
        """A stand-in that keeps its files in the folder, and its address."""

    @abstractmethod
    def ask(self, url: str) -> tuple[str, str]:
        """Ask the stand-in at that address its product and version."""

    def embedded(self) -> Program | None:
        if not importlib.util.find_spec(self.library):
            return None
        return Program(Path(sys.executable), " ".join(self.identify("")))

    def identify(self, url: str) -> tuple[str, str]:
        if not url:
            return NAME, version_of(self.name)
        if urlsplit(url).hostname != "127.0.0.1":
            raise ValueError("it is not on loopback")
        return self.ask(url)

    def create_place(self, server: Server, name: str) -> str:
        """Start one, or take the one that the environment names: it is not emptied."""
        if server.url:
            return server.url
        folder = process.new_folder(self.name)
        folder.chmod(0o700)
        one, address = self.make(name, folder)
        threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True).start()
        _running[address] = one, folder
        return address

    def drop_place(self, server: Server, url: str) -> None:
        with contextlib.suppress(KeyError):
            one, folder = _running.pop(str(url))
            one.shutdown()
            one.server_close()
            shutil.rmtree(folder, ignore_errors=True)


def behind(address: str) -> BaseServer:
    """The stand-in at that address, for tests that look into it."""
    return _running[str(address)][0]
