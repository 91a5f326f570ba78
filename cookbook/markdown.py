"""Python-Markdown extension: what the ledger knows, as part of a page.

A line `<!-- verified KIND arguments -->` outside of code becomes Markdown:

    strip ID...         how these recipes stand: one strip for each set of engines
    file ID...          the whole files, their downloads, how to run them, what they print
    tests ID...         the sentences that their tests prove
    matrix [CHAPTER]    every recipe and the engines it is verified on
    summary             one sentence: how many, on what, when
    engine NAME         the facts of an engine
    chart NAME GROUP    bars from benchmarks/results/NAME.json

Anything else ends the build. It runs before the snippets extension (priority 32), so that
what it writes may include files.
"""

import ast
import functools
import html
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor
from pydantic import BaseModel, ValidationError

from cookbook import catalog, ledger, status
from cookbook.catalog import Recipe, did_you_mean
from cookbook.engines import ENGINES, engine, serving
from cookbook.ledger import EngineUsed, Ledger
from cookbook.paths import DOCS, ROOT, TESTS
from cookbook.status import Standing, State, overall, worst

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
STAND_IN, NOT_FOR_IT = "≈", "–"
OFTEN_COPIED = "Often copied: "

_DIRECTIVE = re.compile(r"^(?P<indent>\s*)<!--\s*verified\b(?P<words>.*?)-->\s*$")
_FENCE = re.compile(r"^\s*(?P<fence>`{3,}|~{3,})")


class DirectiveError(ValueError):
    """A page asks for something that there is not."""


class VerifiedExtension(Extension):
    """`markdown_extensions: [cookbook.markdown]`."""

    def __init__(self, **options: Any) -> None:
        self.config = {
            "ledger": ["build/ledger.json", "The ledger, relative to the checkout"],
            "results": ["benchmarks/results", "The folder of the measured results"],
        }
        super().__init__(**options)

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        directives = Directives(
            ROOT / self.getConfig("ledger"), ROOT / self.getConfig("results")
        )
        md.preprocessors.register(_Verified(md, directives), "verified", 33)


def makeExtension(**options: Any) -> VerifiedExtension:  # noqa: N802
    return VerifiedExtension(**options)


class _Verified(Preprocessor):
    def __init__(self, md: Markdown, directives: "Directives") -> None:
        super().__init__(md)
        self._directives = directives

    def run(self, lines: list[str]) -> list[str]:
        return list(self._run(lines))

    def _run(self, lines: list[str]) -> Iterator[str]:
        fence = ""
        for line in lines:
            if found := _FENCE.match(line):
                mark = found["fence"]
                if not fence:
                    fence = mark
                elif mark.startswith(fence) and line.strip() == mark:
                    fence = ""
            directive = None if fence else _DIRECTIVE.match(line)
            if directive:
                for written in self._directives.render(directive["words"]).splitlines():
                    yield directive["indent"] + written if written else ""
            else:
                yield line


