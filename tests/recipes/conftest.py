"""What the tests of all recipes share."""

import atexit
import os
import shutil
import tempfile

import pytest

from cookbook import environments
from tests.recipes.support.fault_proxy import FaultProxy

# Airflow and Prefect make folders when they are imported: here not in the home, and for
# each process its own.
if environments.current() in {"apache-airflow", "prefect"}:
    _home = tempfile.mkdtemp(prefix="cookbook-home-")
    atexit.register(shutil.rmtree, _home, ignore_errors=True)
    os.environ |= {"AIRFLOW_HOME": _home, "PREFECT_HOME": _home}


@pytest.fixture
def fault_proxy():
    """Make a proxy in front of an address; closed after the test."""
    proxies = []

    def make(url: str) -> FaultProxy:
        proxies.append(FaultProxy(url))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.close()
