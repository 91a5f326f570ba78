"""The tables of Airflow, and a folder for its DAGs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cookbook.paths import RECIPES


@pytest.fixture(scope="session")
def dags():
    """The folder with the DAGs of this chapter, and Airflow's own tables, in SQLite:
    `dag.test()` records runs and states there."""
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    folder = Path(os.environ["AIRFLOW_HOME"], "dags")
    folder.mkdir()
    for path in (RECIPES / "orchestration").glob("airflow_*.py"):
        (folder / path.name).symlink_to(path)
    return folder
