"""Where things are in the checkout."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
RECIPES = ROOT / "recipes"
TESTS = ROOT / "tests" / "recipes"
DOCS = ROOT / "docs"
BUILD = ROOT / "build"
LEDGER = BUILD / "ledger.json"
COMPOSE_FILE = ROOT / "docker-compose.yml"