@dataclass
class Directives:
    """What the directives render, from one ledger."""

    ledger_file: Path
    results: Path
    _standings: dict[str, list[Standing]] = field(default_factory=dict)

    @functools.cached_property
    def _ledger(self) -> Ledger:
        try:
            changed = self.ledger_file.stat().st_mtime_ns
        except OSError:
            return Ledger()
        return _read_ledger(self.ledger_file, changed)

    def render(self, words: str) -> str:
        """The Markdown for the words of a directive. Raises DirectiveError."""
        kinds: dict[str, Callable[..., str]] = {
            "strip": self.strip,
            "file": self.file,
            "tests": self.tests,
            "matrix": self.matrix,
            "summary": self.summary,
            "engine": self.engine,
            "chart": self.chart,
        }
        kind, *arguments = words.split() or [""]
        try:
            if kind not in kinds:
                known = f"{did_you_mean(kind, kinds)} (known: {', '.join(kinds)})"
                raise DirectiveError(f"there is no kind {kind!r}{known}")
            return "\n" + kinds[kind](*arguments) + "\n"
        except (DirectiveError, LookupError, TypeError) as error:
            text = error.args[0] if error.args else error
            directive = " ".join(["verified", *words.split()])
            raise DirectiveError(f"<!-- {directive} -->: {text}") from error

    def _of(self, recipe: Recipe) -> list[Standing]:
        if recipe.id not in self._standings:
            self._standings[recipe.id] = status.standings(recipe, self._ledger)
        return self._standings[recipe.id]

    # On the page of a recipe.

    def strip(self, *ids: str) -> str:
        groups: dict[tuple[str, ...], list[Standing]] = {}
        for recipe in _recipes(ids):
            for standing in self._of(recipe):
                groups.setdefault(standing.engines, []).append(standing)
        return "\n".join(_strip(group, len(ids) > 1) for group in groups.values())

    def file(self, *ids: str) -> str:
        recipes = _recipes(ids)
        parts = [_whole_file(recipe, len(recipes) > 1) for recipe in recipes]
        printed: dict[str, list[Recipe]] = {}
        for recipe in recipes:
            output = recipe.output.read_text("utf-8") if recipe.output.is_file() else ""
            printed.setdefault(output, []).append(recipe)
        for same in printed.values():
            ran = all(overall(self._of(recipe)) == "verified" for recipe in same)
            says = (
                "It printed"
                if ran
                else "It should print, which this build did not check"
            )
            if len(printed) > 1:
                names = " and ".join(f"`{recipe.path.name}`" for recipe in same)
                says = says.replace("It", names, 1)
            elif len(same) > 1:
                says = says.replace("It", "Each", 1)
            parts.append(f'{says}:\n\n```text\n--8<-- "{_output(same[0])}"\n```\n')
        return "\n".join(parts)

    def tests(self, *ids: str) -> str:
        recipes = _recipes(ids)
        standings = [standing for recipe in recipes for standing in self._of(recipe)]
        ran = [standing for standing in standings if standing.ran]
        counts = all(any(s.ran for s in self._of(recipe)) for recipe in recipes)
        if not counts or any(standing.state == "changed" for standing in standings):
            note = "These tests have not run in this build. They are to prove:"
            return f"{note}\n\n{_proofs(_listed(recipes))}"
        return _proofs(_recorded(recipes, ran))

    # On the pages of many recipes.

    def summary(self) -> str:
        standings = [(r, self._of(r)) for r in catalog.all_recipes()]
        count = _counts(overall(found) for _, found in standings)
        verified = [
            (standing, standing.record)
            for _, found in standings
            for standing in found
            if standing.state == "verified" and standing.record
        ]
        if not verified:
            return f"None of the {len(standings)} recipes has run in this build.\n{{ .vf-summary }}\n"
        engines = {(e.name, e.version): e for _, r in verified for e in r.engines}
        names = _and(_product(engines[key]) for key in sorted(engines))
        number = len(engines)
        newest = max(record.started for _, record in verified)
        rest = [f"{n} {_lower(s)}" for s, n in count.items() if n and s != "verified"]
        return (
            f"**{_number(count['verified'], 'recipe')} verified** on"
            f" {_number(number, 'engine')}: {names}."
            + (f" {_and(rest).capitalize()}." if rest else "")
            + f" Last run: {_time(newest)}.\n{{ .vf-summary }}\n"
        )

    def matrix(self, *chapter: str) -> str:
        if len(chapter) > 1:
            raise DirectiveError("it takes one chapter, or none")
        chapters: dict[str, list[Recipe]] = {}
        for recipe in catalog.all_recipes():
            chapters.setdefault(recipe.chapter, []).append(recipe)
        if chapter:
            folders = [p.name for p in DOCS.iterdir() if p.is_dir()]
            if chapter[0] not in chapters and chapter[0] not in folders:
                near = did_you_mean(chapter[0], chapters)
                raise DirectiveError(f"there is no chapter {chapter[0]!r}{near}")
            chapters = {chapter[0]: chapters.get(chapter[0], [])}
        every = [recipe for recipes in chapters.values() for recipe in recipes]
        if not every:
            return "There is no recipe here yet.\n"
        count = _counts(overall(self._of(recipe)) for recipe in every)
        total = ", ".join(f"{n} {_lower(state)}" for state, n in count.items() if n)
        parts = [
            f"{_number(len(every), 'recipe')}: {total}.\n{{ .vf-count }}\n",
            _LEGEND,
        ]
        for name in _in_order(DOCS, chapters):
            if not chapter:
                parts.append(f"## {chapter_title(name)} {{ #{name} }}\n")
            parts.append(self._table(name, chapters[name]))
        return "\n".join(parts)

    def _table(self, chapter: str, recipes: list[Recipe]) -> str:
        pages: dict[str, list[Recipe]] = {}
        for recipe in recipes:
            page = recipe.page or recipe.path
            pages.setdefault(page.stem, []).append(recipe)
        columns: list[str] = []
        rows = []
        for page in _in_order(DOCS / chapter, pages):
            cells: dict[str, list[tuple[EngineUsed, Standing]]] = {}
            for recipe in pages[page]:
                for standing in self._of(recipe):
                    for title, used in _columns(standing):
                        cells.setdefault(title, []).append((used, standing))
                        if title not in columns:
                            columns.append(title)
            rows.append((pages[page], cells))
        columns.sort(key=lambda title: _places().get(title, len(ENGINES)))
        lines = [
            f'<div class="vf-matrix" markdown data-search-exclude>\n\n| Recipe |'
            f" {' | '.join(columns)} | Drivers |",
            f"|---|{':-:|' * len(columns)}---|",
        ]
        for shown, cells in rows:
            main = min(shown, key=lambda recipe: len(recipe.name))
            name = _cell(main.title)
            link = f"[{name}](/{_page(main)})" if main.page else name
            states = [_state_cell(main, cells.get(title)) for title in columns]
            drivers = sorted({d.name for r in shown for d in r.dependencies})
            lines.append(f"| {link} | {' | '.join(states)} | {', '.join(drivers)} |")
        return "\n".join([*lines, "\n</div>\n"])

    # Of an engine.

    def engine(self, name: str) -> str:
        one = engine(name)
        verified = 0
        served: dict[str, str] = {}
        for recipe in catalog.all_recipes():
            ran_here = False
            for standing in self._of(recipe):
                if standing.state != "verified" or not standing.record:
                    continue
                for used in standing.record.engines:
                    if name == used.engine or (
                        one.title == used.name
                        and name in map(_name, serving(used.engine))
                    ):
                        ran_here = True
                        own = used.stand_in_for if name == used.engine else None
                        label = _product(used.model_copy(update={"stand_in_for": own}))
                        served[f"{label}, {_PROVIDERS[used.provider]}"] = ""
            verified += ran_here
        facts = {
            "In this build": "; ".join(map(html.escape, served))
            or "no recipe ran on it",
            "Verified on it": _number(verified, "recipe"),
            "Address in": f"<code>{one.env}</code>",
            "For example": f"<code>{html.escape(one.example)}</code>",
            "To install": html.escape(one.install),
        }
        rows = "".join(
            f'<tr><th scope="row">{k}</th><td>{v}</td></tr>' for k, v in facts.items()
        )
        return f'<table class="vf-facts"><tbody>{rows}</tbody></table>\n'

    def chart(self, name: str, group: str) -> str:
        file = self.results / f"{name}.json"
        if not file.is_file():
            known = [path.stem for path in self.results.glob("*.json")]
            near = did_you_mean(name, known)
            return f"Not measured in this build{near}.\n{{ .vf-note }}\n"
        try:
            chart = Chart.model_validate_json(file.read_bytes())
        except ValidationError as error:
            raise DirectiveError(f"{file.name} is not a chart: {error}") from error
        if group not in chart.groups:
            near = f"{did_you_mean(group, chart.groups)} (known: {', '.join(chart.groups)})"
            raise DirectiveError(f"{file.name} has no group {group!r}{near}")
        return _chart(chart, chart.groups[group])


