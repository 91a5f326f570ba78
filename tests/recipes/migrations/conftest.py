"""What the tests of the chapter share."""

import logging
import sys

import pytest


@pytest.fixture(autouse=True)
def own_modules(monkeypatch):
    """A migration folder is imported from its own path: none of it stays behind."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("models", None)


@pytest.fixture(autouse=True)
def own_logging():
    """The env.py that `alembic init` writes turns off every logger that is there."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    loggers = [it for it in root.manager.loggerDict.values() if hasattr(it, "disabled")]
    yield
    root.setLevel(level)
    root.handlers = handlers
    for logger in loggers:
        logger.disabled = False
