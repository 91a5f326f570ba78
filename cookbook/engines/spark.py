"""Apache Spark: in the recipe's own process. It needs Java, and a JDBC driver.

Spark comes with the environment `pyspark`. An address here is the JDBC driver for
PostgreSQL: the path of its jar, or its Maven coordinates.
"""

import re
from pathlib import Path

from cookbook.engines.base import Engine, Program, Server, Starter, on_path
from cookbook.engines.java import Artifact, get_jars
from cookbook.errors import UnavailableError
from cookbook.paths import FETCHED

_JAVA = 17
_VERSION = "42.7.8"
_JARS_SHA256 = "c20d32cb618a86597bcb6614e6128226c29da1fbfaf4c803f2c5556ece5aab65"
_DRIVER = f"org.postgresql:postgresql:{_VERSION}"


class Spark(Engine):
    name = "spark"
    title = "Apache Spark"
    env = "POSTGRESQL_JDBC_DRIVER"
    example = _DRIVER
    install = f"`cookbook fetch pyspark`, a Java from {_JAVA} on in the PATH"
    fetches = f"the JDBC driver of PostgreSQL {_VERSION}, with Maven and a JDK"

    starter = Starter(
        body="""\
session = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
with session.getOrCreate() as spark:
    return spark.range(42).count()""",
        driver="from pyspark.sql import SparkSession",
        dependency="pyspark>=4.1",
    )

    @property
    def no_server(self) -> str:
        return f"Set {self.env}, for example {self.example}, and install Java {_JAVA}"

    @property
    def _jar(self) -> Path:
        return self.fetched / "jars" / f"postgresql-{_VERSION}.jar"

    def native(self) -> Program | None:
        # The one in the PATH: a recipe is told no JAVA_HOME.
        java = on_path("java")
        number = re.search(r"\d+", java.version) if java else None
        if not java or not number or int(number[0]) < _JAVA or not self._jar.is_file():
            return None
        try:
            product = " ".join(self.identify(""))
        except UnavailableError:
            return None
        return Program(java.path, f"{product}, JDBC {_VERSION}, {java.version}")

    def fetch(self, folder: Path) -> None:
        driver = Artifact(_DRIVER, without=("*:*",))
        get_jars([driver], folder / "jars", _JARS_SHA256, _JAVA)

    def identify(self, url: str) -> tuple[str, str]:
        packages = "lib/python*/site-packages/pyspark-*.dist-info"
        for found in (FETCHED / "pyspark").glob(packages):
            return self.title, found.name.split("-")[1].removesuffix(".dist")
        raise UnavailableError("no environment for it here: `cookbook fetch pyspark`")

    def create_place(self, server: Server, name: str) -> str:
        """Nothing is kept between two sessions: each is a place."""
        return server.url or str(self._jar)

    def drop_place(self, server: Server, url: str) -> None:
        """What a session holds ends with it."""
