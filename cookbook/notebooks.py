"""Notebooks: the long form of a recipe, executed by its tests, a page of the site.

`recipes/CHAPTER/NAME.md` is the source. Its Python blocks are the cells; like a page, a
cell may include sections of recipes. A test executes it on a real engine, and the
outputs are kept in build/notebooks/. Before the site is built, `place` puts it among
the pages: with its outputs, if they are those of this source; else without.
"""

import hashlib
import html
import json
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from packaging.requirements import Requirement

from cookbook import catalog
from cookbook.catalog import INCLUDE, Recipe, inline_metadata
from cookbook.pages.words import SAYS, SIGNS, time
from cookbook.paths import BUILD, DOCS, ROOT
from cookbook.runner import environment
from cookbook.status import State

EXECUTED = BUILD / "notebooks"
_ENDING = "-notebook.ipynb"  # of the pages; mkdocs.yml names it too
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}

Notebook = dict[str, Any]  # as its JSON says


def with_notebooks() -> list[Recipe]:
    return [recipe for recipe in catalog.all_recipes() if recipe.notebook]


def assemble(recipe: Recipe) -> Notebook:
    """The notebook as its source says, without outputs."""
    text = recipe.notebook[0].read_text("utf-8")
    parts = re.split(r"(?ms)^```python\n(.*?)^```$", text)
    cells = []
    for number, part in enumerate(parts):
        if number % 2:
            source = INCLUDE.sub(lambda it: _section(it["path"], it["section"]), part)
            cells.append(_cell("code", source, execution_count=None, outputs=[]))
        elif part.strip():
            cells.append(_cell("markdown", part))
    return {
        "cells": [{**cell, "id": f"cell-{n}"} for n, cell in enumerate(cells)],
        "metadata": {"kernelspec": _KERNEL, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _cell(kind: str, source: str, **more: Any) -> Notebook:
    return {"cell_type": kind, "metadata": {}, "source": source.strip(), **more}


def _section(path: str, name: str | None) -> str:
    """What an include stands for: a section of a file, or all of it."""
    text = (ROOT / path).read_text("utf-8")
    if name:
        marks = rf"(?ms)^[^\n]*\[start:{name}\]$\n(.*?)^[^\n]*\[end:{name}\]$"
        found = re.search(marks, text)
        if not found:
            raise LookupError(f"{path} has no section {name!r}")
        text = found[1]
    return re.sub(r"(?m)^.*--8<-- \[.*\n?", "", text).strip()


def execute(recipe: Recipe, addresses: Mapping[str, str], engine: str) -> Notebook:
    """Execute the notebook, and keep it with its outputs.

    engine: what serves it, as that says itself. Raises CellExecutionError.
    """
    import nbformat
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    notebook = assemble(recipe)
    started = datetime.now(UTC)
    with TemporaryDirectory() as folder:
        env = environment(addresses) | {"IPYTHONDIR": folder, "MPLCONFIGDIR": folder}
        env = {k: v for k, v in env.items() if not k.startswith("COVERAGE_")}
        kernel = AsyncKernelManager(
            kernel_name="python3",
            connection_file=f"{folder}/kernel.json",
            transport="ipc",  # sockets that nobody else can open
            ip=f"{folder}/kernel",
        )
        client = NotebookClient(
            nbformat.from_dict(notebook),
            km=kernel,
            timeout=60,
            resources={"metadata": {"path": folder}},
        )
        executed = client.execute(env=env, cleanup_kc=True)
        done: Notebook = json.loads(nbformat.writes(executed))
    done["metadata"] = notebook["metadata"] | {
        "cookbook": {
            "source": _fingerprint(notebook),
            "engine": engine,
            "drivers": _drivers(notebook),
            "python": sys.version.partition(" ")[0],
            "started": started.isoformat(timespec="seconds"),
        }
    }
    _write(EXECUTED / f"{recipe.id}.ipynb", done)
    return done


def _drivers(notebook: Notebook) -> dict[str, str]:
    """The installed version of each dependency that the first cell of code names."""
    code = [it["source"] for it in notebook["cells"] if it["cell_type"] == "code"]
    listed = inline_metadata(f"{code[0]}\n").get("dependencies", []) if code else []
    assert isinstance(listed, list)
    found = {}
    for name in (Requirement(line).name for line in listed):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _fingerprint(notebook: Notebook) -> str:
    """Of what outputs depend on: the cells, and the drivers' versions."""
    cells = [cell["source"] for cell in notebook["cells"]]
    told = json.dumps([cells, sorted(_drivers(notebook).items())])
    return hashlib.sha256(told.encode()).hexdigest()


def _kept(recipe: Recipe, executed: Path) -> tuple[Notebook, State]:
    """The notebook with its outputs, if they are those of its source; else without."""
    notebook = assemble(recipe)
    try:
        kept: Notebook = json.loads((executed / f"{recipe.id}.ipynb").read_bytes())
        ran = kept["metadata"]["cookbook"]
    except (OSError, ValueError, LookupError, TypeError):
        return notebook, "not_run"
    if ran["source"] != _fingerprint(notebook):
        return notebook, "changed"
    return kept, "verified"


def place(docs: Path = DOCS, executed: Path = EXECUTED) -> None:
    """Put each notebook among the pages, and among the files to download."""
    wanted = {}
    for recipe in with_notebooks():
        notebook, state = _kept(recipe, executed)
        facts = _facts(notebook, state)
        page = docs / f"{recipe.id.replace('_', '-')}{_ENDING}"
        wanted[page] = _told(notebook, _strip(facts, state) + _links(recipe))
        download = docs / "recipes" / f"{recipe.id}.ipynb"
        plain = "; ".join(f"{name}: {fact}" for name, fact in facts)
        wanted[download] = _told(notebook, plain)
    for path in [*docs.glob(f"*/*{_ENDING}"), *docs.glob("recipes/*/*.ipynb")]:
        if path not in wanted:
            path.unlink()
    for path, notebook in wanted.items():
        _write(path, notebook)


def _told(notebook: Notebook, text: str) -> Notebook:
    """With a cell, after the title and the lead, that tells how it ran."""
    first, *others = notebook["cells"]
    title, lead, *more = "".join(first["source"]).split("\n\n", 2)
    before = {**first, "source": f"{title}\n\n{lead}"}
    told = {**_cell("markdown", "\n\n".join([text, *more])), "id": "how-it-ran"}
    return {**notebook, "cells": [before, told, *others]}


def _facts(notebook: Notebook, state: State) -> list[tuple[str, str]]:
    facts = [("Status", f"{SIGNS[state]} {SAYS[state]}")]
    if ran := notebook["metadata"].get("cookbook"):
        facts += [("Engine", ran["engine"]), *sorted(ran["drivers"].items())]
        facts += [("Python", ran["python"]), ("Last run", ran["started"])]
    return facts


def _strip(facts: list[tuple[str, str]], state: State) -> str:
    cells = []
    for name, fact in facts:
        is_time = name == "Last run"
        says = time(datetime.fromisoformat(fact)) if is_time else html.escape(fact)
        cells.append(f"<div><dt>{html.escape(name)}</dt><dd>{says}</dd></div>")
    return f'<div class="vf-strip vf-{state}"><dl>{"".join(cells)}</dl></div>\n'


def _links(recipe: Recipe) -> str:
    """To the file, and to the page of the recipe; relative to the notebook's page."""
    file = f"../../recipes/{recipe.id}.ipynb"
    page = f"../{recipe.name.replace('_', '-')}/"
    return (
        f'\n<p><a class="md-button vf-download" href="{file}"'
        f' download="{recipe.name}.ipynb">Download {recipe.name}.ipynb</a></p>\n\n'
        f'<p>The recipe, with its proof and its pitfall: <a href="{page}">'
        f"{html.escape(recipe.title)}</a>.</p>\n"
    )


def _write(path: Path, notebook: Notebook) -> None:
    """Write what is new, at once: the site may be reading it, or watching."""
    text = f"{json.dumps(notebook, indent=1, ensure_ascii=False)}\n"
    if not path.is_file() or path.read_text("utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(text, "utf-8")
        new.replace(path)


# The page: mkdocs-jupyter's HTML, without JupyterLab's style sheets (600 kB) and its
# scripts, which ask other hosts; with the classes of the site's own code blocks.

_OURS = (
    (r"(?s)<(style|script|clipboard-copy)\b.*?</\1>", ""),
    (r'(?s)<div[^>]* class="clipboard-copy-txt"[^>]*>.*?</div>', ""),
    (
        r'(?s)<div class="highlight-ipynb hl-python[^"]*"><pre>(?:<span></span>)?'
        r"(.*?)</pre></div>",
        r'<div class="language-python highlight"><pre><span></span><code>'
        r"\1</code></pre></div>",
    ),
    (
        r'(?s)<div class="jp-RenderedText[^>]*>\s*<pre>(.*?)</pre>\s*</div>',
        r'<div class="language-text highlight"><pre><span></span><code>'
        r"\1</code></pre></div>",
    ),
    (
        r'<a class="anchor-link" href="([^"]+)">[^<]*</a>',
        r'<a class="headerlink" href="\1" title="Permanent link">¶</a>',
    ),
)


def address_of(recipe: Recipe) -> str:
    """Where its notebook is on the site: `analytics/ab-test-notebook/`."""
    return f"{recipe.id.replace('_', '-')}{_ENDING.removesuffix('.ipynb')}/"


def is_notebook(page: str) -> bool:
    return page.endswith(_ENDING)


def in_the_site_s_look(page: str) -> str:
    for pattern, replacement in _OURS:
        page = re.sub(pattern, replacement, page)
    return f'<div class="vf-notebook">{page}</div>'


def source_of(page: str) -> str:
    """`recipes/analytics/ab_test.md`, of `analytics/ab-test-notebook.ipynb`."""
    return f"recipes/{page.removesuffix(_ENDING).replace('-', '_')}.md"
