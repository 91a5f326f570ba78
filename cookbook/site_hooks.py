"""Gives the search dialog the name it lacks, and notebooks the look of the site.

Content comes from markdown.py, and from the files that `cookbook publish` writes.
"""

from typing import Any

from cookbook import notebooks

_SEARCH = '<div class="md-search" data-md-component="search" role="dialog"'


def on_page_content(html: str, page: Any, **_: Any) -> str:
    name = page.file.src_uri
    if not notebooks.is_notebook(name):
        return html
    if page.edit_url:
        page.edit_url = page.edit_url.replace(f"docs/{name}", notebooks.source_of(name))
    return notebooks.in_the_site_s_look(html)


def on_post_page(output: str, **_: Any) -> str:
    return output.replace(_SEARCH, f'{_SEARCH} aria-label="Search"')


def on_post_template(output_content: str, **_: Any) -> str:  # 404.html
    return on_post_page(output_content)
