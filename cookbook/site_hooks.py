"""Gives the theme's search dialog the name it lacks. Content comes from markdown.py."""

from typing import Any

_SEARCH = '<div class="md-search" data-md-component="search" role="dialog"'


def on_post_page(output: str, **_: Any) -> str:
    return output.replace(_SEARCH, f'{_SEARCH} aria-label="Search"')


def on_post_template(output_content: str, **_: Any) -> str:  # 404.html
    return on_post_page(output_content)