@functools.lru_cache(maxsize=8)
def _read_ledger(path: Path, changed: int) -> Ledger:
    return ledger.read(path)


def _recipes(ids: Iterable[str]) -> list[Recipe]:
    known = {recipe.id: recipe for recipe in catalog.all_recipes()}
    unknown = next((name for name in ids if name not in known), None)
    if unknown:
        near = did_you_mean(unknown, known)
        raise DirectiveError(f"there is no recipe {unknown!r}{near}")
    if not ids:
        raise DirectiveError("it names no recipe")
    return [known[name] for name in ids]


# The strip.


def _strip(group: list[Standing], several: bool) -> str:
    state = worst(group)
    records = [standing.record for standing in group if standing.record]
    facts = [("Status", f"{SIGNS[state]} {SAYS[state]}")]
    if records and any(used.version for used in records[0].engines):
        newest = max(records, key=lambda record: record.started)
        for used in newest.engines:
            also = f" <small>stand-in for {used.stand_in_for}</small>"
            stand_in = also if used.stand_in_for else ""
            facts.append(("Engine", f"{used.name} {used.version}{stand_in}"))
        for driver, version in sorted({d for r in records for d in r.drivers.items()}):
            facts.append((driver, version))
        facts.append(("Python", newest.python))
        facts.append(("Last run", _time(newest.started)))
        if state in ("verified", "failed"):
            tests = {test.id: test.outcome for r in records for test in r.tests}
            passed = sum(outcome == "passed" for outcome in tests.values())
            number = (
                f"{len(tests)}" if passed == len(tests) else f"{passed} of {len(tests)}"
            )
            seconds = sum(record.seconds for record in records)
            facts.append(("Tests", f"{number} passed in {seconds:.1f} s"))
    else:
        titles = dict.fromkeys(ENGINES[name].title for name in group[0].engines)
        facts.append(("Engine", ", ".join(titles)))
    cells = "".join(f"<div><dt>{k}</dt><dd>{v}</dd></div>" for k, v in facts)
    reasons: dict[str, list[str]] = {}
    for standing in group:
        if standing.reason:
            reasons.setdefault(standing.reason, []).append(standing.recipe.path.name)
    why = "".join(
        f"<p>{f'<code>{_and(names)}</code>: ' if several else ''}{_text(reason)}</p>"
        for reason, names in reasons.items()
    )
    return f'<div class="vf-strip vf-{state}"><dl>{cells}</dl>{why}</div>\n'


