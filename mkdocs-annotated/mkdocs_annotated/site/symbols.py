r"""
# The symbols of the paper

A YAML file says, for each symbol, how LaTeX spells it and which names of the code stand for it:

```yaml
W:
  tex: W                       # or a list of spellings
  text: the spatial weights    # for the legend
  code:
    SpatialProjection: [self.weight, weight]
  equations: labml_gmlp/       # only there; left out, everywhere
```

A scope is a class or function (`SpatialGatingUnit.forward`, if one file of the site has it), a
file or folder (`labml_gmlp/blocks/gmlp.py`, `labml_gmlp/`), or both, as in
`labml_gmlp/blocks/gmlp.py::SpatialGatingUnit.forward`. It includes what is inside of it. Where
two symbols share a letter or a name, the narrower scope wins.
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
from mkdocs_annotated.site.links import Entry
from mkdocs_annotated.source.names import Name
from mkdocs_annotated.source.yaml_file import compose

KEYS = ("tex", "text", "code", "equations")
ID = re.compile(r"[A-Za-z][\w-]*")


@dataclass(frozen=True)
class Scope:
    """A place as the author wrote it: a path, a qualified name, or both."""

    path: str
    name: str
    line: int

    def __str__(self) -> str:
        return "::".join(filter(None, (self.path, self.name)))

    def __contains__(self, place: tuple[str, str]) -> bool:
        path, name = place
        inside = not self.path or f"{path}/".startswith(f"{self.path}/")
        return inside and (not self.name or f"{name}.".startswith(f"{self.name}."))

    @property
    def narrowness(self) -> tuple[int, int]:
        return (self.name.count(".") + 1 if self.name else 0, self.path.count("/"))


@dataclass(frozen=True)
class Spelling:
    latex: str
    mathml: str
    shape: Structure
    line: int


@dataclass(frozen=True)
class Code:
    """A name of the code, alone or behind its object, in a scope."""

    scope: Scope
    name: str
    line: int

    def fits(self, name: Name) -> bool:
        return name.dotted == self.name and name.kind not in ("keyword", "import")


@dataclass(frozen=True)
class Symbol:
    id: str
    line: int
    text: str
    tex: tuple[Spelling, ...]
    code: tuple[Code, ...]
    equations: tuple[Scope, ...]


@dataclass
class Symbols:
    r"""
    The symbols of a site while it is built.

    * `problems` are the mistakes of the file
    * `code` holds the symbol of each name of the code, by file, line and column
    * `met` are the symbols that an equation of the site has shown
    """

    path: str
    found: tuple[Symbol, ...] = ()
    problems: list[SourceError] = field(default_factory=list)
    code: dict[str, dict[tuple[int, int], str]] = field(default_factory=dict)
    met: set[str] = field(default_factory=set)

    def report(self, line: int, message: str) -> None:
        if all((each.line, each.message) != (line, message) for each in self.problems):
            self.problems.append(SourceError(self.path, line, message))

    def connect(self, entries: Sequence[Entry], pages: Iterable[str]) -> None:
        """Finds the names of the code; `pages` are the files of all pages."""
        paths = {entry.path for entry in entries} | set(pages)
        claims: dict[tuple[str, int, int], list[tuple[Symbol, Code]]] = {}
        for symbol in self.found:
            for scope in symbol.equations:
                self.check(scope, entries, paths)
            for code in symbol.code:
                if not self.check(code.scope, entries, {entry.path for entry in entries}):
                    continue
                places = list(_places(code, entries))
                if not places:
                    self.report(code.line, f"there is no name {code.name} in {code.scope}")
                for place in places:
                    claims.setdefault(place, []).append((symbol, code))
        for (path, line, column), claim in claims.items():
            claim.sort(key=lambda each: each[1].scope.narrowness, reverse=True)
            first, *rest = claim
            for symbol, code in rest:
                same = code.scope.narrowness == first[1].scope.narrowness
                if same and symbol.id != first[0].id:
                    self.report(code.line, f"{code.name} in {code.scope} is {first[0].id} already")
            self.code.setdefault(path, {})[line, column] = first[0].id

    def check(self, scope: Scope, entries: Sequence[Entry], paths: set[str]) -> bool:
        """True if the scope exists, and only once."""
        inside = [path for path in sorted(paths) if (path, "") in Scope(scope.path, "", 0)]
        if not inside:
            self.report(scope.line, f"there is no file or folder {scope.path} on the site")
            return False
        if not scope.name:
            return True
        owners = [e.path for e in entries if e.path in inside and scope.name in e.names.scopes]
        if not owners:
            self.report(scope.line, f"there is no class or function {scope}")
        elif len(owners) > 1:
            which = " or ".join(f"{path}::{scope.name}" for path in owners)
            self.report(scope.line, f"{scope} stands in {len(owners)} files; write {which}")
        return len(owners) == 1

    def at(self, path: str, scope: str = "") -> dict[Structure, str]:
        """The symbol of each shape in the prose of a page, within a class or function."""
        best: dict[Structure, tuple[tuple[int, int], str]] = {}
        for symbol in self.found:
            fitting = [limit.narrowness for limit in symbol.equations if (path, scope) in limit]
            if symbol.equations and not fitting:
                continue
            rank = max(fitting, default=(-1, 0))
            for spelling in symbol.tex:
                held = best.get(spelling.shape)
                if held and held[0] == rank:
                    self.report(
                        spelling.line,
                        f"{spelling.latex} is {held[1]} already in {path}; say with "
                        f"`equations` where it is which",
                    )
                elif held is None or rank > held[0]:
                    best[spelling.shape] = (rank, symbol.id)
        return {shape: symbol for shape, (_, symbol) in best.items()}

    def finish(self) -> list[SourceError]:
        """All mistakes, once every page is rendered."""
        written = {symbol for names in self.code.values() for symbol in names.values()}
        for symbol in self.found:
            if symbol.tex and symbol.id not in self.met:
                self.report(symbol.line, f"no equation of the site has the symbol {symbol.id}")
            # A name that was not found has been reported by itself.
            if symbol.id not in written and not any(
                each.line in {part for code in symbol.code for part in (code.line, code.scope.line)}
                for each in self.problems
            ):
                self.report(symbol.line, f"no code of the site has the symbol {symbol.id}")
        return sorted(self.problems, key=lambda problem: problem.line)


def _places(code: Code, entries: Sequence[Entry]) -> Iterator[tuple[str, int, int]]:
    for entry in entries:
        if (entry.path, code.scope.name) in code.scope and (
            not code.scope.name or code.scope.name in entry.names.scopes
        ):
            for name in entry.names.occurrences:
                if (entry.path, name.scope) in code.scope and code.fits(name):
                    yield entry.path, name.line, name.column


def read_symbols(path: Path, shown: str) -> Symbols:
    """Raises `SourceError` for a file that is not YAML; all else becomes a problem of its line."""
    root = compose(path, shown, "file of symbols")
    symbols = Symbols(shown)
    if root is None:
        return symbols
    if not isinstance(root, yaml.MappingNode):
        raise SourceError(shown, 1, "a file of symbols holds one `id:` after another")
    reader = _Reader(symbols)
    symbols.found = tuple(filter(None, map(reader.symbol, *zip(*root.value, strict=True))))
    return symbols


class _Reader:
    def __init__(self, symbols: Symbols) -> None:
        self.report = symbols.report
        self.ids: set[str] = set()

    def symbol(self, key: yaml.Node, value: yaml.Node) -> Symbol | None:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or not ID.fullmatch(key.value):
            self.report(line, "the id of a symbol must be a letter, then letters, digits, - or _")
            return None
        if key.value in self.ids:
            self.report(line, f"the symbol {key.value} stands here twice")
            return None
        self.ids.add(key.value)
        if not isinstance(value, yaml.MappingNode):
            self.report(line, f"{key.value} needs `tex` and `code`")
            return None
        parts: dict[str, yaml.Node] = {}
        for name, part in value.value:
            if name.value not in KEYS:
                known = ", ".join(KEYS)
                self.report(name.start_mark.line + 1, f"the key {name.value} is not one of {known}")
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
        """A text, or a list of them, with their lines."""
        if node is None:
            return []
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        found = []
        for part in parts:
            if isinstance(part, yaml.ScalarNode) and part.value.strip():
                found.append((part.value.strip(), part.start_mark.line + 1))
            else:
                self.report(part.start_mark.line + 1, "here must be a text or a list of texts")
        return found

    def spelling(self, latex: str, line: int) -> Spelling | None:
        try:
            mathml = to_mathml(latex, display=False)
            shape = symbol_structure(mathml)
        except ValueError as error:
            self.report(line, f"LaTeX cannot be rendered: {error}")
            return None
        if shape is None:
            self.report(line, f"{latex} is more than one symbol")
            return None
        return Spelling(latex, mathml, shape, line)

    def code(self, node: yaml.Node | None) -> Iterator[Code]:
        if node is None:
            return
        if not isinstance(node, yaml.MappingNode):
            self.report(node.start_mark.line + 1, "code is `scope: name` or `scope: [names]`")
            return
        for key, value in node.value:
            scope = _scope(str(key.value), key.start_mark.line + 1)
            for name, line in self.texts(value):
                yield Code(scope, name, line)


def _scope(text: str, line: int) -> Scope:
    path, both, name = text.partition("::")
    if both:
        return Scope(path.strip("/"), name, line)
    # A class has no slash and no file name's end; a folder at the top is written `shapes/`.
    if "/" in text or text.endswith((".py", ".md")):
        return Scope(text.strip("/"), "", line)
    return Scope("", text, line)
