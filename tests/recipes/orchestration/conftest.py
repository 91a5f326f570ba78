"""The tables of Airflow, a folder for its DAGs, and the server of Prefect."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cookbook import environments
from cookbook.paths import RECIPES

# Read when Prefect is imported: nothing is sent to its makers.
if environments.current() == "prefect":
    os.environ |= {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}


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


@pytest.fixture(scope="session")
def prefect_server():
    """A server on this machine, with its database in a temporary folder. It is a
    process of its own, and takes half a minute to come up."""
    from prefect.settings import (
        PREFECT_LOGGING_TO_API_BATCH_INTERVAL,
        temporary_settings,
    )
    from prefect.testing.utilities import prefect_test_harness

    with (
        temporary_settings({PREFECT_LOGGING_TO_API_BATCH_INTERVAL: 0.1}),
        prefect_test_harness(server_startup_timeout=180),
    ):
        yield
