"""Java on this machine, and jars from Maven: for the servers that need them."""

import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cookbook import fetch
from cookbook.engines.base import Program, program
from cookbook.errors import UnavailableError

_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>cookbook</groupId>
  <artifactId>cookbook</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>{}</dependencies>
</project>
"""
_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.9.0"


@cache
def java(version: int) -> Program | None:
    """The first Java of that version or a later one: JAVA_HOME, PATH, usual places."""
    places = [Path(home) / "bin" for home in (os.environ.get("JAVA_HOME"),) if home]
    if found := shutil.which("java"):
        places.append(Path(found).parent)
    for folder, pattern in (
        ("/usr/lib/jvm", "*/bin"),
        ("/Library/Java/JavaVirtualMachines", "*/Contents/Home/bin"),
        ("/opt/homebrew/opt", "openjdk*/bin"),
    ):
        places += sorted(Path(folder).glob(pattern))
    for place in places:
        one = program((place / "java").resolve())
        number = re.search(r"\d+", one.version) if one else None
        if number and int(number[0]) >= version:
            return one
    return None


@dataclass(frozen=True)
class Artifact:
    """What Maven gets, with all that it needs, save what is left out."""

    coordinates: str  # group:artifact:version
    without: tuple[str, ...] = ()  # group:artifact, or *:* for all

    def as_xml(self) -> str:
        left_out = (it.split(":") for it in self.without)
        exclusions = "".join(
            f"<exclusion><groupId>{group}</groupId><artifactId>{name}</artifactId>"
            "</exclusion>"
            for group, name in left_out
        )
        group, name, version = self.coordinates.split(":")
        return (
            f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId>"
            f"<version>{version}</version><exclusions>{exclusions}</exclusions>"
            "</dependency>"
        )


def get_jars(
    artifacts: Sequence[Artifact], into: Path, sha256: str, jdk: int
) -> Program:
    """Get artifacts into a new directory, with Maven; return the Java.

    sha256: one hash, over the names and the contents of all the files. jdk: the oldest
    version that will do. Raises UnavailableError.
    """
    maven = fetch.tool("mvn", "apt-get install maven")
    runtime = java(jdk)
    if not runtime or not runtime.path.with_name("javac").exists():
        raise UnavailableError(f"no JDK {jdk} or newer: default-jdk-headless has one")
    folder = into.parent
    wanted = "".join(artifact.as_xml() for artifact in artifacts)
    (folder / "pom.xml").write_text(_POM.format(wanted), "utf-8")
    copy = ("--batch-mode", "--quiet", f"{_PLUGIN}:copy-dependencies")
    options = ("-DincludeScope=runtime", f"-DoutputDirectory={into}")
    home = {"JAVA_HOME": str(runtime.path.parent.parent)}
    fetch.run([maven, *copy, *options], folder, {**os.environ, **home})
    digest = hashlib.sha256()
    for path in sorted(into.iterdir()):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    if (got := digest.hexdigest()) != sha256:
        raise UnavailableError(f"the jars are not those expected: {got}")
    return runtime
