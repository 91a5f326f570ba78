"""What the tests of this chapter share."""

from collections.abc import Callable

import pytest

from cookbook import notebooks
from cookbook.catalog import Recipe
from cookbook.engines import engine


@pytest.fixture
def run_notebook(postgresql: str) -> Callable[[str], list[str]]:
    """Execute the notebook of a recipe, and return the HTML that its cells display."""

    def run(recipe: str) -> list[str]:
        served_by = " ".join(engine("postgresql").identify(postgresql))
        addresses = {"POSTGRESQL_URL": postgresql}
        notebook = notebooks.execute(Recipe(recipe), addresses, served_by)
        outputs = [out for it in notebook["cells"] for out in it.get("outputs", [])]
        shown = [out.get("data", {}).get("text/html") for out in outputs]
        return ["".join(lines) for lines in shown if lines]

    return run
