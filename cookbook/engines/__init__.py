"""The engines. A new one is a new file here and a service in docker-compose.yml."""

import importlib
import inspect
import pkgutil

from cookbook.catalog import did_you_mean
from cookbook.engines.base import Engine
from cookbook.errors import UnknownNameError


def _discover() -> dict[str, Engine]:
    found = {}
    for module in pkgutil.iter_modules(__path__):
        members = vars(importlib.import_module(f"{__name__}.{module.name}")).values()
        for member in members:
            if (
                isinstance(member, type)
                and issubclass(member, Engine)
                and not inspect.isabstract(member)
                and member.__module__ == f"{__name__}.{module.name}"
            ):
                found[member.name] = member()
    return dict(sorted(found.items()))


ENGINES: dict[str, Engine] = _discover()


def engine(name: str) -> Engine:
    """The engine of that name. Raises UnknownNameError."""
    try:
        return ENGINES[name]
    except KeyError:
        raise UnknownNameError(
            f"there is no engine {name!r}{did_you_mean(name, ENGINES)}"
            f" (known: {', '.join(ENGINES)})"
        ) from None


def serving(fixture: str) -> list[Engine]:
    """The engines that a fixture runs its tests on: the first is its own."""
    own = engine(fixture)
    if own.is_any:
        every = [e for e in ENGINES.values() if e.dialect]
        return sorted(every, key=lambda e: e.port is not None)  # SQLite is always there
    return [own, *(e for e in ENGINES.values() if e.fixture == fixture)]
