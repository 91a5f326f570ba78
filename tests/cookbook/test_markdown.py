"""The directives of cookbook/markdown.py, on a checkout of three recipes."""

import json
from datetime import UTC, datetime

import markdown
import pytest

from cookbook import catalog, ledger, status
from cookbook.catalog import Recipe
from cookbook.ledger import EngineUsed, Ledger, Record, TestResult
from cookbook.markdown import makeExtension, render
from cookbook.pages import overview, recipe
from cookbook.pages.data import Data, DirectiveError

RECIPE = '''\
# /// script
# requires-python = ">=3.11"
# dependencies = ["{driver}"]
# ///
"""{title}.

What for.
"""

print(1)
'''

TESTS = '''\
def test_b():
    """It does `this` & that."""


def test_a():
    """It is tried
    with many values.

    No more of this.
    """


def test_often_copied_breaks():
    """Often copied: it breaks."""


def test_often_copied_in_binary():
    """Often copied, in binary: it lies."""
'''

OUTPUT_TEST = '''\
def test_output():
    """It prints."""
'''

POSTGRESQL = EngineUsed(
    engine="postgresql", name="PostgreSQL", version="18.6", provider="embedded"
)
MARIADB = EngineUsed(
    engine="mysql",
    name="MariaDB",
    version="10.11.14",
    provider="native",
    stand_in_for="MySQL",
)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    files = {
        "recipes/postgresql/load.py": RECIPE.format(
            driver="psycopg", title="Load | it"
        ),
        "recipes/postgresql/load.out": "1\n",
        "recipes/postgresql/load_fast.py": RECIPE.format(
            driver="asyncpg", title="Fast"
        ),
        "recipes/postgresql/load_fast.out": "1\n",
        "recipes/mysql/connect.py": RECIPE.format(driver="pymysql", title="Connect"),
        "recipes/mysql/connect.out": "2\n",
        "tests/recipes/test_output.py": OUTPUT_TEST,
        "tests/recipes/postgresql/test_load.py": TESTS,
        "docs/postgresql/load.md": "# Load | it\n",
        "docs/postgresql/index.md": "# The elephant",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for module in (catalog, ledger, recipe, overview):
        for name, place in {
            "ROOT": tmp_path,
            "RECIPES": tmp_path / "recipes",
            "TESTS": tmp_path / "tests/recipes",
            "DOCS": tmp_path / "docs",
        }.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, place)
    status._is_valid_cached.cache_clear()
    return tmp_path


@pytest.fixture
def write(checkout):
    """Write a ledger of these records; return what the directives read."""

    def write(*records: Record) -> Data:
        path = checkout / "build/ledger.json"
        ledger.write(Ledger().updated(records), path)
        return Data(path, checkout / "results")

    return write


def record(
    name, used=(POSTGRESQL,), status="verified", reason="", **outcomes
) -> Record:
    outcomes = outcomes or {
        "test_output[x]": "passed",
        "test_a[1]": "passed",
        "test_a[2]": "passed",
        "test_b": "passed",
        "test_often_copied_breaks": "passed",
        "test_often_copied_in_binary": "passed",
    }
    says = {
        "test_often_copied_breaks": "Often copied: it breaks.",
        "test_often_copied_in_binary": "Often copied, in binary: it lies.",
    }
    return Record(
        recipe=name,
        status=status,
        reason=reason,
        engines=used,
        drivers=ledger.drivers(Recipe(name)),
        python="3.11.7",
        started=datetime(2026, 11, 21, 8, 48, tzinfo=UTC),
        seconds=1.25,
        tests=tuple(
            TestResult(
                id=f"test.py::{test}", says=says.get(test, test), outcome=outcome
            )
            for test, outcome in outcomes.items()
        ),
        fingerprint=ledger.fingerprint(Recipe(name), [one.identity for one in used]),
    )


# The strip


def test_strip_of_a_verified_recipe(write):
    html = render(write(record("postgresql/load")), "strip postgresql/load")
    assert '<div class="vf-strip vf-verified">' in html
    for fact in ("✓ Verified", "PostgreSQL 18.6", "<dt>psycopg</dt>", "3.11.7"):
        assert fact in html
    assert "2026-11-21 08:48 UTC" in html
    assert "6 passed in 1.2 s" in html


