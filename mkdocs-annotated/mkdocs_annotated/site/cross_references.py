r"""
# What ties a page to the rest of the site

Links from names to definitions, and the symbols that equations and code share, need all modules at
once. An `Apparatus` is made when all of them are read, and asked while each page is put together.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mkdocs_annotated.markdown.equations import mark_symbols
from mkdocs_annotated.markdown.prose import RenderedRows
from mkdocs_annotated.site.links import Entry, Index, Target
from mkdocs_annotated.site.symbols import Symbols
from mkdocs_annotated.source.code import Mark
from mkdocs_annotated.source.names import find_names
from mkdocs_annotated.source.parse import Module

LATEX = re.compile(r' data-latex="[^"]*"')


@dataclass(frozen=True)
class Legend:
    """A symbol of a page: its MathML, and what it means."""

    id: str
    mathml: str
    text: str


def entry(module: Module, name: str, uri: str, path: str) -> Entry:
    """What other modules must know of one."""
    anchors = frozenset(anchor.name for row in module.rows for anchor in row.anchors)
    package = path.rpartition("/")[2] == "__init__.py"
    return Entry(name, uri, find_names(module.source), anchors, package, path)


class Apparatus:
    def __init__(self, entries: Sequence[Entry], index: Index, symbols: Symbols) -> None:
        self.entries = {entry.uri: entry for entry in entries}
        self.index = index
        self.symbols = symbols
        self.seen: dict[str, set[str]] = {}  # the symbols of each page

    def marks(self, uri: str, address: Callable[[Target], str]) -> dict[int, list[Mark]]:
        """The names of a module's code that lead somewhere or stand for a symbol, by line."""
        entry = self.entries[uri]
        symbols = self.symbols.code.get(entry.path, {})
        found: dict[tuple[int, int], Mark] = {}
        for name in entry.names.occurrences:
            symbol = symbols.get((name.line, name.column))
            if symbol:
                found[name.line, name.column] = Mark(name.column, name.end, symbol=symbol)
                self.seen.setdefault(uri, set()).add(symbol)
        for name, target in self.index.code(entry):
            place = (name.line, name.column)
            held = found.get(place, Mark(name.column, name.end))
            found[place] = dataclasses.replace(held, href=address(target))
        lines: dict[int, list[Mark]] = {}
        for (line, _), each in sorted(found.items()):
            lines.setdefault(line, []).append(each)
        return lines

    def refer(self, uri: str, module: Module | None) -> Callable[[str, int], str]:
        """The address of a name in the prose of a page, as a link between Markdown files."""
        entry = self.entries.get(uri)
        scopes = _scopes(entry, module)

        def address(text: str, row: int) -> str:
            within = scopes[row] if row < len(scopes) else ""
            target = self.index.prose(text, entry, within)
            if target is None or target.url:
                return target.url if target else ""
            fragment = f"#{target.fragment}" if target.fragment else ""
            if target.uri == uri:
                return fragment
            return posixpath.relpath(target.uri, posixpath.dirname(uri) or ".") + fragment

        return address

    def rows(self, uri: str, module: Module, pieces: RenderedRows) -> RenderedRows:
        """The prose of a module with the symbols in its equations marked."""
        entry = self.entries[uri]
        scopes = _scopes(entry, module)
        rows = [
            self.page(uri, entry.path, html, scope)
            for html, scope in zip(pieces.rows, scopes, strict=True)
        ]
        return RenderedRows(tuple(rows), self.page(uri, entry.path, pieces.footnotes))

    def page(self, uri: str, path: str, html: str, scope: str = "") -> str:
        def seen(symbol: str) -> None:
            self.seen.setdefault(uri, set()).add(symbol)
            self.symbols.met.add(symbol)

        return mark_symbols(html, self.symbols.at(path, scope), seen) if "<math" in html else html

    def legend(self, uri: str) -> list[Legend]:
        """The symbols of a page in the order of the file."""
        here = self.seen.get(uri, set())
        return [
            Legend(each.id, LATEX.sub("", each.tex[0].mathml), each.text)
            for each in self.symbols.found
            if each.id in here and each.tex
        ]


def _scopes(entry: Entry | None, module: Module | None) -> list[str]:
    """The class or function that the prose of each row speaks of."""
    if entry is None or module is None:
        return []
    found = []
    for row in module.rows:
        if row.anchors and row.prose:
            found.append(row.anchors[0].name)
        else:
            line = row.code[0].number if row.code else row.lines[0] if row.lines else 0
            found.append(entry.scope_at(line).name)
    return found
