r"""Apply the links and symbols of a site to its pages.

# Cross-references

Links from names to definitions, and symbols shared by equations and code, need all modules at
once. `CrossReferences` is built after all of them have been read and then used for each page.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mkdocs_annotated.markdown.equations import mark_symbols
from mkdocs_annotated.markdown.prose import RenderedRows
from mkdocs_annotated.site.links import DefinitionIndex, IndexedModule, LinkTarget
from mkdocs_annotated.site.symbols import SymbolTable
from mkdocs_annotated.source.code import Mark
from mkdocs_annotated.source.parse import Module

LATEX = re.compile(r' data-latex="[^"]*"')


@dataclass(frozen=True)
class LegendItem:
    """A symbol in the legend of a page: its MathML and its meaning."""

    id: str
    mathml: str
    text: str


class CrossReferences:
    r"""The links and symbols of all pages of a site.

    * `modules` are the modules of the site
    * `index` resolves names, `symbols` holds the symbols of the paper

    ```python
    references = CrossReferences(modules, DefinitionIndex(modules, {}), SymbolTable(""))
    references.prose_linker("gate.md", module)("Gate.forward", 0)  # "#Gate.forward"
    ```
    """

    def __init__(
        self, modules: Sequence[IndexedModule], index: DefinitionIndex, symbols: SymbolTable
    ) -> None:
        self.modules = {module.uri: module for module in modules}
        self.index = index
        self.symbols = symbols
        self.shown_symbols: dict[str, set[str]] = {}  # the symbols on each page

    def code_marks(self, uri: str, address: Callable[[LinkTarget], str]) -> dict[int, list[Mark]]:
        """Return the linked names and the symbols in the code of a module, by line."""
        module = self.modules[uri]
        symbols = self.symbols.code.get(module.path, {})
        found: dict[tuple[int, int], Mark] = {}
        for name in module.names.occurrences:
            symbol = symbols.get((name.line, name.column))
            if symbol:
                found[name.line, name.column] = Mark(name.column, name.end, symbol=symbol)
                self.shown_symbols.setdefault(uri, set()).add(symbol)
        for name, target in self.index.code_links(module):
            position = (name.line, name.column)
            existing = found.get(position, Mark(name.column, name.end))
            found[position] = dataclasses.replace(existing, href=address(target))
        lines: dict[int, list[Mark]] = {}
        for (line, _), each in sorted(found.items()):
            lines.setdefault(line, []).append(each)
        return lines

    def prose_linker(self, uri: str, module: Module | None) -> Callable[[str, int], str]:
        """Return a function from a name in the prose of a page and its row to a Markdown link.

        The function returns an empty string for a name without a link.
        """
        indexed = self.modules.get(uri)
        scopes = _row_scopes(indexed, module)

        def address(text: str, row: int) -> str:
            within = scopes[row] if row < len(scopes) else ""
            target = self.index.resolve_prose(text, indexed, within)
            if target is None or target.url:
                return target.url if target else ""
            fragment = f"#{target.fragment}" if target.fragment else ""
            if target.uri == uri:
                return fragment
            return posixpath.relpath(target.uri, posixpath.dirname(uri) or ".") + fragment

        return address

    def mark_rows(self, uri: str, module: Module, rendered: RenderedRows) -> RenderedRows:
        """Mark the symbols in the equations of a module."""
        indexed = self.modules[uri]
        scopes = _row_scopes(indexed, module)
        rows = [
            self.mark_symbols(uri, indexed.path, html, scope)
            for html, scope in zip(rendered.rows, scopes, strict=True)
        ]
        return RenderedRows(tuple(rows), self.mark_symbols(uri, indexed.path, rendered.footnotes))

    def mark_symbols(self, uri: str, path: str, html: str, scope: str = "") -> str:
        """Mark the symbols in the equations of HTML that describes the definition `scope`."""

        def seen(symbol: str) -> None:
            self.shown_symbols.setdefault(uri, set()).add(symbol)
            self.symbols.in_equations.add(symbol)

        return (
            mark_symbols(html, self.symbols.in_scope(path, scope), seen)
            if "<math" in html
            else html
        )

    def show_symbol(self, uri: str, symbol: str) -> bool:
        """Add a symbol to the legend of a page; return whether the site has it."""
        if all(each.id != symbol for each in self.symbols.symbols):
            return False
        self.shown_symbols.setdefault(uri, set()).add(symbol)
        return True

    def legend(self, uri: str) -> list[LegendItem]:
        """Return the symbols of a page in the order of the file of symbols."""
        on_page = self.shown_symbols.get(uri, set())
        return [
            LegendItem(each.id, LATEX.sub("", each.tex[0].mathml), each.text)
            for each in self.symbols.symbols
            if each.id in on_page and each.tex
        ]


def _row_scopes(indexed: IndexedModule | None, module: Module | None) -> list[str]:
    """Return the qualified name of the class or function that the prose of each row describes."""
    if indexed is None or module is None:
        return []
    found = []
    for row in module.rows:
        if row.anchors and row.prose:
            found.append(row.anchors[0].name)
        else:
            line = row.code[0].number if row.code else row.lines[0] if row.lines else 0
            found.append(indexed.scope_at(line).name)
    return found
