"""Notebooks: assembled from their source, shown with the outputs of that alone."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cookbook import ledger, notebooks
from cookbook.catalog import Recipe
from cookbook.paths import ROOT

SOURCE = """\
# A title

The lead.

More of it.

```python
# /// script
# requires-python = ">=3.11"
# dependencies = ["pytest>=9"]
# ///
import os
```

## A part

```sh
not a cell
```

```python
--8<-- "recipes/sqlite/one.py:add"


print(add(int(os.environ["ONE"]), 1))
```
"""
RECIPE = '''\
"""Add two numbers."""


# --8<-- [start:all]
# --8<-- [start:add]
def add(a, b):
    return a + b


# --8<-- [end:add]
# --8<-- [end:all]
'''
SERVED_BY = "SQLite <3>"


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe with a notebook, in a checkout of its own."""
    folder = tmp_path / "recipes/sqlite"
    folder.mkdir(parents=True)
    (folder / "one.py").write_text(RECIPE)
    (folder / "one.md").write_text(SOURCE)
    for module in ("catalog", "notebooks"):
        monkeypatch.setattr(f"cookbook.{module}.ROOT", tmp_path)
    monkeypatch.setattr("cookbook.catalog.RECIPES", tmp_path / "recipes")
    monkeypatch.setattr(notebooks, "EXECUTED", tmp_path / "build/notebooks")
    return Recipe("sqlite/one")


@pytest.fixture
def place(tmp_path, recipe):
    """Place it; return the page and the download."""

    def place() -> tuple[str, str]:
        docs = tmp_path / "docs"
        notebooks.place(docs, notebooks.EXECUTED)
        page, download = docs / "sqlite/one-notebook.ipynb", docs / "recipes"
        return text_of(page), text_of(download / "sqlite/one.ipynb")

    return place