def test_strip_names_the_stand_in(write):
    html = render(write(record("mysql/connect", (MARIADB,))), "strip mysql/connect")
    assert "MariaDB 10.11.14 <small>stand-in for MySQL</small>" in html
    assert html.count("vf-strip") == 1, "MariaDB itself is not called missing"


def test_one_strip_for_each_engine(write):
    mysql = MARIADB.model_copy(
        update={"name": "MySQL", "version": "8.4.11", "stand_in_for": None}
    )
    mariadb = MARIADB.model_copy(update={"engine": "mariadb", "stand_in_for": None})
    data = write(*(record("mysql/connect", (one,)) for one in (mysql, mariadb)))
    html = render(data, "strip mysql/connect")
    assert html.count("vf-strip vf-verified") == 2
    assert "MySQL 8.4.11" in html


def test_mariadb_that_was_not_there_is_named(write):
    mysql = MARIADB.model_copy(update={"name": "MySQL", "stand_in_for": None})
    html = render(write(record("mysql/connect", (mysql,))), "strip mysql/connect")
    assert "vf-strip vf-not_run" in html
    assert "<dd>MariaDB</dd>" in html


def test_strip_merges_to_the_worst_and_says_which(write):
    data = write(
        record("postgresql/load"),
        record("postgresql/load_fast", status="failed", reason="test_a: <boom>"),
    )
    html = render(data, "strip postgresql/load postgresql/load_fast")
    assert html.count("vf-strip") == 1
    assert "✗ Failed" in html
    assert "<code>load_fast.py</code>: test_a: &lt;boom&gt;" in html
    assert "<dt>asyncpg</dt>" in html
    assert "<dt>psycopg</dt>" in html


def test_without_a_record_it_has_not_run(write):
    html = render(write(), "strip postgresql/load")
    assert "○ Not run in this build" in html
    assert "There is no record of a run." in html
    assert "passed" not in html


def test_an_unavailable_engine_is_named_with_the_reason(write):
    used = EngineUsed(engine="postgresql", name="PostgreSQL", identity="unavailable")
    data = write(
        record(
            "postgresql/load",
            (used,),
            status="unavailable",
            reason="no PostgreSQL here: install it",
            test_b="skipped",
        )
    )
    html = render(data, "strip postgresql/load")
    assert "○ Not run in this build" in html
    assert "no PostgreSQL here: install it" in html


@pytest.mark.parametrize("name", ["load.py", "load.out"])
def test_a_change_after_the_run_is_told(checkout, write, name):
    data = write(record("postgresql/load"))
    changed = checkout / "recipes/postgresql" / name
    changed.write_text(changed.read_text() + "# changed\n")
    html = render(data, "strip postgresql/load")
    assert "↻ Changed since its last run" in html
    assert "Verified" not in html
    assert "passed" not in html


@pytest.mark.parametrize("text", ["", "{", '{"schema": 1, "records": [{"recipe"', "[]"])
def test_a_half_written_ledger_proves_nothing(checkout, text):
    path = checkout / "ledger.json"
    path.write_text(text)
    html = render(Data(path, checkout), "strip postgresql/load")
    assert "Not run in this build" in html


def test_tests_that_recipes_share_are_counted_once(write):
    data = write(record("postgresql/load"), record("postgresql/load_fast"))
    html = render(data, "strip postgresql/load postgresql/load_fast")
    assert "6 passed in 1.2 s" in html


# The whole file


def test_file_shows_downloads_and_runs_it(write):
    text = render(write(record("postgresql/load")), "file postgresql/load")
    assert '??? example "The whole file, ready to run"' in text
    assert (
        '(/recipes/postgresql/load.py){ .md-button .vf-download download="load.py" }'
        in text
    )
    assert "export POSTGRESQL_URL='postgresql://" in text
    assert "uv run load.py" in text
    assert "cookbook run postgresql/load" in text
    assert '    --8<-- "recipes/postgresql/load.py"' in text
    assert 'It printed:\n\n```text\n--8<-- "recipes/postgresql/load.out"\n```' in text


def test_the_same_output_is_shown_once(write):
    data = write(record("postgresql/load"), record("postgresql/load_fast"))
    text = render(data, "file postgresql/load postgresql/load_fast")
    assert text.count("```text") == 1
    assert "Each of them printed:" in text
    assert 'ready to run: load_fast.py"' in text


def test_outputs_that_differ_are_named(checkout, write):
    (checkout / "recipes/postgresql/load_fast.out").write_text("3\n")
    data = write(record("postgresql/load"), record("postgresql/load_fast"))
    text = render(data, "file postgresql/load postgresql/load_fast")
    assert "`load.py` printed:" in text
    assert "`load_fast.py` printed:" in text