# The whole file.


def _whole_file(recipe: Recipe, several: bool) -> str:
    name = recipe.path.name
    title = "The whole file, ready to run" + (f": {name}" if several else "")
    exports = [f"export {one.env}='{one.example}'" for one in map(engine, recipe.needs)]
    body = [
        f"[:material-download: {name}](/recipes/{recipe.id}.py)"
        f'{{ .md-button .vf-download download="{name}" }}',
        "With an engine of your own, anywhere:",
        "\n".join(["```sh", *exports, f"uv run {name}", "```"]),
        "In the checkout of this cookbook, which finds or starts the engine:",
        f"```sh\ncookbook run {recipe.id}\n```",
        "\n".join(
            [
                "```{ .python data-search-exclude }",
                f'--8<-- "{catalog.relative(recipe.path)}"',
                "```",
            ]
        ),
    ]
    text = "\n\n".join(body)
    indented = "\n".join(f"    {line}" if line else "" for line in text.splitlines())
    return f'??? example "{title}"\n\n{indented}\n'


def _output(recipe: Recipe) -> str:
    return recipe.output.relative_to(ROOT).as_posix()


# The tests.


@dataclass
class _Proof:
    """A test function: parametrised cases are one."""

    name: str
    says: str
    outcomes: list[str]


def _listed(recipes: list[Recipe]) -> list[_Proof]:
    """The tests as their files list them, which says nothing of how they end."""
    files = [TESTS / "test_output.py", *(r.test for r in recipes if r.test)]
    return [
        _Proof(name, says, [])
        for file in dict.fromkeys(files)
        if file.is_file()
        for name, says in _functions(file, file.stat().st_mtime_ns).items()
    ]


def _recorded(recipes: list[Recipe], standings: list[Standing]) -> list[_Proof]:
    """The tests as they ended; in the order of their files."""
    outcomes: dict[str, tuple[str, str]] = {}
    for standing in standings:
        for test in standing.record.tests if standing.record else ():
            known = outcomes.get(test.id, ("passed", ""))[0]
            kept = known if known != "passed" else test.outcome
            outcomes[test.id] = (kept, test.says)
    found: dict[str, _Proof] = {}
    for node, (outcome, says) in outcomes.items():
        name = node.partition("[")[0].rpartition("::")[2]
        found.setdefault(name, _Proof(name, says, [])).outcomes.append(outcome)
    order = [proof.name for proof in _listed(recipes)]
    rank = {name: place for place, name in enumerate(order)}
    return sorted(found.values(), key=lambda proof: rank.get(proof.name, len(rank)))


@functools.lru_cache(maxsize=1024)
def _functions(file: Path, changed: int) -> dict[str, str]:
    """The test functions of a file, and the sentences in their docstrings."""
    nodes = ast.walk(ast.parse(file.read_text("utf-8")))
    found = [
        node
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test")
    ]
    found.sort(key=lambda node: node.lineno)
    docs = {node.name: ast.get_docstring(node) or node.name for node in found}
    return {name: " ".join(doc.split("\n\n")[0].split()) for name, doc in docs.items()}


