r"""The order in which pages are read, and folders of pages in the navigation.

# Navigation
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any


def expand_folders(entries: Sequence[Any], pages: Sequence[str]) -> list[Any]:
    r"""Return the entries of a navigation with each `FOLDER/*` replaced by the pages of the folder.

    An entry whose folder has no pages disappears, so pages that only some builds have, such as
    those of local runs, can be in the navigation.

    * `entries` is `nav` of `mkdocs.yml`
    * `pages` are the URIs of all pages

    >>> expand_folders([{"Runs": "runs/*"}, {"Notes": "notes/*"}], ["runs/a.md", "runs/b.md"])
    [{'Runs': ['runs/a.md', 'runs/b.md']}]
    """
    found: list[Any] = []
    for entry in entries:
        if isinstance(entry, dict):
            for title, value in entry.items():
                if isinstance(value, list):
                    found.append({title: expand_folders(value, pages)})
                elif not _is_folder(value):
                    found.append({title: value})
                elif inside := _pages_in(value, pages):
                    found.append({title: inside})
        else:
            found += _pages_in(entry, pages) if _is_folder(entry) else [entry]
    return found


def _is_folder(value: object) -> bool:
    return isinstance(value, str) and value.endswith("/*")


def _pages_in(pattern: str, pages: Sequence[str]) -> list[str]:
    return sorted(uri for uri in pages if uri.startswith(pattern.removesuffix("*")))


def link_in_reading_order(nav: Any, titles: Sequence[str]) -> None:
    r"""Give the pages of some top entries, in their order, links to the previous and next page.

    All other pages lose these links.

    * `nav` is the navigation of MkDocs
    * `titles` are the titles of entries at the top of the navigation

    Raises `ValueError` if the navigation has no top entry of that title.
    """
    by_title = {item.title: item for item in nav}
    for title in titles:
        if title not in by_title:
            raise ValueError(f"no entry {title!r} at the top of nav")
    order = [page for title in titles for page in _pages_of([by_title[title]])]
    for page in nav.pages:
        page.previous_page = page.next_page = None
    for before, after in itertools.pairwise(order):
        before.next_page, after.previous_page = after, before


def _pages_of(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        if item.is_page:
            yield item
        yield from _pages_of(item.children or ())
