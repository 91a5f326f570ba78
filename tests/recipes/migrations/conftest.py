"""What the tests of the chapter share."""

import sys

import pytest


@pytest.fixture(autouse=True)
def own_modules(monkeypatch):
    """A migration folder is imported from its own path: none of it stays behind."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("models", None)
