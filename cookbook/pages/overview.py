"""What pages about many recipes show: the matrix, and one sentence."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from cookbook import catalog
from cookbook.catalog import Recipe, did_you_mean
from cookbook.engines import ENGINES
from cookbook.ledger import EngineUsed
from cookbook.pages.data import Data, DirectiveError
from cookbook.pages.words import SAYS, SIGNS, listing, number, product, time
from cookbook.paths import DOCS
from cookbook.status import Standing, State, overall

STAND_IN, NOT_FOR_IT = "≈", "–"

_SIGNS_EXPLAINED = (
    ("verified", SIGNS["verified"], "verified"),
    ("stand_in", STAND_IN, "verified on a stand-in"),
    ("failed", SIGNS["failed"], "failed"),
    ("changed", SIGNS["changed"], "changed since its last run"),
    ("not_run", SIGNS["not_run"], "not run"),
    ("none", NOT_FOR_IT, "not for it"),
)


def summary(data: Data) -> str:
    """How many recipes are verified, on which engines, and when that was last done."""
    recipes = catalog.all_recipes()
    found = [standing for recipe in recipes for standing in data.standings(recipe)]
    records = [s.record for s in found if s.state == "verified" and s.record]
    if not records:
        none = (
            f"None of the {number(len(recipes), 'recipe')} is verified in this build."
        )
        return f"{none}\n{{ .vf-summary }}\n"
    verified = _count(data, recipes)["verified"]
    of = "" if verified == len(recipes) else f" of {len(recipes)}"
    engines: dict[str, set[str]] = {}
    for used in (used for record in records for used in record.engines):
        stand_in = f" (a stand-in for {used.stand_in_for})" if used.stand_in_for else ""
        engines.setdefault(f"{used.name} {{}}{stand_in}", set()).add(used.version)
    names = [name.format(", ".join(sorted(its))) for name, its in engines.items()]
    return (
        f"**{verified}{of} {'recipe' if len(recipes) == 1 else 'recipes'} verified** on"
        f" {number(len(names), 'engine')}: {listing(sorted(names))}."
        f" Last run: {time(max(record.started for record in records))}."
        "\n{ .vf-summary }\n"
    )


def matrix(data: Data, chapter: str | None = None) -> str:
    """A table for each chapter, or for one: its recipes, and their engines."""
    chapters: dict[str, list[Recipe]] = {}
    for recipe in catalog.all_recipes():
        chapters.setdefault(recipe.chapter, []).append(recipe)
    if chapter is not None:
        if chapter not in chapters and not (DOCS / chapter).is_dir():
            near = did_you_mean(chapter, chapters)
            raise DirectiveError(f"there is no chapter {chapter!r}{near}")
        chapters = {chapter: chapters.get(chapter, [])}
    recipes = [recipe for chapter in chapters.values() for recipe in chapter]
    if not recipes:
        return "There is no recipe here yet.\n"
    count = _count(data, recipes)
    counted = ", ".join(f"{n} {SAYS[state].lower()}" for state, n in count.items() if n)
    tables = {name: _table(data, name, chapters[name]) for name in chapters}
    counter = f"{number(len(recipes), 'recipe')}: {counted}."
    parts = [_legend(counter, tables.values())]
    for name in _in_order(DOCS, tables):
        if chapter is None:
            parts.append(f"## {chapter_title(name)} {{ #{name} }}")
        parts.append(tables[name])
    return "\n\n".join(parts) + "\n"


def chapter_title(chapter: str) -> str:
    """The heading of the chapter's first page, or what its name says."""
    index = DOCS / chapter / "index.md"
    return _heading(index) or chapter.replace("_", " ").capitalize()


def _title(recipe: Recipe) -> str:
    """As Markdown in a cell of a table."""
    if heading := _heading(recipe.page):
        return heading.replace("|", r"\|")
    return re.sub(r"([\\|\[\]*_`<])", r"\\\1", recipe.title)


def _heading(page: Path | None) -> str:
    text = page.read_text("utf-8") if page and page.is_file() else ""
    found = re.search(r"(?m)^# (.+)$", text)
    return found[1] if found else ""


def _count(data: Data, recipes: Iterable[Recipe]) -> dict[State, int]:
    states = [overall(data.standings(recipe)) for recipe in recipes]
    return {state: states.count(state) for state in SIGNS}


