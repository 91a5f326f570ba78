"""Where things are in the checkout."""

import os
from pathlib import Path

ROOT = Path(__file__).parent.parent
RECIPES = ROOT / "recipes"
TESTS = ROOT / "tests" / "recipes"
DOCS = ROOT / "docs"
BUILD = ROOT / "build"
LEDGER = BUILD / "ledger.json"
COMPOSE_FILE = ROOT / "docker-compose.yml"
# Servers that `cookbook fetch` got. Several checkouts may share the directory.
FETCHED = Path(os.environ.get("COOKBOOK_ENGINES") or ROOT / ".engines").absolute()


def lock_of(environment: str) -> Path:
    """The file that pins what a virtual environment beside the main one holds."""
    return ROOT / f"requirements-{environment}.lock"
