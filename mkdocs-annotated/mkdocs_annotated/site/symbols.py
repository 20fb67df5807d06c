r"""Connect the symbols of the paper with their names in the code.

# The symbols of the paper

A YAML file maps each symbol to its spelling in LaTeX and to its names in the code:

```yaml
W:
  tex: W                       # or a list of spellings
  text: the spatial weights    # for the legend
  code:
    SpatialProjection: [self.weight, weight]
  equations: labml_gmlp/       # only in these equations; default: all
```

A scope is a class or function (`SpatialGatingUnit.forward`, if only one file defines it), a file or
folder (`labml_gmlp/blocks/gmlp.py`, `labml_gmlp/`), or both
(`labml_gmlp/blocks/gmlp.py::SpatialGatingUnit.forward`). It includes everything inside it. If two
symbols claim the same letter or name, the narrower scope wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.markdown.equations import Structure, symbol_structure
from mkdocs_annotated.markdown.math import to_mathml
from mkdocs_annotated.site.links import IndexedModule
from mkdocs_annotated.source.names import Name
from mkdocs_annotated.source.yaml_file import line_of, read_yaml

KEYS = ("tex", "text", "code", "equations")
ID = re.compile(r"[A-Za-z][\w-]*")


@dataclass(frozen=True)
class SymbolScope:
    """The part of the site that a symbol applies to: a path, a qualified name, or both."""

    path: str
    name: str
    line: int

    def __str__(self) -> str:
        return "::".join(filter(None, (self.path, self.name)))

    def __contains__(self, location: tuple[str, str]) -> bool:
        """Return whether a path and a qualified name are inside the scope."""
        path, name = location
        inside = not self.path or f"{path}/".startswith(f"{self.path}/")
        return inside and (not self.name or f"{name}.".startswith(f"{self.name}."))

    @property
    def narrowness(self) -> tuple[int, int]:
        """The sort key by which the narrower of two scopes wins."""
        return (self.name.count(".") + 1 if self.name else 0, self.path.count("/"))


@dataclass(frozen=True)
class Spelling:
    """One LaTeX spelling of a symbol, as MathML and as the tree that equations are searched for."""

    latex: str
    mathml: str
    structure: Structure
    line: int


@dataclass(frozen=True)
class CodeName:
    """The name of a symbol in the code of a scope: a variable, or an attribute with its object."""

    scope: SymbolScope
    name: str
    line: int

    def matches(self, name: Name) -> bool:
        return name.dotted == self.name and name.kind not in ("keyword", "import")


@dataclass(frozen=True)
class Symbol:
    r"""One symbol of the paper.

    * `line` is its line in the file of symbols
    * `text` is its meaning, for the legend
    * `tex` are its spellings, `code` the names that stand for it
    * `equations` are the scopes whose equations contain it; empty means all
    """

    id: str
    line: int
    text: str
    tex: tuple[Spelling, ...]
    code: tuple[CodeName, ...]
    equations: tuple[SymbolScope, ...]


@dataclass
class SymbolTable:
    r"""The symbols of a site, and where they occur.

    * `path` is the file of symbols, as error messages show it
    * `symbols` are the symbols in the order of the file
    * `errors` are the mistakes of the file
    * `code` maps a file, and a line and column in it, to the id of the symbol there
    * `in_equations` are the ids of the symbols that an equation of the site contains

    ```python
    table = read_symbols(Path("docs/symbols.yml"), "docs/symbols.yml")
    table.find_in_code(modules, pages)
    ```
    """

    path: str
    symbols: tuple[Symbol, ...] = ()
    errors: list[SourceError] = field(default_factory=list)
    code: dict[str, dict[tuple[int, int], str]] = field(default_factory=dict)
    in_equations: set[str] = field(default_factory=set)

    def report(self, line: int, message: str) -> None:
        """Record a mistake, unless it has been recorded already."""
        if all((each.line, each.message) != (line, message) for each in self.errors):
            self.errors.append(SourceError(self.path, line, message))

    def find_in_code(self, modules: Sequence[IndexedModule], pages: Iterable[str]) -> None:
        """Fill `code` with the names of all modules; `pages` are the files of all pages."""
        sources = {module.path for module in modules}
        paths = sources | set(pages)
        claims: dict[tuple[str, int, int], list[tuple[Symbol, CodeName]]] = {}
        for symbol in self.symbols:
            for scope in symbol.equations:
                self.scope_exists(scope, modules, paths)
            for code in symbol.code:
                if not self.scope_exists(code.scope, modules, sources):
                    continue
                positions = list(_positions(code, modules))
                if not positions:
                    self.report(code.line, f"no name {code.name} in {code.scope}")
                for position in positions:
                    claims.setdefault(position, []).append((symbol, code))
        for (path, line, column), claim in claims.items():
            claim.sort(key=lambda each: each[1].scope.narrowness, reverse=True)
            first, *rest = claim
            for symbol, code in rest:
                same = code.scope.narrowness == first[1].scope.narrowness
                if same and symbol.id != first[0].id:
                    message = f"{code.name} in {code.scope} already stands for {first[0].id}"
                    self.report(code.line, message)
            self.code.setdefault(path, {})[line, column] = first[0].id

    def scope_exists(
        self, scope: SymbolScope, modules: Sequence[IndexedModule], paths: set[str]
    ) -> bool:
        """Return whether exactly one place of the site matches the scope; report if not."""
        inside = [path for path in sorted(paths) if (path, "") in SymbolScope(scope.path, "", 0)]
        if not inside:
            self.report(scope.line, f"no file or folder {scope.path} on the site")
            return False
        if not scope.name:
            return True
        owners = [m.path for m in modules if m.path in inside and scope.name in m.names.scopes]
        if not owners:
            self.report(scope.line, f"no class or function {scope}")
        elif len(owners) > 1:
            choices = " or ".join(f"{path}::{scope.name}" for path in owners)
            self.report(scope.line, f"{len(owners)} files define {scope}; write {choices}")
        return len(owners) == 1

    def in_scope(self, path: str, scope: str = "") -> dict[Structure, str]:
        """Return the symbols that equations may contain on a page, within a class or function."""
        best: dict[Structure, tuple[tuple[int, int], str]] = {}
        for symbol in self.symbols:
            limits = [limit.narrowness for limit in symbol.equations if (path, scope) in limit]
            if symbol.equations and not limits:
                continue
            rank = max(limits, default=(-1, 0))
            for spelling in symbol.tex:
                other = best.get(spelling.structure)
                if other and other[0] == rank:
                    self.report(
                        spelling.line,
                        f"{spelling.latex} already stands for {other[1]} in {path}; "
                        f"limit one of them with `equations`",
                    )
                elif other is None or rank > other[0]:
                    best[spelling.structure] = (rank, symbol.id)
        return {structure: symbol for structure, (_, symbol) in best.items()}

    def all_errors(self) -> list[SourceError]:
        """Return all mistakes by line; call it after every page has been rendered."""
        in_code = {symbol for names in self.code.values() for symbol in names.values()}
        for symbol in self.symbols:
            if symbol.tex and symbol.id not in self.in_equations:
                self.report(symbol.line, f"no equation of the site contains the symbol {symbol.id}")
            # A name that was not found has already been reported.
            if symbol.id not in in_code and not any(
                each.line in {part for code in symbol.code for part in (code.line, code.scope.line)}
                for each in self.errors
            ):
                self.report(symbol.line, f"no code of the site contains the symbol {symbol.id}")
        return sorted(self.errors, key=lambda error: error.line)


def _positions(code: CodeName, modules: Sequence[IndexedModule]) -> Iterator[tuple[str, int, int]]:
    """Yield path, line and column of each occurrence of a name."""
    for module in modules:
        if (module.path, code.scope.name) in code.scope and (
            not code.scope.name or code.scope.name in module.names.scopes
        ):
            for name in module.names.occurrences:
                if (module.path, name.scope) in code.scope and code.matches(name):
                    yield module.path, name.line, name.column


def read_symbols(path: Path, display_path: str) -> SymbolTable:
    """Read a file of symbols.

    * `display_path` is the path that error messages show

    Mistakes in a symbol become `errors` of the table. Raises `SourceError` if the file cannot be
    read, is not UTF-8 or is not a YAML mapping.
    """
    root = read_yaml(path, display_path, yaml.MappingNode, "one `id:` for each symbol")
    table = SymbolTable(display_path)
    reader = _SymbolReader(table)
    found = [reader.symbol(key, value) for key, value in (root.value if root else ())]
    table.symbols = tuple(symbol for symbol in found if symbol)
    return table


class _SymbolReader:
    """Turns YAML nodes into symbols and reports mistakes to the table."""

    def __init__(self, table: SymbolTable) -> None:
        self.report = table.report
        self.ids: set[str] = set()

    def symbol(self, key: yaml.Node, value: yaml.Node) -> Symbol | None:
        line = line_of(key)
        if not isinstance(key, yaml.ScalarNode) or not ID.fullmatch(key.value):
            self.report(line, "a symbol's id must be a letter, then letters, digits, - or _")
            return None
        if key.value in self.ids:
            self.report(line, f"the symbol {key.value} is given twice")
            return None
        self.ids.add(key.value)
        if not isinstance(value, yaml.MappingNode):
            self.report(line, f"{key.value} needs `tex` and `code`")
            return None
        parts: dict[str, yaml.Node] = {}
        for name, part in value.value:
            if name.value not in KEYS:
                message = f"unknown key {name.value}; choose one of {', '.join(KEYS)}"
                self.report(line_of(name), message)
            parts[str(name.value)] = part
        for needed in ("tex", "code"):
            if needed not in parts:
                self.report(line, f"{key.value} has no `{needed}`")
        return Symbol(
            key.value,
            line,
            next((text for text, _ in self.texts(parts.get("text"))), ""),
            tuple(filter(None, (self.spelling(*each) for each in self.texts(parts.get("tex"))))),
            tuple(self.code(parts.get("code"))),
            tuple(_scope(*each) for each in self.texts(parts.get("equations"))),
        )

    def texts(self, node: yaml.Node | None) -> list[tuple[str, int]]:
        """Return a text or a list of texts, each with its line."""
        if node is None:
            return []
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        found = []
        for part in parts:
            if isinstance(part, yaml.ScalarNode) and part.value.strip():
                found.append((part.value.strip(), line_of(part)))
            else:
                self.report(line_of(part), "expected a text or a list of texts")
        return found

    def spelling(self, latex: str, line: int) -> Spelling | None:
        try:
            mathml = to_mathml(latex, display=False)
            structure = symbol_structure(mathml)
        except ValueError as error:
            self.report(line, f"LaTeX cannot be rendered: {error}")
            return None
        if structure is None:
            self.report(line, f"{latex} is more than one symbol")
            return None
        return Spelling(latex, mathml, structure, line)

    def code(self, node: yaml.Node | None) -> Iterator[CodeName]:
        if node is None:
            return
        if not isinstance(node, yaml.MappingNode):
            self.report(line_of(node), "code must be `scope: name` or `scope: [names]`")
            return
        for key, value in node.value:
            scope = _scope(str(key.value), line_of(key))
            for name, line in self.texts(value):
                yield CodeName(scope, name, line)


def _scope(text: str, line: int) -> SymbolScope:
    path, separator, name = text.partition("::")
    if separator:
        return SymbolScope(path.strip("/"), name, line)
    # A slash or a file suffix makes a path; a top-level folder is written `shapes/`.
    if "/" in text or text.endswith((".py", ".md")):
        return SymbolScope(text.strip("/"), "", line)
    return SymbolScope("", text, line)
