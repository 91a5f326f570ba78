"""What the page of a recipe shows: how it stands, its file, what was proved."""

import ast
import functools
import html
import re
from dataclasses import dataclass, field
from pathlib import Path

from cookbook.catalog import Recipe, relative
from cookbook.engines import ENGINES, engine
from cookbook.pages.data import Data, recipes_of
from cookbook.pages.words import SAYS, SIGNS, line, listing, time
from cookbook.paths import ROOT, TESTS
from cookbook.status import Standing, State, overall, worst

OFTEN_COPIED = re.compile(r"Often copied(: |, )")  # "Often copied, in binary: ..."


# The strip.


def strip(data: Data, *ids: str) -> str:
    """One strip for each set of engines; the recipes' standings are merged in it."""
    groups: dict[tuple[str, ...], list[Standing]] = {}
    for recipe in recipes_of(ids):
        for standing in data.standings(recipe):
            groups.setdefault(standing.engines, []).append(standing)
    return "\n".join(_strip(group) for group in groups.values())


def _strip(group: list[Standing]) -> str:
    state = worst(group)
    facts = [("Status", f"{SIGNS[state]} {SAYS[state]}"), *_facts(group, state)]
    cells = "".join(f"<div><dt>{name}</dt><dd>{it}</dd></div>" for name, it in facts)
    return f'<div class="vf-strip vf-{state}"><dl>{cells}</dl>{_reasons(group)}</div>\n'


def _facts(group: list[Standing], state: State) -> list[tuple[str, str]]:
    records = [standing.record for standing in group if standing.record]
    ran = [r for r in records if any(used.version for used in r.engines)]
    ran.sort(key=lambda record: record.started)
    if not ran:
        titles = dict.fromkeys(ENGINES[name].title for name in group[0].engines)
        return [("Engine", ", ".join(titles))]
    newest = ran[-1]
    facts = []
    for used in {used.engine: used for r in ran for used in r.engines}.values():
        small = f" <small>stand-in for {used.stand_in_for}</small>"
        small = small if used.stand_in_for else ""
        facts.append(("Engine", f"{html.escape(f'{used.name} {used.version}')}{small}"))
    facts += sorted(dict(it for r in ran for it in r.drivers.items()).items())
    facts += [("Python", newest.python), ("Last run", time(newest.started))]
    if state in ("verified", "failed"):
        outcomes = {test.id: test.outcome for record in ran for test in record.tests}
        passed = sum(outcome == "passed" for outcome in outcomes.values())
        of = f" of {len(outcomes)}" if passed < len(outcomes) else ""
        seconds = sum(_seconds(group).values())
        facts.append(("Tests", f"{passed}{of} passed in {seconds:.1f} s"))
    return facts


def _seconds(group: list[Standing]) -> dict[Path | None, float]:
    """By test file: the recipes that share one were tested together, not in turn."""
    seconds: dict[Path | None, float] = {}
    for standing in group:
        if standing.record:
            tests = standing.recipe.test
            seconds[tests] = max(seconds.get(tests, 0), standing.record.seconds)
    return seconds


def _reasons(group: list[Standing]) -> str:
    reasons: dict[str, list[str]] = {}
    for standing in group:
        if standing.reason:
            reasons.setdefault(standing.reason, []).append(standing.recipe.shown_as)
    if len(group) == 1:
        return "".join(f"<p>{line(reason)}</p>" for reason in reasons)
    return "".join(
        f"<p>{', '.join(f'<code>{name}</code>' for name in names)}: {line(reason)}</p>"
        for reason, names in reasons.items()
    )


# The whole file.


def file(data: Data, *ids: str) -> str:
    """The whole files, folded; then what they print, once where it is the same."""
    recipes = recipes_of(ids)
    parts = [_whole_file(recipe, len(recipes) > 1) for recipe in recipes]
    printed: dict[bytes, list[Recipe]] = {}
    for recipe in recipes:
        output = recipe.output.read_bytes() if recipe.output.is_file() else b""
        printed.setdefault(output, []).append(recipe)
    for output, same in printed.items():
        names = listing(f"`{recipe.shown_as}`" for recipe in same)
        who = names if len(printed) > 1 else "Each of them" if len(same) > 1 else "It"
        if not output:
            parts.append(
                f"No output is shown, since no run has printed one yet for {names}."
                " [How to run it](/running.md).\n"
            )
            continue
        ran = all(overall(data.standings(recipe)) == "verified" for recipe in same)
        says = "printed" if ran else "should print (this build did not check it)"
        output_file = same[0].output.relative_to(ROOT).as_posix()
        parts.append(f'{who} {says}:\n\n```text\n--8<-- "{output_file}"\n```\n')
    return "\n".join(parts)


def _whole_file(recipe: Recipe, several: bool) -> str:
    name = Path(recipe.download).name
    what = f"application, {len(recipe.files)} files" if recipe.folder else "file"
    title = f"The whole {what}, ready to run{f': {name}' if several else ''}"
    exports = [
        f"export {variable}='{value}'"
        for one in map(engine, recipe.needs)
        for variable, value in one.variables(one.example).items()
    ]
    unpack = [f"unzip {name}"] if recipe.folder else []
    command = " ".join(["uv run", recipe.shown_as, *recipe.arguments])
    run = "\n".join([*unpack, *exports, command])
    text = f"""\
[:material-download: {name}](/recipes/{recipe.download}){{ .md-button .vf-download \
download="{name}" }}

On its own, with an address that you give:

```sh
{run}
```

Or in a checkout of this cookbook, which finds the engine:

```sh
cookbook run {recipe.id}
```

{_listings(recipe)}
"""
    indented = "\n".join(f"    {it}" if it else "" for it in text.splitlines())
    return f'??? example "{title}"\n\n{indented}\n'


