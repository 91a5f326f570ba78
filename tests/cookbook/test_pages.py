"""The pages of this checkout: what they show, and what ends a build. No browser."""

import logging
import re
import warnings
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

from cookbook import catalog, ledger, status
from cookbook.catalog import Recipe
from cookbook.ledger import EngineUsed, Ledger, Record, TestResult
from cookbook.paths import DOCS, ROOT
from cookbook.publish import copy_recipes

RECIPES = catalog.all_recipes()
PAGES = sorted(path for path in DOCS.rglob("*.md"))
DIRECTIVE = re.compile(r"(?m)^<!-- verified (\w+) ?(.*?) -->$")
FENCE = re.compile(r"(?ms)^( *)(`{3,}|~{3,}) *\{? *\.?(\w*)[^\n]*\n(.*?)^\1\2 *$")
INCLUDE = re.compile(r'--8<-- "(recipes|tests)/[\w/]+\.py(:\w+)?"')
IDS = [recipe.id for recipe in RECIPES]


def name(path: Path) -> str:
    return path.relative_to(DOCS).as_posix()


def directives(page: Path, kind: str) -> list[list[str]]:
    found = DIRECTIVE.findall(page.read_text("utf-8"))
    return [words.split() for this, words in found if this == kind]


def ids_in(page: Path, kind: str) -> list[str]:
    return [one for ids in directives(page, kind) for one in ids]


@pytest.mark.parametrize("recipe", RECIPES, ids=IDS)
def test_every_recipe_is_shown_on_its_page(recipe):
    assert recipe.page, f"{recipe.id} has no page"
    for kind in ("strip", "file"):
        assert recipe.id in ids_in(recipe.page, kind), f"{kind} does not name it"
    shown = [Recipe(one).test for one in ids_in(recipe.page, "tests")]
    assert recipe.test in shown, "its tests are not shown"


def recipe_pages() -> list[Path]:
    return [page for page in PAGES if directives(page, "strip")]


@pytest.mark.parametrize("page", recipe_pages(), ids=name)
def test_a_page_speaks_of_the_same_recipes_everywhere(page):
    assert len(directives(page, "strip")) == 1
    assert sorted(ids_in(page, "strip")) == sorted(ids_in(page, "file"))
    assert set(ids_in(page, "tests")) <= set(ids_in(page, "strip"))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_code_is_typed_on_a_page(page):
    text = re.sub(r"(?s)<!--.*?-->", "", page.read_text("utf-8"))
    for _, _, language, code in FENCE.findall(text):
        if language.lower() in ("python", "py", "python3", "pycon"):
            lines = [line.strip() for line in code.splitlines() if line.strip()]
            assert lines, f"{name(page)}: an empty block"
            for line in lines:
                assert INCLUDE.fullmatch(line), f"{name(page)}: typed code: {line}"


@pytest.mark.parametrize("folder", sorted({recipe.chapter for recipe in RECIPES}))
def test_every_chapter_has_a_first_page_and_an_order(folder):
    assert directives(DOCS / folder / "index.md", "matrix") == [[folder]]
    assert (DOCS / folder / ".nav.yml").is_file()


# What ends a build: pages of our own, with the site's own settings.


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Build a site of these pages; return its first page."""
    warnings.simplefilter("ignore")  # of the tools that build
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    docs = tmp_path / "docs"

    def make(text: str, records: tuple[Record, ...] = ()) -> str:
        path = tmp_path / "ledger.json"
        ledger.write(Ledger().updated(records), path)
        monkeypatch.setenv("COOKBOOK_LEDGER", str(path))
        copy_recipes(docs / "recipes")
        (docs / "index.md").write_text(f"# Home\n\n{text}\n")
        target = tmp_path / "site"
        settings = str(ROOT / "mkdocs.yml")
        config = load_config(settings, docs_dir=str(docs), site_dir=str(target))
        config.plugins.on_startup(command="build", dirty=False)
        build(config)
        return (target / "index.html").read_text("utf-8")

    return make


def test_a_sound_page_is_built(site):
    html = site('```python\n--8<-- "tests/cookbook/test_pages.py"\n```')
    assert "test_a_sound_page_is_built" in html


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('```python\n--8<-- "recipes/none/none.py"\n```', "none.py"),
        ('```python\n--8<-- "cookbook/paths.py:nowhere"\n```', "nowhere"),
        ("<!-- verified strip postgresql/none -->", "postgresql/none"),
        ("<!-- verified stripe -->", "did you mean strip"),
        ("<!-- verified engine postgre -->", "did you mean postgresql"),
        ("[a page](none.md)", "none.md"),
        ("[a heading](#none)", "#none"),
        ("[a page](/none.md)", "none.md"),
    ],
)
def test_what_is_not_there_ends_the_build_and_names_the_page(site, text, says, caplog):
    with (
        caplog.at_level(logging.WARNING, "mkdocs"),
        pytest.raises((Abort, Exception)) as raised,
    ):
        site(text)
    told = f"{caplog.text}\n{raised.value}"
    assert says in told
    assert "index.md" in caplog.text


def record(recipe: Recipe, outcome: str, reason: str = "") -> Record:
    used = EngineUsed(engine=recipe.needs[0], name="An engine", version="1.2")
    return Record(
        recipe=recipe.id,
        status="verified" if outcome == "passed" else "failed",
        reason=reason,
        engines=(used,),
        drivers={},
        python="3.11.7",
        started="2026-11-21T08:48:00Z",
        seconds=1,
        tests=(TestResult(id="t.py::test_output", says="It.", outcome=outcome),),
        fingerprint=ledger.fingerprint(recipe, [used.identity]),
    )


@pytest.fixture
def recipe() -> Recipe:
    return RECIPES[0]


def page_of(recipe: Recipe) -> str:
    kinds = ("strip", "file", "tests")
    return "\n\n".join(f"<!-- verified {kind} {recipe.id} -->" for kind in kinds)


def test_a_verified_recipe(site, recipe):
    html = site(page_of(recipe), (record(recipe, "passed"),))
    assert "✓ Verified" in html
    assert "It printed:" in html


def test_a_failed_recipe_says_so(site, recipe):
    html = site(page_of(recipe), (record(recipe, "failed", "it broke"),))
    assert "✗ Failed" in html
    assert "it broke" in html
    assert "Verified" not in html
    assert "It printed:" not in html


def test_a_stale_record_proves_nothing(site, recipe, monkeypatch):
    stale = record(recipe, "passed").model_copy(update={"fingerprint": "of old files"})
    html = site(page_of(recipe), (stale,))
    assert "Changed since its last run" in html
    assert "Verified" not in html
    assert "✓" not in html


def test_without_a_ledger_nothing_is_claimed(site, recipe):
    html = site(page_of(recipe))
    assert "Not run in this build" in html
    assert status.NEVER in html
    assert "✓" not in html
