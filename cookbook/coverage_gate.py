"""The coverage gate: every line of every recipe that could run was executed.

`python -m cookbook.coverage_gate`, after the tests ran under coverage.
"""

import subprocess
import sys

from cookbook import ledger
from cookbook.catalog import all_recipes, relative
from cookbook.paths import ROOT


def main() -> int:
    """Combine, report, and return coverage's exit code: 2 where a line was missed."""
    known = ledger.read()
    could_not_run = [
        str(relative(path))
        for recipe in all_recipes()
        for path in recipe.files
        if {record.status for record in known.of(recipe.id)} == {"unavailable"}
    ]
    for name in could_not_run:
        print(f"not measured, since it could not run here: {name}")
    _coverage("combine", "--quiet")
    omit = [f"--omit={','.join(could_not_run)}"] if could_not_run else []
    return _coverage("report", *omit)


def _coverage(*arguments: str) -> int:
    command = [sys.executable, "-m", "coverage", *arguments]
    return subprocess.run(command, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
