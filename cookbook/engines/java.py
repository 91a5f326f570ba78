"""A Java on this machine, for the servers that need one."""

import os
import re
import shutil
from functools import cache
from pathlib import Path

from cookbook.engines.base import Program, program


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
