"""What the tests of all recipes share."""

import pytest

from tests.recipes.support.fault_proxy import FaultProxy


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
