"""The words and signs that all pages share."""

import html
import re
from collections.abc import Iterable
from datetime import datetime

from cookbook.ledger import EngineUsed
from cookbook.status import State

SAYS: dict[State, str] = {
    "verified": "Verified",
    "failed": "Failed",
    "changed": "Changed since its last run",
    "not_run": "Not run in this build",
}
SIGNS: dict[State, str] = {
    "verified": "✓",
    "failed": "✗",
    "changed": "↻",
    "not_run": "○",
}


def product(used: EngineUsed) -> str:
    """`MariaDB 10.11.14 (a stand-in for MySQL)`."""
    stand_in = f" (a stand-in for {used.stand_in_for})" if used.stand_in_for else ""
    return f"{used.name} {used.version}".strip() + stand_in


def number(count: int, noun: str) -> str:
    """`1 recipe`, `2 recipes`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listing(words: Iterable[str]) -> str:
    """`a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def line(text: str) -> str:
    """Any text as one line of HTML; `code` stays code."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)


def time(moment: datetime) -> str:
    stamp = f"{moment:%Y-%m-%dT%H:%M:%SZ}"
    return f'<time datetime="{stamp}">{moment:%Y-%m-%d %H:%M} UTC</time>'
