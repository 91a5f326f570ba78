"""SQLite: in this process. A place is a file."""

import sqlite3
import tempfile
from pathlib import Path

from cookbook.engines.base import Engine, Program, Server


class SQLite(Engine):
    name = "sqlite"
    title = "SQLite"
    env = "SQLITE_PATH"
    example = "cookbook.db"
    install = "it comes with Python"

    def embedded(self) -> Program:
        return Program(Path(sqlite3.__file__), sqlite3.sqlite_version)

    def identify(self, url: str) -> tuple[str, str]:
        return self.title, sqlite3.sqlite_version

    def create_place(self, server: Server, name: str) -> str:
        folder = Path(tempfile.mkdtemp(prefix="cookbook-sqlite-"))
        return str(folder / f"{name}.db")

    def drop_place(self, server: Server, url: str) -> None:
        folder = Path(url).parent
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
