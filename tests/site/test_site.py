"""The site as a reader meets it: in a browser, on a desk and on a phone."""

import json
import re
import textwrap
import zipfile
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import TimeoutError, expect

from cookbook import catalog, notebooks
from cookbook.paths import DOCS, ROOT

RECIPES = catalog.all_recipes()
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1400, "height": 900}
OPEN_ALL = "document.querySelectorAll('details').forEach(it => it.open = true)"


def address_of(page: Path) -> str:
    path = page.relative_to(DOCS).with_suffix("").as_posix()
    return "" if path == "index" else f"{path.removesuffix('/index')}/"


PAGES = [address_of(page) for page in sorted(DOCS.rglob("*.md"))]
NOTEBOOKS = [notebooks.address_of(it) for it in notebooks.with_notebooks()]
PAGES += NOTEBOOKS
RECIPE_PAGES = sorted({address_of(r.page) for r in RECIPES if r.page})


def section(include: str) -> str:
    """The code that a page includes as `path:section`, found without its tools."""
    path, _, name = include.partition(":")
    text = (ROOT / path).read_text("utf-8")
    if name:
        marks = r"(?s)\[start:{0}\]\n(.*?)\n[^\n]*\[end:{0}\]".format(re.escape(name))
        text = re.search(marks, text)[1]
    lines = [line for line in text.splitlines() if "--8<--" not in line]
    return textwrap.dedent("\n".join(lines)).strip("\n")


def test_search_finds_a_word(visit):
    page = visit.open("")
    page.get_by_role("textbox", name="Search").click()
    found = page.locator(".md-search-result__meta")
    expect(found).to_have_text("Type to start searching")  # the index is there
    page.get_by_role("textbox", name="Search").press_sequentially("stand-in")
    expect(found).to_contain_text("matching document")
    expect(page.locator(".md-search-result__item mark").first).to_be_visible()


def test_copy_takes_exactly_the_code_of_the_block(visit):
    recipe = next(recipe for recipe in RECIPES if recipe.page)
    include = re.search(r'--8<-- "(recipes/.+?)"', recipe.page.read_text("utf-8"))
    page = visit.open(address_of(recipe.page))
    block = page.locator("div.language-python").first
    block.hover()
    block.get_by_role("button", name="Copy to clipboard").click()
    expect(page.locator(".md-dialog__inner")).to_have_text("Copied to clipboard")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.strip("\n") == section(include[1])


def tab_pages() -> list[Path]:
    return [page for page in DOCS.rglob("*.md") if "\n=== " in page.read_text("utf-8")]


def test_the_chosen_tab_holds_for_the_next_page(visit):
    page = visit.open(address_of(tab_pages()[0]))
    second = page.locator(".tabbed-set").first.locator(":scope > input").nth(1)
    page.locator(".tabbed-labels").first.locator("label").nth(1).click()
    expect(second).to_be_checked()
    page.reload()
    expect(second).to_be_checked()


def test_tabs_of_one_name_switch_together(visit):
    for path in tab_pages():
        page = visit.open(address_of(path))
        sets = page.locator(".tabbed-set")
        names = [it.locator(".tabbed-labels label") for it in sets.all()]
        labels = [it.all_inner_texts() for it in names]
        for name in labels[0]:
            names[0].filter(has_text=re.compile(f"^{re.escape(name)}$")).click()
            for group, its in zip(sets.all(), labels, strict=True):
                if name in its:
                    chosen = group.locator(":scope > input").nth(its.index(name))
                    expect(chosen).to_be_checked()


def test_dark_and_light(visit):
    page = visit.open("")
    body = page.locator("body")
    expect(body).to_have_attribute("data-md-color-scheme", "default")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_title("Switch to dark mode").click()
    expect(body).to_have_attribute("data-md-color-scheme", "slate")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.reload()
    expect(body).to_have_attribute("data-md-color-scheme", "slate")


def test_dark_where_the_reader_s_system_is(visit):
    visit.page.emulate_media(color_scheme="dark")
    page = visit.open("")
    expect(page.locator("body")).to_have_attribute("data-md-color-scheme", "slate")


@pytest.mark.parametrize("chapter", sorted({path.partition("/")[0] for path in PAGES}))
def test_no_page_scrolls_sideways(visit, chapter):
    for path in (path for path in PAGES if path.partition("/")[0] == chapter):
        page = visit.open(path)
        page.evaluate(OPEN_ALL)
        for size in (PHONE, DESK):
            page.set_viewport_size(size)
            fits = "width => document.documentElement.scrollWidth <= width"
            try:  # the theme moves its drawers for a moment
                page.wait_for_function(fits, arg=size["width"], timeout=3000)
            except TimeoutError:
                pytest.fail(f"{path} is wider than {size}")


