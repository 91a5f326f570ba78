"""Small servers of our own, for services that no package can stand in for.

Each is a program: `python -m cookbook.stand_ins.NAME`. It speaks the real protocol, and
refuses what the service would refuse. Its engine, in cookbook/engines/, starts it; the
pages name it, and say what it does not prove.
"""

import hashlib
from pathlib import Path

NAME = "the cookbook's stand-in"


def version_of(name: str) -> str:
    """The version of a stand-in: of its source, without importing what it needs."""
    source = Path(__file__).with_name(f"{name}.py")
    return hashlib.sha256(source.read_bytes()).hexdigest()[:8]