@pytest.mark.parametrize("state", ["failed", "unavailable"])
def test_it_is_not_said_to_have_printed_what_nobody_saw(write, state):
    data = write(record("postgresql/load", status=state))
    text = render(data, "file postgresql/load")
    assert "printed" not in text
    assert "should print (this build did not check it)" in text


# The tests


def test_proofs_in_the_order_of_the_file_often_copied_last(write):
    data = write(record("postgresql/load"), record("postgresql/load_fast"))
    html = render(data, "tests postgresql/load")
    names = ["test_output", "test_b", "test_a", "test_often_copied_breaks"]
    places = [html.index(f"<code>{name}</code>") for name in names]
    assert places == sorted(places)
    assert "It does <code>this</code> &amp; that." in html
    assert "It is tried with many values.<" in html
    assert "</code> 2 cases" in html
    assert html.index("often copied:") < places[3]
    assert "It breaks." in html
    assert html.index("In binary: it lies.") > html.index("It breaks.")
    assert html.count('<li class="vf-verified">') == 5


def test_outcomes_are_shown_as_recorded(write):
    data = write(
        record(
            "postgresql/load",
            status="failed",
            reason="test_a[2]: no",
            **{"test_a[1]": "passed", "test_a[2]": "failed", "test_b": "skipped"},
        ),
        record("postgresql/load_fast", test_b="skipped"),
    )
    html = render(data, "tests postgresql/load")
    assert '<li class="vf-failed">' in html
    assert "1 of 2 cases failed" in html
    assert "skipped" in html
    assert "vf-verified" not in html


@pytest.mark.parametrize("spoilt", ["no record", "changed", "of a variant"])
def test_without_a_record_that_counts_nothing_is_claimed(checkout, write, spoilt):
    known = [record("postgresql/load"), record("postgresql/load_fast")]
    data = write(*known[: {"no record": 0, "of a variant": 1}.get(spoilt)])
    if spoilt == "changed":
        (checkout / "tests/recipes/postgresql/test_load.py").write_text(TESTS + "\n")
    html = render(data, "tests postgresql/load")
    assert "have not run in this build" in html
    assert "vf-verified" not in html
    assert html.count('<li class="vf-not_run">') == 5


# Many recipes


def test_matrix_links_versions_to_pages(write):
    data = write(record("postgresql/load"), record("mysql/connect", (MARIADB,)))
    text = render(data, "matrix")
    hover = '"Verified: PostgreSQL 18.6"'
    assert f"[✓ 18.6](/postgresql/load.md {hover}){{ .vf-cell .vf-verified }}" in text
    assert "## The elephant { #postgresql }" in text
    assert "| [Load \\| it](/postgresql/load.md) |" in text, "a bar is no new column"
    assert "asyncpg, psycopg" in text, "variants share a row"
    assert "vf-stand_in" in text
    assert "≈ MariaDB 10.11<" in text
    assert "✓ 10.11<" in text, "the stand-in also stands in its own column"
    assert "<b>3 recipes: 2 verified, 1 not run in this build.</b>" in text


def test_matrix_of_a_chapter(write):
    text = render(write(), "matrix mysql")
    assert "Connect" in text
    assert "elephant" not in text
    assert "[○]" not in text, "no page, no link"
    assert render(write(), "matrix postgresql").count("○") == 2  # legend and cell


def test_matrix_renders_as_tables(checkout, write):
    write(record("postgresql/load"))
    html = markdown.markdown(
        "# Home\n\n<!-- verified matrix -->\n",
        extensions=[
            makeExtension(ledger=str(checkout / "build/ledger.json")),
            "attr_list",
            "md_in_html",
            "tables",
        ],
    )
    assert html.count("<table>") == 2
    assert '<a class="vf-cell vf-verified" href="/postgresql/load.md"' in html
    assert html.count("<tr>") == 4


def test_summary(write):
    data = write(record("postgresql/load"), record("mysql/connect", (MARIADB,)))
    text = render(data, "summary")
    assert "**2 of 3 recipes verified** on 2 engines:" in text
    assert "MariaDB 10.11.14 (a stand-in for MySQL) and PostgreSQL 18.6." in text
    assert "2026-11-21 08:48 UTC" in text


def test_summary_of_nothing(write):
    assert "None of the 3 recipes is verified" in render(write(), "summary")