def _legend(counter: str, tables: Iterable[str]) -> str:
    """How many there are, the signs that occur, and a filter that needs no script."""
    text = "".join(tables)
    signs = [
        f'<span><span class="vf-cell vf-{kind}">{sign}</span> {says}</span>'
        for kind, sign, says in _SIGNS_EXPLAINED
        if re.search(rf"vf-{kind}\b", text)
    ]
    only = '<label><input type="checkbox" class="vf-only">Hide what is verified</label>'
    if not re.search(r"vf-(verified|stand_in)\b", text) or len(signs) < 2:
        only = ""  # it would hide all, or nothing
    return f'<p class="vf-legend"><b>{counter}</b> {" ".join(signs)} {only}</p>'


def _table(data: Data, chapter: str, recipes: list[Recipe]) -> str:
    """A row for each page: variants of a recipe share one."""
    pages: dict[str, list[Recipe]] = {}
    for recipe in recipes:
        pages.setdefault((recipe.page or recipe.path).stem, []).append(recipe)
    rows = []
    for page in _in_order(DOCS / chapter, pages):
        cells: dict[str, list[tuple[EngineUsed, Standing]]] = {}
        for standing in (s for recipe in pages[page] for s in data.standings(recipe)):
            for title, used in _columns(standing):
                cells.setdefault(title, []).append((used, standing))
        rows.append((pages[page], cells))
    order = [ENGINES[name].title for name in _in_order(DOCS, ENGINES)]
    columns = sorted({title for _, cells in rows for title in cells}, key=order.index)
    last = ["Drivers"] if any(recipe.dependencies for recipe in recipes) else []
    lines = [_row(["Recipe", *columns, *last])]
    lines.append(_row(["---", *[":-:"] * len(columns), *["---" for _ in last]]))
    for shown, cells in rows:
        main = min(shown, key=lambda recipe: len(recipe.name))
        title = _title(main)
        link = f"[{title}](/{_page(main)})" if main.page else title
        drivers = sorted({it.name for recipe in shown for it in recipe.dependencies})
        states = [_state(main, cells.get(column, [])) for column in columns]
        lines.append(_row([link, *states, *[", ".join(drivers) for _ in last]]))
    table = "\n".join(lines)
    return f'<div class="vf-matrix" markdown data-search-exclude>\n\n{table}\n\n</div>'


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _columns(standing: Standing) -> Iterator[tuple[str, EngineUsed]]:
    """The columns that it fills. A stand-in also fills the one of its own name."""
    known = standing.record.engines if standing.record else ()
    used_as = {used.engine: used for used in known}
    titles = {engine.title for engine in ENGINES.values()}
    for name in standing.engines:
        title = ENGINES[name].title
        used = used_as.get(name, EngineUsed(engine=name, name=title))
        yield title, used
        if used.stand_in_for and used.name in titles:
            yield used.name, used.model_copy(update={"stand_in_for": None})


def _state(recipe: Recipe, found: list[tuple[EngineUsed, Standing]]) -> str:
    if not found:
        return f'<span class="vf-cell vf-none">{NOT_FOR_IT}</span>'
    state = overall(standing for _, standing in found)
    used = next(used for used, standing in found if standing.state == state)
    kind, sign = str(state), SIGNS[state]
    version = ".".join(used.version.split(".")[:2])
    if used.stand_in_for and state != "not_run":
        version = f"{used.name} {version}"
        kind, sign = ("stand_in", "") if state == "verified" else (kind, f"{sign} ")
        sign += STAND_IN
    text = sign if state == "not_run" else f"{sign} {version}".strip()
    if not recipe.page:
        return f'<span class="vf-cell vf-{kind}">{text}</span>'
    hover = f"{SAYS[state]}: {product(used)}"
    return f'[{text}](/{_page(recipe)} "{hover}"){{ .vf-cell .vf-{kind} }}'


def _page(recipe: Recipe) -> str:
    assert recipe.page
    return recipe.page.relative_to(DOCS).as_posix()


def _in_order(folder: Path, names: Iterable[str]) -> list[str]:
    """As the folder's .nav.yml orders them; what it does not name comes last."""
    nav = folder / ".nav.yml"
    text = nav.read_text("utf-8") if nav.is_file() else ""
    listed = re.findall(r"(?m)^ *- ([\w-]+?)(?:\.md)?$", text)
    rank = {name: place for place, name in enumerate(listed)}
    return sorted(names, key=lambda name: (rank.get(name, len(rank)), name))
