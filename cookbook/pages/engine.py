"""What the page of an engine shows."""

import html
from collections.abc import Iterable, Iterator

from cookbook import catalog
from cookbook.engines import compose
from cookbook.engines import engine as engine_named
from cookbook.engines.base import Engine, Provider
from cookbook.errors import UnavailableError
from cookbook.ledger import EngineUsed
from cookbook.pages.data import Data
from cookbook.pages.words import number

_FROM: dict[Provider | None, str] = {
    None: "not there",
    "external": "at the address in the environment",
    "embedded": "from a Python package",
    "native": "a program found on the machine",
    "container": "in a container",
}


def engine(data: Data, name: str) -> str:
    """Its facts; a recipe counts also where the product ran as a stand-in."""
    one = engine_named(name)
    served = list(_served(data, name, one.title))
    labels = dict.fromkeys(label for _, label in served)
    variables = one.variables(one.example)
    fetch = f"<code>cookbook fetch {name}</code>, or " if one.fetches else ""
    facts = {
        "In this build": "<br>".join(labels) or "no recipe ran on it",
        "Verified": number(len({recipe for recipe, _ in served}), "recipe"),
        "Address in": _codes(variables),
        "For example": _codes(variables.values()),
        "To install": fetch + html.escape(one.install),
    }
    if one.port:
        facts["Container"] = _image(one)
    rows = "".join(
        f'<tr><th scope="row">{fact}</th><td>{it}</td></tr>'
        for fact, it in facts.items()
    )
    return f'<table class="vf-facts"><tbody>{rows}</tbody></table>\n'


def _codes(texts: Iterable[str]) -> str:
    return "<br>".join(f"<code>{html.escape(text)}</code>" for text in texts)


def _image(one: Engine) -> str:
    try:
        return f"<code>{html.escape(compose.image(one))}</code>"
    except UnavailableError as error:
        return html.escape(str(error))


def _served(data: Data, name: str, title: str) -> Iterator[tuple[str, str]]:
    """The recipes verified on it, and the server that each of them had."""
    for recipe in catalog.all_recipes():
        for standing in data.standings(recipe):
            if standing.state != "verified" or not standing.record:
                continue
            for used in standing.record.engines:
                if used.engine == name or (used.name == title and used.stand_in_for):
                    yield recipe.id, _label(used, used.engine == name)


def _label(used: EngineUsed, own: bool) -> str:
    label = (
        f"<b>{html.escape(f'{used.name} {used.version}')}</b>, {_FROM[used.provider]}"
    )
    if used.stand_in_for:
        label += (
            f", {'as' if own else 'which served as'} a stand-in for {used.stand_in_for}"
        )
    return label
