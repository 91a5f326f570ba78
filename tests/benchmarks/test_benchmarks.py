"""Every benchmark runs, small, and writes a file that the pages can draw."""

import os
import subprocess
import sys

import pytest

import benchmarks.__main__ as benchmarks_main
from cookbook.markdown import render
from cookbook.pages.chart import Chart
from cookbook.pages.data import Data
from cookbook.paths import LEDGER, ROOT

RESULTS = ROOT / "benchmarks" / "results"
# What every machine can run.
NAMES = [name for name in benchmarks_main.NAMES if name != "containers"]


def benchmarks(*arguments):
    ours = ("COOKBOOK_", "COVERAGE_", "COV_", "PYTEST_")
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith(ours)},
        capture_output=True,
        text=True,
        timeout=110,
    )


@pytest.mark.parametrize("name", NAMES)
def test_writes_a_file_that_pages_draw(name, tmp_path):
    done = benchmarks(name, "--quick", f"--results={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    chart = Chart.model_validate_json((tmp_path / f"{name}.json").read_bytes())
    assert chart.groups
    assert chart.versions["Python"]
    for group, bars in chart.groups.items():
        assert all(bar.low <= bar.value <= bar.high for bar in bars)
        assert len({bar.label for bar in bars}) == len(bars)
        drawn = render(Data(LEDGER, tmp_path), f"chart {name} {group}")
        assert drawn.count("<tr") == len(bars)
    assert [file.name for file in tmp_path.iterdir()] == [f"{name}.json"]


@pytest.mark.parametrize(
    "file", sorted(RESULTS.glob("*.json")), ids=lambda file: file.stem
)
def test_published_results_come_from_a_whole_run(file):
    assert file.stem in benchmarks_main.NAMES
    chart = Chart.model_validate_json(file.read_bytes())
    assert chart.runs >= 3


def test_an_unknown_name_is_refused(tmp_path):
    done = benchmarks("bulk_lod", "--quick", f"--results={tmp_path}")
    assert done.returncode == 2
    assert "bulk_load" in done.stderr
    assert not list(tmp_path.iterdir())
