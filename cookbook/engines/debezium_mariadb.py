"""Debezium's connector for MariaDB: jars, which run in the recipe's own process.

An address here is the folder of the jars.
"""

import re
from pathlib import Path

from cookbook.engines.base import Engine, Program, Server, on_path
from cookbook.engines.java import Artifact, get_jars
from cookbook.errors import UnavailableError

_JAVA = 17
_VERSION = "3.5.0.Final"
_JARS_SHA256 = "45360f87e4b8fd3e5c9cd4dad4de0a6bc5d66fa6b76dead56b9b094c6ae65fba"
_JARS = (
    f"io.debezium:debezium-embedded:{_VERSION}",
    f"io.debezium:debezium-connector-mariadb:{_VERSION}",
    "org.slf4j:slf4j-simple:1.7.36",  # or nobody hears what Debezium has to say
)


class DebeziumMariaDB(Engine):
    name = "debezium_mariadb"
    title = "Debezium for MariaDB"
    env = "DEBEZIUM_JARS"
    example = ".engines/debezium_mariadb/jars"
    install = f"a Java from {_JAVA} on in the PATH"
    fetches = f"Debezium's MariaDB connector {_VERSION}, with Maven and a JDK"

    @property
    def no_server(self) -> str:
        return f"Set {self.env}, for example {self.example}, and install Java {_JAVA}"

    @property
    def _folder(self) -> Path:
        return self.fetched / "jars"

    def native(self) -> Program | None:
        # The one in the PATH: a recipe is told no JAVA_HOME.
        java = on_path("java")
        number = re.search(r"\d+", java.version) if java else None
        if not java or not number or int(number[0]) < _JAVA:
            return None
        try:
            product = " ".join(self.identify(str(self._folder)))
        except UnavailableError:
            return None
        return Program(java.path, f"{product}, {java.version}")

    def fetch(self, folder: Path) -> None:
        wanted = [Artifact(one) for one in _JARS]
        get_jars(wanted, folder / "jars", _JARS_SHA256, _JAVA)

    def identify(self, url: str) -> tuple[str, str]:
        for found in Path(url or self._folder).glob("debezium-connector-mariadb-*.jar"):
            return self.title, found.stem.rpartition("-")[2]
        raise UnavailableError("no jars of it here: `cookbook fetch debezium_mariadb`")

    def create_place(self, server: Server, name: str) -> str:
        """It keeps nothing: what it has read is in files that the recipe names."""
        return server.url or str(self._folder)

    def drop_place(self, server: Server, url: str) -> None:
        """What an engine holds ends with it."""
