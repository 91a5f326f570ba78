"""Python-Markdown extension: what the ledger knows, as part of a page.

A line `<!-- verified KIND arguments -->` outside of code becomes Markdown:

    strip ID...         how these recipes stand: one strip for each set of engines
    file ID...          the whole files: download, how to run them, what they print
    tests ID...         the sentences that their tests prove
    matrix [CHAPTER]    every recipe, and the engines it is verified on
    summary             one sentence: how many, on what, when
    engine NAME         the facts of an engine
    chart NAME GROUP    bars from benchmarks/results/NAME.json

Anything else ends the build. It runs before the snippets extension (priority 32), so
that what it writes may include files.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor

from cookbook.catalog import did_you_mean
from cookbook.pages import recipe
from cookbook.pages.chart import chart
from cookbook.pages.data import Data, DirectiveError
from cookbook.pages.engine import engine
from cookbook.pages.overview import matrix, summary
from cookbook.paths import ROOT

KINDS: dict[str, Callable[..., str]] = {
    "strip": recipe.strip,
    "file": recipe.file,
    "tests": recipe.tests,
    "matrix": matrix,
    "summary": summary,
    "engine": engine,
    "chart": chart,
}

_DIRECTIVE = re.compile(r"^(?P<indent>\s*)<!--\s*verified\b(?P<words>.*?)-->\s*$")
_FENCE = re.compile(r"^\s*(?P<mark>`{3,}|~{3,})")


class VerifiedExtension(Extension):
    """`markdown_extensions: [cookbook.markdown]`."""

    def __init__(self, **options: Any) -> None:
        self.config = {
            "ledger": ["build/ledger.json", "The ledger's place in the checkout"],
            "results": ["benchmarks/results", "The folder of the measured results"],
        }
        super().__init__(**options)

    def extendMarkdown(self, md: Markdown) -> None:
        places = ROOT / self.getConfig("ledger"), ROOT / self.getConfig("results")
        md.preprocessors.register(_Verified(md, Data(*places)), "verified", 33)


def makeExtension(**options: Any) -> VerifiedExtension:
    return VerifiedExtension(**options)


class _Verified(Preprocessor):
    def __init__(self, md: Markdown, data: Data) -> None:
        super().__init__(md)
        self._data = data

    def run(self, lines: list[str]) -> list[str]:
        return list(self._run(lines))

    def _run(self, lines: list[str]) -> Iterator[str]:
        fence = ""
        for line in lines:
            if found := _FENCE.match(line):
                if not fence:
                    fence = found["mark"]
                elif line.strip().startswith(fence) and not line.strip(f" {fence[0]}"):
                    fence = ""
            directive = None if fence else _DIRECTIVE.match(line)
            if not directive:
                yield line
                continue
            for written in render(self._data, directive["words"]).splitlines():
                yield directive["indent"] + written if written else ""


def render(data: Data, words: str) -> str:
    """The Markdown that a directive stands for. Raises DirectiveError."""
    kind, *arguments = words.split() or [""]
    directive = " ".join(["<!-- verified", *words.split(), "-->"])
    if kind not in KINDS:
        known = f"{did_you_mean(kind, KINDS)} (known: {', '.join(KINDS)})"
        raise DirectiveError(f"{directive}: there is no kind {kind!r}{known}")
    try:
        inspect.signature(KINDS[kind]).bind(data, *arguments)
        return f"\n{KINDS[kind](data, *arguments)}\n"
    except (DirectiveError, LookupError, TypeError) as error:
        raise DirectiveError(f"{directive}: {error.args[0]}") from error