def _listings(recipe: Recipe) -> str:
    """Its file; the files of a package under their names."""
    parts = []
    for path in recipe.files:
        language = _LANGUAGES.get(path.suffix, "text")
        name = path.relative_to(recipe.folder.parent) if recipe.folder else ""
        title = f' title="{name}"' if name else ""
        parts.append(f"""\
``` {{ .{language}{title} data-search-exclude }}
--8<-- "{relative(path)}"
```
""")
    return "\n".join(parts)


_LANGUAGES = {".py": "python", ".toml": "toml", ".jinja": "html+jinja"}


# The tests.


@dataclass
class _Proof:
    """A test function; the cases of a parametrised one are its outcomes."""

    name: str
    says: str
    outcomes: list[str] = field(default_factory=list)


def tests(data: Data, *ids: str) -> str:
    """The tests as they ended; without a record that counts, what they are to prove."""
    named = recipes_of(ids)
    recipes = named + [it for one in named for it in _variants(one) if it not in named]
    proofs = {proof.name: proof for proof in _listed(recipes)}
    found = [data.standings(recipe) for recipe in recipes]
    note = ""
    # A test may speak of any recipe that has it: one that changed spoils them all.
    if any(overall(standings) in ("not_run", "changed") for standings in found):
        if not all(any(s.ran or s.ran_in_part for s in some) for some in found):
            note = (
                "They have not run in this build. This is what they are to prove:\n\n"
            )
            return note + _proofs([*proofs.values()])
        note = f"""\
The engine was not there in this build. What is marked {SIGNS["verified"]} needs none, \
and was proved. The rest is to be proved.

"""
    for node, (name, says, outcome) in _outcomes(found).items():
        case = proofs.setdefault(name, _Proof(name or node, says))
        case.outcomes.append(outcome)
    return note + _proofs([proof for proof in proofs.values() if proof.outcomes])


def _variants(recipe: Recipe) -> list[Recipe]:
    """The recipes that share its tests."""
    paths = sorted(recipe.output.parent.glob(f"{recipe.name}_*.py"))
    others = [Recipe(f"{recipe.chapter}/{path.stem}") for path in paths]
    return [other for other in others if other.test == recipe.test]


def _outcomes(found: list[list[Standing]]) -> dict[str, tuple[str, str, str]]:
    """By test id: its function, its sentence, and the worst way it ended."""
    outcomes: dict[str, tuple[str, str, str]] = {}
    for standing in (standing for standings in found for standing in standings):
        if not standing.record or not (standing.ran or standing.ran_in_part):
            continue
        for test in standing.record.tests:
            name = test.id.partition("[")[0].rpartition("::")[2]
            if outcomes.get(test.id, ("", "", "passed"))[2] == "passed":
                outcomes[test.id] = (name, test.says, test.outcome)
    return outcomes


def _listed(recipes: list[Recipe]) -> list[_Proof]:
    """The tests in the order of their files, which does not say how they end."""
    files = [TESTS / "test_output.py", *(r.test for r in recipes if r.test)]
    return [
        _Proof(name, says)
        for path in dict.fromkeys(files)
        if path.is_file()
        for name, says in _functions(path, path.stat().st_mtime_ns).items()
    ]


@functools.lru_cache(maxsize=1024)
def _functions(path: Path, changed: int) -> dict[str, str]:
    """The test functions of a file, and the first sentences of their docstrings."""
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test")
    ]
    functions.sort(key=lambda node: node.lineno)
    docs = {node.name: ast.get_docstring(node) or node.name for node in functions}
    return {name: " ".join(doc.split("\n\n")[0].split()) for name, doc in docs.items()}


def _proofs(proofs: list[_Proof]) -> str:
    wrong = [proof for proof in proofs if OFTEN_COPIED.match(proof.says)]
    right = [proof for proof in proofs if proof not in wrong]
    parts = [_proof_list(right)]
    if wrong:
        parts += ["And of the version that is often copied:\n", _proof_list(wrong)]
    return "\n".join(parts)


def _proof_list(proofs: list[_Proof]) -> str:
    items = []
    for proof in proofs:
        state, note = _ended(proof.outcomes)
        says = line(OFTEN_COPIED.sub("", proof.says, count=1))
        items.append(
            f'<li class="vf-{state}"><b title="{SAYS[state]}">{SIGNS[state]}</b>'
            f"<div>{says[:1].upper()}{says[1:]}"
            f"<span><code>{proof.name}</code>{note}</span></div></li>"
        )
    return f'<ul class="vf-tests">{"".join(items)}</ul>\n'


def _ended(outcomes: list[str]) -> tuple[State, str]:
    """How a test ended on the whole, and a note where there is more to say."""
    cases = len(outcomes)
    bad = next((it for it in ("failed", "skipped") if it in outcomes), None)
    if bad:
        of = f"{outcomes.count(bad)} of {cases} cases " if cases > 1 else ""
        return "failed" if bad == "failed" else "not_run", f" {of}{bad}"
    state: State = "verified" if cases else "not_run"
    return state, f" {cases} cases" if cases > 1 else ""