def _proofs(proofs: list[_Proof]) -> str:
    wrong = [proof for proof in proofs if proof.says.startswith(OFTEN_COPIED)]
    right = [proof for proof in proofs if proof not in wrong]
    parts = [_proof_list(right)]
    if wrong:
        parts += ["And of the version that is often copied:\n", _proof_list(wrong)]
    return "\n".join(parts)


def _proof_list(proofs: list[_Proof]) -> str:
    items = []
    for proof in proofs:
        state, sign, note = _ended(proof.outcomes)
        says = _text(proof.says.removeprefix(OFTEN_COPIED))
        says = says[:1].upper() + says[1:]
        items.append(
            f'<li class="vf-{state}"><span class="vf-sign">{sign}</span>'
            f"<div>{says} <code>{proof.name}</code>{note}</div></li>"
        )
    return f'<ul class="vf-tests">{"".join(items)}</ul>\n'


def _ended(outcomes: list[str]) -> tuple[str, str, str]:
    """The state, the sign and the note of a test."""
    cases = len(outcomes)
    if not outcomes:
        return "not_run", SIGNS["not_run"], ""
    for outcome in ("failed", "skipped"):
        if outcome in outcomes:
            number = outcomes.count(outcome)
            of = f"{number} of {cases} cases " if cases > 1 else ""
            state: State = "failed" if outcome == "failed" else "not_run"
            return state, SIGNS[state], f" <em>{of}{outcome}</em>"
    return (
        "verified",
        SIGNS["verified"],
        f" <em>{cases} cases</em>" if cases > 1 else "",
    )


# The matrix.

_LEGEND = (
    '<p class="vf-legend">'
    + "".join(
        f'<span class="vf-cell vf-{css}">{sign} {says}</span>'
        for css, sign, says in (
            ("verified", SIGNS["verified"], "verified"),
            ("stand_in", STAND_IN, "verified on a stand-in"),
            ("failed", SIGNS["failed"], "failed"),
            ("changed", SIGNS["changed"], "changed since its run"),
            ("not_run", SIGNS["not_run"], "not run"),
            ("none", NOT_FOR_IT, "not for it"),
        )
    )
    + "</p>\n"
)


def _columns(standing: Standing) -> Iterator[tuple[str, EngineUsed]]:
    """The columns a standing fills: a stand-in also stands in its own."""
    titles = {one.title for one in ENGINES.values()}
    used_here = standing.record.engines if standing.record else ()
    used = {one.engine: one for one in used_here}
    for name in standing.engines:
        title = ENGINES[name].title
        one = used.get(name) or EngineUsed(engine=name, name=title)
        yield title, one
        if one.stand_in_for and one.name in titles:
            yield one.name, one.model_copy(update={"stand_in_for": None})


def _state_cell(recipe: Recipe, found: list[tuple[EngineUsed, Standing]] | None) -> str:
    if not found:
        return f'<span class="vf-cell vf-none">{NOT_FOR_IT}</span>'
    state = worst(standing for _, standing in found)
    used, _ = next(pair for pair in found if pair[1].state == state)
    sign, css = SIGNS[state], state.__str__()
    version = ".".join(used.version.split(".")[:2])
    if used.stand_in_for:
        version = f"{used.name} {version}"
        if state == "verified":
            sign, css = STAND_IN, "stand_in"
        else:
            sign += f" {STAND_IN}"
    text = f"{sign} {version}" if version and state != "not_run" else sign
    hover = f"{SAYS[state]}: {_product(used)}"
    if not recipe.page:
        return f'<span class="vf-cell vf-{css}">{text}</span>'
    return f'[{text}](/{_page(recipe)} "{hover}"){{ .vf-cell .vf-{css} }}'


def _page(recipe: Recipe) -> str:
    assert recipe.page
    return recipe.page.relative_to(DOCS).as_posix()


def _cell(text: str) -> str:
    return re.sub(r"([\\|\[\]*_`<])", r"\\\1", text)


def _places() -> dict[str, int]:
    """The engines' places in the tables: that of their chapters, then their names."""
    names = _in_order(DOCS, ENGINES)
    return {ENGINES[name].title: place for place, name in reversed([*enumerate(names)])}


