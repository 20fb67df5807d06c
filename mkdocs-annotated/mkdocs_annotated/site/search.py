r"""Build the search index of the site.

# The search index

A reader of code searches for `nn.einsum(`, for part of a name or for a sign in an equation. The
index therefore stores the text of each row unchanged and the browser searches it for substrings,
without stemming or tokenising. It is a script that sets one global variable, because a page opened
from disk may load a script but no data. Pages load it when the search is first opened.

    annotatedIndex = [[address, title, [[anchor, prose, [[line, code], ...]], ...]], ...]

On an ordinary page each section under a heading is a row without code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

from mkdocs_annotated.markdown.prose import RenderedRows
from mkdocs_annotated.source.parse import Module
from mkdocs_annotated.source.scan import Line

ADDRESS = "search/index.js"
HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
# Inline elements do not separate words; all other elements do.
INLINE = frozenset(("a", "abbr", "b", "code", "del", "em", "i", "kbd", "mark", "s", "small"))
INLINE |= frozenset(("span", "strong", "sub", "sup", "u"))
# The text of these elements is not indexed. Formulas are indexed as LaTeX.
SKIPPED = frozenset(("script", "style", "math", "svg"))


@dataclass(frozen=True)
class SearchEntry:
    """One possible search result: a row of a source page or a section of an ordinary page."""

    anchor: str
    prose: str
    code: tuple[Line, ...] = ()


@dataclass(frozen=True)
class SearchPage:
    """The search entries of one page, with its address on the site and its title."""

    address: str
    title: str
    entries: tuple[SearchEntry, ...]


def row_entries(module: Module, rendered: RenderedRows) -> tuple[SearchEntry, ...]:
    """Return one entry per row of a source page; its anchor is a line number."""
    found = []
    for row, html in zip(module.rows, rendered.rows, strict=True):
        first = [*row.prose, *row.code][0].number if row.prose or row.code else row.lines[0]
        found.append(SearchEntry(f"L{first}", plain_text(html), row.code))
    note = re.search(r'id="([^"]+)"', rendered.footnotes)
    if note:  # footnotes belong to no row
        found.append(SearchEntry(note[1], plain_text(rendered.footnotes)))
    return tuple(found)


def section_entries(html: str) -> tuple[SearchEntry, ...]:
    """Return one entry per section of an ordinary page; its anchor is that of the heading."""
    return tuple(SearchEntry(anchor, prose) for anchor, prose in _sections(html) if prose)


def plain_text(html: str) -> str:
    """Return the text of HTML in one line, with formulas as LaTeX."""
    return " ".join(prose for _, prose in _sections(html)).strip()


def index_script(pages: Iterable[SearchPage]) -> str:
    """Return the index as JavaScript."""
    data = [[page.address, page.title, [_packed(e) for e in page.entries]] for page in pages]
    packed = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    # A source file may contain lone surrogates, which UTF-8 cannot encode.
    packed = packed.encode("utf-8", "replace").decode("utf-8")
    return f"annotatedIndex={packed}\n"


def _packed(entry: SearchEntry) -> list[Any]:
    lines = [[line.number, line.text] for line in entry.code if line.text.strip()]
    return [entry.anchor, entry.prose, lines]


def _sections(html: str) -> list[tuple[str, str]]:
    extractor = _TextExtractor()
    extractor.feed(html)
    extractor.close()
    return extractor.sections()


class _TextExtractor(HTMLParser):
    """Collects the text of HTML, with a new section at each heading."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, list[str]]] = [("", [])]
        self.skipped: list[str] = []  # the open elements whose text is not indexed

    def sections(self) -> list[tuple[str, str]]:
        return [(anchor, " ".join("".join(parts).split())) for anchor, parts in self.found]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in HEADINGS:
            self.found.append((values.get("id") or "", []))
        if not self.skipped and tag not in INLINE and tag not in SKIPPED:
            self.add(" ")
        if tag == "math" and not self.skipped:
            mark = "$$" if values.get("display") == "block" else "$"
            self.add(f"{mark}{values.get('data-latex') or ''}{mark}")
        if tag in SKIPPED:
            self.skipped.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.skipped:
            if self.skipped[-1] == tag:
                self.skipped.pop()
        elif tag not in INLINE:
            self.add(" ")

    def handle_data(self, data: str) -> None:
        if not self.skipped:
            self.add(data)

    def add(self, part: str) -> None:
        self.found[-1][1].append(part)