# Engines


def test_engine(write):
    data = write(record("postgresql/load"), record("mysql/connect", (MARIADB,)))
    html = render(data, "engine postgresql")
    assert "<b>PostgreSQL 18.6</b>, from a Python package" in html
    assert "1 recipe<" in html
    assert "<code>POSTGRESQL_URL</code>" in html
    html = render(data, "engine mysql")
    assert "MariaDB 10.11.14</b>" in html
    assert "as a stand-in for MySQL" in html
    html = render(data, "engine mariadb")
    assert "which served as a stand-in for MySQL" in html
    assert "no recipe ran on it" in render(data, "engine redis")


# Charts


CHART = {
    "title": "Load 100,000 rows",
    "unit": "rows/s",
    "better": "higher",
    "machine": "2 cores",
    "measured": "2026-11-21T08:00:00Z",
    "runs": 5,
    "versions": {"PostgreSQL": "18.6"},
    "groups": {
        "postgresql": [
            {"label": "loop", "value": 10, "low": 9, "high": 11, "kind": "wrong"},
            {
                "label": "COPY",
                "value": 4000,
                "low": 3900,
                "high": 4100,
                "kind": "recipe",
            },
        ]
    },
}


@pytest.fixture
def results(checkout):
    folder = checkout / "results"
    folder.mkdir()
    (folder / "load.json").write_text(json.dumps(CHART))
    (folder / "half.json").write_text(json.dumps(CHART)[:80])
    return folder


def test_chart_puts_the_best_first_with_ratios(results, write):
    html = render(write(), "chart load postgresql")
    assert html.index("COPY") < html.index("loop")
    assert "400×" in html
    assert "width:100.00%" in html
    assert "width:0.25%" in html
    for part in ("Longer is better", "Median of 5 runs", "2026-11-21", "2 cores"):
        assert part in html
    assert "often copied" in html


def test_chart_where_less_is_better(results, write):
    (results / "load.json").write_text(json.dumps({**CHART, "better": "lower"}))
    html = render(write(), "chart load postgresql")
    assert html.index("loop") < html.index("COPY")
    assert "Shorter is better" in html


@pytest.mark.parametrize("words", ["none postgresql", "load redis"])
def test_chart_that_nobody_measured(results, write, words):
    assert "Not measured in this build" in render(write(), f"chart {words}")


# Faults end the build


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("strp postgresql/load", "no kind 'strp': did you mean strip?"),
        ("", "no kind ''"),
        ("strip", "it names no recipe"),
        ("strip postgresql/laod", "did you mean postgresql/load"),
        ("file redis/none", "no recipe 'redis/none'"),
        ("tests postgresql/loadfast", "did you mean postgresql/load_fast"),
        ("matrix postgresq", "did you mean postgresql?"),
        ("engine postgres", "did you mean postgresql"),
        ("engine", "missing a required argument"),
        ("engine redis mysql", "too many positional arguments"),
        ("chart load redos", "no group 'redos'"),
        ("chart half postgresql", "half.json is not a chart"),
    ],
)
def test_faults_name_the_directive_and_what_is_near(results, write, words, says):
    with pytest.raises(DirectiveError) as raised:
        render(write(), words)
    assert says in str(raised.value)
    assert f"<!-- verified {words} -->".replace("  ", " ") in str(raised.value)


def convert(checkout, text: str) -> str:
    extension = makeExtension(ledger=str(checkout / "build/ledger.json"))
    return markdown.markdown(text, extensions=["fenced_code", extension])


def test_directives_in_code_stay_as_they_are(checkout):
    text = "```html\n<!-- verified nonsense -->\n```\n\n"
    text += "~~~~\n~~~\n<!-- verified x -->\n~~~~"
    html = convert(checkout, text)
    assert "verified nonsense" in html
    assert "verified x" in html


@pytest.mark.parametrize(
    "text",
    [
        "<!-- verified strip postgresql/load -->",
        "<!--verified  strip  postgresql/load-->",
        "```\ncode\n```\n\n<!-- verified strip postgresql/load -->",
    ],
)
def test_directives_are_replaced(checkout, text):
    html = convert(checkout, text)
    assert "Not run in this build" in html
    assert "<!--" not in html


def test_a_misspelt_directive_is_no_comment(checkout):
    with pytest.raises(DirectiveError):
        convert(checkout, "<!-- verified srip postgresql/load -->")
