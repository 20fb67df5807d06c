r"""Build the search index of the site.

# The search index

A reader of code searches for `nn.einsum(`, for part of a name or for a sign in an equation. The
index therefore stores the text of each row unchanged and the browser searches it for substrings,
without stemming or tokenising. It is a script that sets one global variable, because a page opened
from disk may load a script but no data. Pages load it when the search is first opened.

    annotatedIndex = [[address, title, [[anchor, prose, [[line, code], ...], names, headings,
                                         equations], ...]], ...]

On an ordinary page each section under a heading is a row without code. The names that a row
defines, its headings and the numbers of its equations let the browser show definitions first, then
headings, then prose, then code. Pages are in the order of the navigation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
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
    names: tuple[str, ...] = ()
    headings: tuple[str, ...] = ()
    equations: tuple[str, ...] = ()


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
        names = tuple(anchor.name for anchor in row.anchors)
        sections = _sections(html)
        headings = tuple(each.heading for each in sections if each.heading)
        equations = tuple(number for each in sections for number in each.equations)
        text = _joined(sections)
        found.append(SearchEntry(f"L{first}", text, row.code, names, headings, equations))
    note = re.search(r'id="([^"]+)"', rendered.footnotes)
    if note:  # footnotes belong to no row
        found.append(SearchEntry(note[1], plain_text(rendered.footnotes)))
    return tuple(found)


def section_entries(html: str) -> tuple[SearchEntry, ...]:
    """Return one entry per section of an ordinary page; its anchor is that of the heading."""
    return tuple(
        SearchEntry(
            each.anchor,
            each.prose,
            headings=(each.heading,) if each.heading else (),
            equations=tuple(each.equations),
        )
        for each in _sections(html)
        if each.prose
    )


def plain_text(html: str) -> str:
    """Return the text of HTML in one line, with formulas as LaTeX."""
    return _joined(_sections(html))


def index_script(pages: Iterable[SearchPage]) -> str:
    """Return the index as JavaScript."""
    data = [[page.address, page.title, [_packed(e) for e in page.entries]] for page in pages]
    packed = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    # A source file may contain lone surrogates, which UTF-8 cannot encode.
    packed = packed.encode("utf-8", "replace").decode("utf-8")
    return f"annotatedIndex={packed}\n"


def _packed(entry: SearchEntry) -> list[Any]:
    lines = [[line.number, line.text] for line in entry.code if line.text.strip()]
    packed = [entry.anchor, entry.prose, lines, entry.names, entry.headings, entry.equations]
    while len(packed) > 3 and not packed[-1]:
        packed.pop()
    return packed


@dataclass
class _Section:
    """The text below a heading, and the numbers of the equations in it."""

    anchor: str = ""
    heading_parts: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    equations: list[str] = field(default_factory=list)

    @property
    def heading(self) -> str:
        return " ".join("".join(self.heading_parts).split())

    @property
    def prose(self) -> str:
        return " ".join("".join(self.parts).split())


def _joined(sections: list[_Section]) -> str:
    return " ".join(each.prose for each in sections).strip()


def _sections(html: str) -> list[_Section]:
    extractor = _TextExtractor()
    extractor.feed(html)
    extractor.close()
    return extractor.found


class _TextExtractor(HTMLParser):
    """Collects the text of HTML, with a new section at each heading."""

    def __init__(self) -> None:
        super().__init__()
        self.found = [_Section()]
        self.in_heading = False
        self.skipped: list[str] = []  # the open elements whose text is not indexed

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in HEADINGS:
            self.found.append(_Section(values.get("id") or ""))
            self.in_heading = True
        elif tag in ("span", "wbr") and (values.get("id") or "").startswith("eq-"):
            self.found[-1].equations.append((values.get("id") or "").removeprefix("eq-"))
        if not self.skipped and tag not in INLINE and tag not in SKIPPED:
            self.add(" ")
        # Only the first part of a formula has its LaTeX.
        if tag == "math" and values.get("data-latex") != "" and not self.skipped:
            mark = "$$" if values.get("display") == "block" else "$"
            self.add(f"{mark}{values.get('data-latex') or ''}{mark}")
        if tag in SKIPPED:
            self.skipped.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in HEADINGS:
            self.in_heading = False
        if self.skipped:
            if self.skipped[-1] == tag:
                self.skipped.pop()
        elif tag not in INLINE:
            self.add(" ")

    def handle_data(self, data: str) -> None:
        if not self.skipped:
            self.add(data)

    def add(self, part: str) -> None:
        self.found[-1].parts.append(part)
        if self.in_heading:
            self.found[-1].heading_parts.append(part)
