"""SQLite: in this process. A place is a file."""

import shutil
import sqlite3
from pathlib import Path

from cookbook.engines import process
from cookbook.engines.base import Engine, Program, Server, Starter


class SQLite(Engine):
    name = "sqlite"
    title = "SQLite"
    env = "SQLITE_PATH"
    example = "cookbook.db"
    install = "it comes with Python"
    dialect = "sqlite"

    starter = Starter(
        body="""\
with closing(sqlite3.connect(address)) as conn:
    answer: int = conn.execute("SELECT 6 * 7").fetchone()[0]
return answer""",
        standard=("import sqlite3", "from contextlib import closing"),
    )

    def embedded(self) -> Program:
        return Program(Path(sqlite3.__file__), f"SQLite {sqlite3.sqlite_version}")

    def sqlalchemy_url(self, address: str) -> str:
        return f"sqlite:///{address}"

    def identify(self, url: str) -> tuple[str, str]:
        return self.title, sqlite3.sqlite_version

    def create_place(self, server: Server, name: str) -> str:
        folder = process.new_folder(self.name) / "data"  # holds the file alone
        folder.mkdir(mode=0o700)
        return str(folder / f"{name}.db")

    def drop_place(self, server: Server, url: str) -> None:
        shutil.rmtree(Path(url).parent.parent)