def text_of(path: Path) -> str:
    """What a reader sees of it, outputs included."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    shown = []
    for cell in cells:
        shown.append("".join(cell["source"]))
        shown += ["".join(it.get("text", "")) for it in cell.get("outputs", [])]
    return "\n".join(shown)


def test_cells(recipe):
    cells = notebooks.assemble(recipe)["cells"]
    kinds = [cell["cell_type"] for cell in cells]
    assert kinds == ["markdown", "code", "markdown", "code"]
    assert "not a cell" in cells[2]["source"]
    assert cells[3]["source"] == (
        'def add(a, b):\n    return a + b\n\n\nprint(add(int(os.environ["ONE"]), 1))'
    )


def test_a_section_that_is_not_there(recipe):
    source = recipe.notebook[0]
    source.write_text(SOURCE.replace(":add", ":subtract"))
    with pytest.raises(LookupError, match=r"one\.py has no section 'subtract'"):
        notebooks.assemble(recipe)


def test_without_a_run_it_says_so(place):
    page, download = place()
    for text in (page, download):
        assert "○ Not run in this build" in text
        assert "Last run" not in text


def test_with_a_run_it_names_what_served_it(recipe, place):
    notebooks.execute(recipe, {"ONE": "41"}, SERVED_BY)
    page, download = place()
    assert "<dd>SQLite &lt;3&gt;</dd>" in page
    assert "<dt>pytest</dt>" in page
    assert re.search(r"<time datetime=.*UTC</time>", page)
    assert 'href="../../recipes/sqlite/one.ipynb"' in page
    assert 'href="../one/"' in page
    assert f"Engine: {SERVED_BY}" in download
    for text in (page, download):
        assert "✓ Verified" in text
        assert "\n42\n" in text
        order = [text.index(it) for it in ("The lead.", "Verified", "More of it.")]
        assert order == sorted(order)


@pytest.mark.parametrize("file", ["one.py", "one.md"])
def test_outputs_of_another_source_are_not_shown(recipe, place, file):
    notebooks.execute(recipe, {"ONE": "41"}, SERVED_BY)
    path = recipe.path.with_name(file)
    path.write_text(path.read_text().replace("a + b", "a - b").replace(", 1)", ", 2)"))
    for text in place():
        assert "↻ Changed since its last run" in text
        assert "42" not in text


def test_outputs_of_another_driver_are_not_shown(recipe, place, monkeypatch):
    notebooks.execute(recipe, {"ONE": "41"}, SERVED_BY)
    monkeypatch.setattr(notebooks, "version", lambda name: "0")
    assert "42" not in place()[0]


@pytest.mark.parametrize("kept", ["", "{", "[]", "{}", '{"metadata": {}}'])
def test_a_broken_file_is_no_run(recipe, place, kept):
    notebooks.EXECUTED.joinpath("sqlite").mkdir(parents=True)
    notebooks.EXECUTED.joinpath("sqlite/one.ipynb").write_text(kept)
    assert "○ Not run in this build" in place()[0]


def test_a_cell_that_fails_keeps_nothing(recipe):
    from nbclient.exceptions import CellExecutionError

    with pytest.raises(CellExecutionError, match="KeyError"):
        notebooks.execute(recipe, {}, SERVED_BY)
    assert not notebooks.EXECUTED.exists()


def test_a_notebook_that_is_gone_leaves_no_page(recipe, place, tmp_path):
    place()
    page = tmp_path / "docs/sqlite/one-notebook.ipynb"
    written = page.stat().st_mtime_ns
    place()
    assert page.stat().st_mtime_ns == written, "or each build would start another"
    recipe.notebook[0].unlink()
    notebooks.place(tmp_path / "docs", notebooks.EXECUTED)
    assert not list(tmp_path.glob("docs/**/*.ipynb"))


def test_a_record_of_the_recipe_depends_on_the_notebook(recipe, tmp_path):
    folder = tmp_path / "recipes/sqlite"
    assert {folder / "one.md", folder / "one.py"} <= set(ledger.inputs(recipe))


def test_the_page_has_the_look_of_the_site():
    html = (
        "<style>a {}</style><script src='https://example.com/'></script>"
        '<clipboard-copy for="cell-1"><div>Copy</div></clipboard-copy>'
        '<div class="highlight-ipynb hl-python "><pre><span></span>code\n</pre></div>'
        '<div class="clipboard-copy-txt" id="cell-1">code</div>'
        '<div class="jp-RenderedText jp-OutputArea-output" data-mime-type="">\n'
        "<pre>42\n</pre>\n</div>"
        '<h2 id="it">It<a class="anchor-link" href="#it">¶</a></h2>'
    )
    code = (
        '<div class="language-{} highlight"><pre><span></span><code>{}\n</code></pre>'
        "</div>"
    )
    assert notebooks.in_the_site_s_look(html) == (
        f'<div class="vf-notebook">{code.format("python", "code")}'
        f"{code.format('text', '42')}"
        '<h2 id="it">It<a class="headerlink" href="#it" title="Permanent link">¶</a>'
        "</h2></div>"
    )


def test_the_source_of_a_page():
    page = "analytics/ab-test-notebook.ipynb"
    assert notebooks.is_notebook(page)
    assert not notebooks.is_notebook("analytics/ab-test.md")
    assert notebooks.source_of(page) == "recipes/analytics/ab_test.md"


EVERY = notebooks.with_notebooks()


@pytest.mark.parametrize("recipe", EVERY, ids=lambda recipe: recipe.id)
def test_the_code_of_every_notebook_is_clean(recipe, tmp_path):
    file = tmp_path / f"{recipe.name}.ipynb"
    file.write_text(json.dumps(notebooks.assemble(recipe)), "utf-8")
    ruff = Path(sys.executable).with_name("ruff")
    settings = ["--config", ROOT / "pyproject.toml", "--no-cache"]
    # What is included comes after the imports, and is as its recipe has it.
    done = subprocess.run(
        [ruff, "check", *settings, "--ignore", "E402,S608", file],
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stdout


@pytest.mark.parametrize("recipe", EVERY, ids=lambda recipe: recipe.id)
def test_every_notebook_is_executed_by_the_tests_of_its_recipe(recipe):
    assert f'run_notebook("{recipe.id}")' in recipe.test.read_text("utf-8")