def _in_order(folder: Path, names: Iterable[str]) -> list[str]:
    """As the folder's .nav.yml orders them; what it does not name comes last."""
    nav = folder / ".nav.yml"
    text = nav.read_text("utf-8") if nav.is_file() else ""
    listed = re.findall(r"(?m)^ *- ([\w-]+?)(?:\.md|/)?$", text)
    rank = {name: place for place, name in enumerate(listed)}
    return sorted(names, key=lambda name: (rank.get(name, len(rank)), name))


def chapter_title(chapter: str) -> str:
    """The heading of the chapter's first page, or what its name says."""
    index = DOCS / chapter / "index.md"
    text = index.read_text("utf-8") if index.is_file() else ""
    if found := re.search(r"(?m)^# (.+)$", text):
        return found[1]
    if chapter in ENGINES:
        return ENGINES[chapter].title
    return chapter.replace("_", " ").capitalize()


# Charts.


class Bar(BaseModel, extra="forbid"):
    label: str
    value: float  # the median
    low: float
    high: float
    kind: Literal["recipe", "tool", "wrong"] = "recipe"


class Chart(BaseModel, extra="forbid"):
    """What `make bench` writes to benchmarks/results."""

    title: str
    unit: str
    better: Literal["higher", "lower"]
    machine: str
    measured: datetime
    runs: int
    versions: dict[str, str]
    groups: dict[str, list[Bar]]


_KINDS = {"recipe": "", "tool": "", "wrong": " <small>often copied</small>"}


def _chart(chart: Chart, bars: list[Bar]) -> str:
    lower = chart.better == "lower"
    bars = sorted(bars, key=lambda bar: bar.value if lower else -bar.value)
    best = bars[0].value
    longest = max(bar.high for bar in bars)
    rows = []
    for bar in bars:
        ratio = bar.value / best if lower else best / bar.value
        rows.append(
            f'<tr class="vf-{bar.kind}">'
            f'<th scope="row">{html.escape(bar.label)}{_KINDS[bar.kind]}</th>'
            f'<td><i style="width:{100 * bar.value / longest:.2f}%"></i></td>'
            f"<td>{_figure(bar.value)} {html.escape(chart.unit)}"
            f" <small>{_figure(bar.low)} to {_figure(bar.high)}</small></td>"
            f"<td>{_times(ratio)}</td></tr>"
        )
    versions = ", ".join(f"{name} {v}" for name, v in chart.versions.items())
    caption = html.escape(
        f"{chart.title}. {'Shorter' if lower else 'Longer'} is better."
        f" Median, lowest and highest of {_number(chart.runs, 'run')}."
        f" Measured {chart.measured:%Y-%m-%d} on {chart.machine}; {versions}."
    )
    ratio_of = "time" if lower else "slower"
    head = (
        '<thead class="vf-hidden"><tr><th scope="col">Version</th>'
        f'<th scope="col">Bar</th><th scope="col">{html.escape(chart.unit)}</th>'
        f'<th scope="col">Times the best ({ratio_of})</th></tr></thead>'
    )
    return (
        f'<table class="vf-bars"><caption>{caption}</caption>{head}'
        f"<tbody>{''.join(rows)}</tbody></table>\n"
    )


def _figure(value: float) -> str:
    """Three significant digits, and every digit before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}×" if ratio >= 10 else f"{ratio:.1f}×"


# Words.

_PROVIDERS = {
    None: "not there",
    "external": "at an address in the environment",
    "embedded": "the one that comes with a Python package",
    "native": "a program on the machine",
    "container": "a container",
}


def _product(used: EngineUsed) -> str:
    stand_in = f" (a stand-in for {used.stand_in_for})" if used.stand_in_for else ""
    return f"{used.name} {used.version}{stand_in}".strip()


def _name(one: Any) -> str:
    return str(one.name)


def _counts(states: Iterable[State]) -> dict[State, int]:
    found = list(states)
    return {
        state: found.count(state)
        for state in ("verified", "failed", "changed", "not_run")
    }


def _lower(state: State) -> str:
    return SAYS[state].lower()


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _and(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _text(text: str) -> str:
    """One line of HTML; `code` stays code."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)


def _time(moment: datetime) -> str:
    stamp = f"{moment:%Y-%m-%dT%H:%M:%SZ}"
    return f'<time datetime="{stamp}">{moment:%Y-%m-%d %H:%M} UTC</time>'
