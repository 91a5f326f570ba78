"""`cookbook new`: a recipe, its test and its page, which pass as they are."""

import re
from pathlib import Path
from textwrap import indent, wrap

from cookbook.catalog import Recipe
from cookbook.engines import ENGINES, engine
from cookbook.errors import CookbookError
from cookbook.paths import DOCS, TESTS

_RECIPE = '''\
# /// script
# requires-python = ">=3.11"
# dependencies = [{dependencies}]
{tool}# ///
"""{title}.

Say what problem this solves, and when to use it.
"""

{imports}


# --8<-- [start:ask]
def ask(address: str) -> int:
    """Ask {engine} what six times seven is."""
{body}


# --8<-- [end:ask]


NO_SERVER = (
    {no_server}
)


def main() -> None:
    address = os.environ.get("{env}") or sys.exit(NO_SERVER)
    print(f"the answer is {{ask(address)}}")


if __name__ == "__main__":
    main()
'''

_TEST = '''\
from recipes.{chapter}.{name} import ask


def test_answers({fixture}):
    """It gives the right answer."""
    assert ask({fixture}) == 42


# --8<-- [start:wrong]
def ask_as_often_copied():
    return "6 * 7"


# --8<-- [end:wrong]


def test_often_copied_does_not_calculate():
    """Often copied: it gives back the question."""
    assert ask_as_often_copied() != 42
'''

_PAGE = """\
---
description: Say in one sentence what a reader finds here.
tags: [{engine}]
---

# {title}

Say the problem in two sentences.
{{ .lead }}

<!-- verified strip {id} -->

## Do this

```python
--8<-- "recipes/{id}.py:ask"
```

<!-- verified file {id} -->

## Why it works

- Say why, in a few short points.

## Pitfall

!!! failure "Often copied, and wrong"

    ```python
    --8<-- "tests/recipes/{chapter}/test_{name}.py:wrong"
    ```

    Say what happens.

## What was proved

<!-- verified tests {id} -->
"""


def new(name: str, needs: str | None = None) -> list[Path]:
    """Write the files of a new recipe CHAPTER/VERB_NOUN and return their paths.

    Raises CookbookError where the name will not do, or a file is there already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*/[a-z][a-z0-9_]*", name):
        raise CookbookError(
            f"{name!r} is no CHAPTER/VERB_NOUN in small letters: postgresql/load_rows"
        )
    recipe = Recipe(name)
    if not needs and recipe.chapter not in ENGINES:
        raise CookbookError(
            f"the chapter {recipe.chapter!r} is not an engine: add --needs ENGINE"
            f" (one of {', '.join(ENGINES)})"
        )
    one = engine(needs or recipe.chapter)
    title = recipe.name.replace("_", " ").capitalize()
    starter = one.starter
    # Sorted as ruff sorts them: the standard library, then the driver.
    imports = sorted(["import os", "import sys", *starter.standard], key=_import_order)
    imports += ["", starter.driver] if starter.driver else []
    first, *rest = wrap(
        one.no_server, 74, break_long_words=False, break_on_hyphens=False
    )
    pieces = [first, *(f" {line}" for line in rest)]
    no_server = "\n    ".join(f'"{piece}"' for piece in pieces)
    words = {
        "id": recipe.id,
        "chapter": recipe.chapter,
        "name": recipe.name,
        "title": title,
        "engine": one.title,
        "fixture": one.name,
        "env": one.env,
        "no_server": no_server,
        "dependencies": f'"{starter.dependency}"' if starter.dependency else "",
        "tool": f'#\n# [tool.cookbook]\n# needs = ["{needs}"]\n' if needs else "",
        "imports": "\n".join(imports),
        "body": indent(starter.body, "    "),
    }
    files = {
        recipe.path: _RECIPE,
        TESTS / recipe.chapter / f"test_{recipe.name}.py": _TEST,
        DOCS / recipe.chapter / f"{recipe.name.replace('_', '-')}.md": _PAGE,
    }
    if there := [str(path) for path in files if path.exists()]:
        raise CookbookError(f"there is already {', '.join(there)}")
    for path, template in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(template.format(**words), "utf-8")
    return list(files)


def _import_order(line: str) -> tuple[bool, str]:
    """`import` before `from`, as ruff sorts them."""
    return line.startswith("from"), line