def test_the_matrix_keeps_the_recipe_in_view_on_a_phone(visit):
    visit.page.set_viewport_size(PHONE)
    page = visit.open("")
    tables = page.locator(".vf-matrix .md-typeset__scrollwrap").all()
    widths = [it.evaluate("it => it.scrollWidth - it.clientWidth") for it in tables]
    table = tables[widths.index(max(widths))]
    name = table.locator("tbody tr").first.locator("td").first
    before = name.bounding_box()
    assert table.evaluate("it => { it.scrollLeft = 60; return it.scrollLeft }") == 60
    assert abs(name.bounding_box()["x"] - before["x"]) < 2


def test_what_is_verified_can_be_hidden(visit):
    page = visit.open("")
    rows = page.locator(".vf-matrix tbody tr")
    assert rows.filter(visible=True).count() == rows.count()
    page.get_by_label("Hide what is verified").check()
    left = rows.filter(visible=True)
    assert 0 < left.count() < rows.count()
    for row in left.all():
        assert re.search("[✗↻○]", row.inner_text())


@pytest.mark.parametrize("path", RECIPE_PAGES + NOTEBOOKS)
def test_every_recipe_page_says_how_it_stands(site, path):
    html = (site / path / "index.html").read_text("utf-8")
    stands = r'<div class="vf-strip vf-\w+"><dl><div><dt>Status</dt><dd>[✓✗↻○] \w'
    assert re.search(stands, html)
    article = html[html.index("<article") : html.index("</article>")]
    for left_over in ("--8<--", "<!-- verified", "???", "{ ."):
        assert left_over not in article
    assert "&lt;div" not in re.sub(r"(?s)<pre.*?</pre>", "", article)


def test_what_failed_is_told_in_words(visit):
    page = visit.open(address_of(RECIPES[0].page))
    expect(page.locator(".vf-strip").first).to_contain_text("✗ Failed")
    expect(page.locator(".vf-strip").first).to_contain_text("test_output: it is failed")


def test_the_download_is_the_file(visit):
    recipe = next(recipe for recipe in RECIPES if recipe.page)
    page = visit.open(address_of(recipe.page))
    page.evaluate(OPEN_ALL)
    with page.expect_download() as download:
        page.locator(f'a.vf-download[download="{recipe.path.name}"]').click()
    assert download.value.suggested_filename == recipe.path.name
    assert download.value.path().read_bytes() == recipe.path.read_bytes()


@pytest.mark.parametrize(
    "recipe", [it for it in RECIPES if it.page], ids=lambda r: r.id
)
def test_every_file_can_be_downloaded_byte_for_byte(site, recipe):
    page = site / address_of(recipe.page)
    html = (page / "index.html").read_text("utf-8")
    name = Path(recipe.download).name
    link = re.search(rf'href="([^"]+)"[^>]* download="{name}"', html) or (
        re.search(rf'download="{name}"[^>]* href="([^"]+)"', html)
    )
    assert link, "its page has no link to it"
    file = (page / link[1]).resolve()
    if not recipe.folder:
        assert file.read_bytes() == recipe.path.read_bytes()
        return
    with zipfile.ZipFile(file) as packed:
        for path in recipe.files:
            inside = path.relative_to(recipe.folder.parent).as_posix()
            assert packed.read(inside) == path.read_bytes()


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_a_notebook_can_be_downloaded(visit, path):
    page = visit.open(path)
    with page.expect_download() as download:
        page.locator("a.vf-download").click()
    assert download.value.suggested_filename.endswith(".ipynb")
    assert json.loads(download.value.path().read_bytes())["nbformat"] == 4


# A page of each kind; and the recipes that failed, did not run, or changed.
_KINDS = ["", "running/", "verification/", "tags/", "engines/mysql/", "mysql/"]
_KINDS += [address_of(recipe.page) for recipe in RECIPES[:4] if recipe.page]
_KINDS += NOTEBOOKS


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", dict.fromkeys(_KINDS))
def test_nobody_is_shut_out(visit, path, scheme):
    visit.page.emulate_media(color_scheme=scheme)
    page = visit.open(path)
    page.evaluate(OPEN_ALL)
    found = Axe().run(page).response["violations"]
    bad = {
        it["id"]: [node["html"][:200] for node in it["nodes"]][:3]
        for it in found
        if it["impact"] in ("serious", "critical")
    }
    assert not bad


def test_the_page_for_a_wrong_address_helps(visit, site):
    page = visit.open("404.html")
    assert page.get_by_role("heading", level=1).inner_text().startswith("404")
    assert (site / "sitemap.xml").is_file()
