r"""
# What the search looks through

A reader of code looks for `nn.einsum(`, for half of a name, for a sign in an equation. So the index
holds the text of each row as it is, and the browser looks for substrings in it: nothing is stemmed,
split into words or left out. It is a script that sets one global, because a page opened from disk
may load a script but not data, and pages ask for it only when the search is opened.

    annotatedIndex = [[address, title, [[anchor, prose, [[line, code], ...]], ...]], ...]

A heading's section of an ordinary page is a row without code.
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
# Neighbours of these are neighbours in a sentence.
INLINE = frozenset(("a", "abbr", "b", "code", "del", "em", "i", "kbd", "mark", "s", "small"))
INLINE |= frozenset(("span", "strong", "sub", "sup", "u"))
SILENT = frozenset(("script", "style", "math", "svg"))


@dataclass(frozen=True)
class Entry:
    """What one result can be: a row of a source page, or a section of an ordinary one."""

    anchor: str
    prose: str
    code: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Indexed:
    """One page, by its address on the site."""

    address: str
    title: str
    entries: tuple[Entry, ...]


def rows(module: Module, pieces: RenderedRows) -> tuple[Entry, ...]:
    """The rows of a source page; the anchor is a line number."""
    found = []
    for row, html in zip(module.rows, pieces.rows, strict=True):
        first = [*row.prose, *row.code][0].number if row.prose or row.code else row.lines[0]
        found.append(Entry(f"L{first}", text(html), row.code))
    note = re.search(r'id="([^"]+)"', pieces.footnotes)
    if note:  # footnotes belong to no row
        found.append(Entry(note[1], text(pieces.footnotes)))
    return tuple(found)


def sections(html: str) -> tuple[Entry, ...]:
    """The text of an ordinary page, cut at its headings; the anchor is that of the heading."""
    return tuple(Entry(anchor, prose) for anchor, prose in _read(html) if prose)


def text(html: str) -> str:
    """The text of a piece of HTML in one line, its formulas as LaTeX."""
    return " ".join(prose for _, prose in _read(html)).strip()


def script(pages: Iterable[Indexed]) -> str:
    """The index as the browser loads it."""
    data = [[page.address, page.title, [_packed(e) for e in page.entries]] for page in pages]
    # Lone surrogates may stand in a source file, but not in UTF-8.
    packed = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    packed = packed.encode("utf-8", "replace").decode("utf-8")
    return f"annotatedIndex={packed}\n"


def _packed(entry: Entry) -> list[Any]:
    lines = [[line.number, line.text] for line in entry.code if line.text.strip()]
    return [entry.anchor, entry.prose, lines]


def _read(html: str) -> list[tuple[str, str]]:
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.sections()


class _Reader(HTMLParser):
    """Collects text, and begins anew at each heading."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, list[str]]] = [("", [])]
        self.silent: list[str] = []

    def sections(self) -> list[tuple[str, str]]:
        return [(anchor, " ".join("".join(parts).split())) for anchor, parts in self.found]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in HEADINGS:
            self.found.append((values.get("id") or "", []))
        if not self.silent and tag not in INLINE and tag not in SILENT:
            self.add(" ")
        if tag == "math" and not self.silent:
            mark = "$$" if values.get("display") == "block" else "$"
            self.add(f"{mark}{values.get('data-latex') or ''}{mark}")
        if tag in SILENT:
            self.silent.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.silent:
            if self.silent[-1] == tag:
                self.silent.pop()
        elif tag not in INLINE:
            self.add(" ")

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.add(data)

    def add(self, part: str) -> None:
        self.found[-1][1].append(part)
