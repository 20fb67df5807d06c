r"""
# From source text to rows

A page is a list of rows, each with prose on the left and code on the right. This module decides
which line belongs where, with `tokenize` and the syntax tree; nothing is imported or run. Each
physical line lands in exactly one row.

The rules of pairing:

* the module docstring is the first row that has prose, above the imports
* a comment on its own line opens a row, at any indent and inside brackets too; lines that follow
  each other are one comment, and a lone `#` is a paragraph break
* a docstring stands beside the header of its class or function, decorators included; the plain
  code after it stays in that row
* a docstring may begin with a sentence, for editors and `help()`, and have its heading as the
  second paragraph; the page shows the heading first
* comments behind code, and directives such as `# noqa`, are code
* in the body of a module or class, a definition without a docstring and the statement after a
  definition leave the prose above them and begin a row of their own, unless a comment did
"""

from __future__ import annotations

import ast
import bisect
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.source.scan import Docstring, Line, LogicalLine, Scan, scan


@dataclass(frozen=True)
class Anchor:
    """The qualified name of a definition, and the line its `def` or `class` stands on."""

    name: str
    line: int


@dataclass(frozen=True)
class Row:
    r"""
    Prose and the code beside it.

    * `lines` are all physical lines the row owns, shown or not
    * `prose` is Markdown, dedented, each line with the line of the file it came from
    * `code` has its original line numbers; blank lines at both ends are trimmed
    * `anchors` are the definitions that begin in this row
    * `indent` is the number of spaces that all code lines share, for narrow screens
    """

    lines: tuple[int, ...]
    prose: tuple[Line, ...] = ()
    code: tuple[Line, ...] = ()
    anchors: tuple[Anchor, ...] = ()
    indent: int = 0


@dataclass(frozen=True)
class Module:
    r"""
    A parsed file.

    * `source` is the text with all line ends turned to `\n`, as Python itself reads it
    * `front` is the YAML between `---` lines at the head of the module docstring
    * `notes` are doubtful places that do not stop a build
    """

    source: str
    rows: tuple[Row, ...]
    front_matter: tuple[Line, ...] = ()
    warnings: tuple[Line, ...] = ()


@dataclass
class RowBuilder:
    """A row that still grows; `waits` means that its prose has not met its code yet."""

    prose: tuple[Line, ...] = ()
    lines: list[int] = field(default_factory=list)
    code: list[Line] = field(default_factory=list)
    awaits_code: bool = False


@dataclass(frozen=True)
class Definition:
    """A class or function: the lines of its header, decorators included, and its docstring."""

    name: str
    line: int
    first: int
    header: LogicalLine
    docstring: Docstring | None
    is_local: bool  # a function's own affair, not a member of the module or of a class


HEADING = re.compile(r"#{1,6}[ \t]")
# A heading, a list, a quotation, a fence, a table or a displayed formula.
NOT_A_SUMMARY = re.compile(r"#{1,6}[ \t]|[*+-][ \t]|\d+\.[ \t]|>|```|~~~|\||\$\$| {4}")

Statements = Iterable[ast.stmt]
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def parse(text: str, path: str = "<string>") -> Module:
    """
    Splits the text of a Python file into rows.

    Raises `SourceError` where Python would raise `SyntaxError`.
    """
    found = scan(text, path)
    docstring = found.docstring(found.tree.body)
    definitions = list(_definitions(found, found.tree.body, "", is_local=False))
    rows = _RowSplitter(found, definitions, docstring).rows()
    front_matter: tuple[Line, ...] = ()
    if docstring:
        front_matter, _ = split_front_matter(docstring.prose)
        _check_front_matter(front_matter, docstring, path)
    documented = [d.docstring for d in definitions if d.docstring]
    warnings = [note for each in documented for note in each.warnings]
    warnings += docstring.warnings if docstring else ()
    return Module(
        found.source,
        _build_rows(rows, definitions),
        front_matter,
        tuple(sorted(warnings, key=_number)),
    )


def split_front_matter(prose: tuple[Line, ...]) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
    """The lines between two `---` at the head, and the prose after them."""
    if prose and prose[0].text.rstrip() == "---":
        for i, line in enumerate(prose[1:], start=1):
            if line.text.rstrip() == "---":
                rest = prose[i + 1 :]
                while rest and not rest[0].text.strip():
                    rest = rest[1:]
                return prose[1:i], rest
    return (), prose


def heading_first(prose: tuple[Line, ...]) -> tuple[Line, ...]:
    r"""The prose of a docstring with its heading above its summary.

    Editors and `help()` show the first line of a docstring, so it should be a sentence; a page
    should begin with the heading. A docstring may therefore put its heading below its first
    paragraph:

        '''Spatial gating unit: one half of the channels gates the other.

        ## The spatial gating unit
        '''

    Prose that begins otherwise is returned as it is.
    """
    summary = list(itertools.takewhile(lambda line: line.text.strip(), prose))
    rest = prose[len(summary) :]
    blank = list(itertools.takewhile(lambda line: not line.text.strip(), rest))
    heading = rest[len(blank) : len(blank) + 1]
    if not summary or not heading or not HEADING.match(heading[0].text):
        return prose
    if NOT_A_SUMMARY.match(summary[0].text):
        return prose
    return (*heading, *blank, *summary, *rest[len(blank) + 1 :])


def _check_front_matter(front_matter: tuple[Line, ...], docstring: Docstring, path: str) -> None:
    first = docstring.prose[0] if docstring.prose else None
    if first and first.text.rstrip() == "---" and not front_matter:
        raise SourceError(path, first.number, "the front matter opened here has no closing ---")


def _number(line: Line) -> int:
    return line.number


def _definitions(
    found: Scan, body: Statements, outer: str, *, is_local: bool
) -> Iterator[Definition]:
    """All definitions in source order, those behind `if` and `try` included."""
    for node in body:
        if isinstance(node, DEFINITIONS):
            name = f"{outer}{node.name}"
            header = found.logical_line(node.lineno)
            first = node.decorator_list[0].lineno if node.decorator_list else node.lineno
            docstring = found.docstring(node.body)
            # `def f(): "text"` has no line of its own to move to the left.
            if docstring and docstring.first <= header.last:
                docstring = None
            start = found.logical_line(first).first
            yield Definition(name, node.lineno, start, header, docstring, is_local)
            hidden = is_local or not isinstance(node, ast.ClassDef)
            yield from _definitions(found, node.body, f"{name}.", is_local=hidden)
        else:
            for block in _blocks(node):
                yield from _definitions(found, block, outer, is_local=is_local)


def _blocks(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if isinstance(block, list):
            yield block
    for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
        yield part.body


def _starts_after_definitions(found: Scan, body: Statements) -> Iterator[int]:
    """Lines on which the statement after a definition begins, in module and class bodies."""
    after_definition = False
    for node in body:
        if isinstance(node, DEFINITIONS):
            if isinstance(node, ast.ClassDef):
                yield from _starts_after_definitions(found, node.body)
        else:
            if after_definition:
                yield found.logical_line(node.lineno).first
            for block in _blocks(node):
                yield from _starts_after_definitions(found, block)
        after_definition = isinstance(node, DEFINITIONS)


class _RowSplitter:
    """Walks down the file once, deciding for each line which row it joins."""

    def __init__(
        self, found: Scan, definitions: list[Definition], docstring: Docstring | None
    ) -> None:
        self.found = found
        self.module = docstring
        self.opening = {d.first: d for d in definitions if d.docstring}
        self.docstring_lines = {
            n for d in self.opening.values() if d.docstring for n in d.docstring.lines
        } | set(docstring.lines if docstring else ())
        self.fresh = {d.first for d in definitions if not d.docstring and not d.is_local}
        self.fresh.update(_starts_after_definitions(found, found.tree.body))
        self.builders: list[RowBuilder] = []
        self.before: list[int] = []  # blank lines above the first row

    def rows(self) -> list[RowBuilder]:
        documented: Definition | None = None  # whose header or docstring is being read
        owner = RowBuilder()  # the row of that docstring
        comment: RowBuilder | None = None  # takes the next line of the same comment
        for line in self.found.lines:
            n = line.number
            if documented and documented.docstring and n > documented.docstring.last:
                documented = None
            if n in self.opening:
                documented = self.opening[n]
                prose = documented.docstring.prose if documented.docstring else ()
                owner = self.open(RowBuilder(heading_first(prose)))
            text = self.found.block_comments.get(n)
            if text is not None:
                if comment is None:
                    comment = self.open_comment(n, documented, owner)
                comment.lines.append(n)
                continue
            comment = None
            if n in self.docstring_lines:
                self.take_docstring_line(n, owner if documented else None)
            elif n in self.found.blank_lines:
                if self.builders:
                    self.builders[-1].code.append(line)
                    self.builders[-1].lines.append(n)
                else:
                    self.before.append(n)
            else:
                self.take_code(line)
        if self.before:
            self.open(RowBuilder())
        return self.builders

    def open(self, builder: RowBuilder) -> RowBuilder:
        builder.lines.extend(self.before)
        self.before.clear()
        self.builders.append(builder)
        return builder

    def open_comment(self, n: int, documented: Definition | None, owner: RowBuilder) -> RowBuilder:
        """
        A comment opens a row for the code under it.

        Among decorators, and between a header and its docstring, the code is already spoken for:
        there the comment gets a row without code, above. Inside the brackets of the header it
        takes the parameters that follow.
        """
        builder = RowBuilder(self.found.comment_prose(n), awaits_code=True)
        if documented is None or documented.header.first < n <= documented.header.last:
            return self.open(builder)
        place = next(i for i, each in enumerate(self.builders) if each is owner)
        self.builders.insert(place, builder)
        return builder

    def take_docstring_line(self, n: int, owner: RowBuilder | None) -> None:
        if owner is None:
            # The module docstring. A shebang above it has no prose of its own and joins it.
            if self.module and n == self.module.first:
                prose = heading_first(split_front_matter(self.module.prose)[1])
                if (
                    self.builders
                    and not self.builders[-1].prose
                    and not self.builders[-1].awaits_code
                ):
                    self.builders[-1].prose = prose
                else:
                    self.open(RowBuilder(prose))
            owner = self.builders[-1]
        owner.lines.append(n)

    def take_code(self, line: Line) -> None:
        current = self.builders[-1] if self.builders else None
        leaves = line.number in self.fresh and current and current.prose and not current.awaits_code
        if current is None or leaves:
            current = self.open(RowBuilder())
        current.awaits_code = False
        current.code.append(line)
        current.lines.append(line.number)


def _build_rows(builders: list[RowBuilder], definitions: list[Definition]) -> tuple[Row, ...]:
    """Trims, drops empty rows while keeping their lines, and puts the names in their places."""
    kept: list[tuple[RowBuilder, list[Line]]] = []
    orphans: list[int] = []
    for builder in builders:
        code = builder.code
        while code and not code[0].text.strip():
            code = code[1:]
        while code and not code[-1].text.strip():
            code = code[:-1]
        if builder.prose or code:
            builder.lines[:0] = orphans
            orphans = []
            kept.append((builder, code))
        elif kept:
            kept[-1][0].lines.extend(builder.lines)
        else:
            orphans.extend(builder.lines)
    if orphans:
        kept.append((RowBuilder(lines=orphans), []))
    names = _first_of_each_name(definitions)
    at = sorted(names)
    rows = []
    for builder, code in kept:
        numbers = {line.number for line in code}
        span = (min(numbers), max(numbers)) if numbers else (1, 0)
        near = at[bisect.bisect_left(at, span[0]) : bisect.bisect_right(at, span[1])]
        anchors = tuple(Anchor(names[n], n) for n in near if n in numbers)
        lines = tuple(sorted(builder.lines))
        rows.append(Row(lines, builder.prose, tuple(code), anchors, _indent(code)))
    return tuple(rows)


def _first_of_each_name(definitions: list[Definition]) -> dict[int, str]:
    """An address names one place: a property's setter does not take it from the getter."""
    seen: dict[str, int] = {}
    for definition in definitions:
        seen.setdefault(definition.name, definition.line)
    return {line: name for name, line in seen.items()}


def _indent(code: list[Line]) -> int:
    depths = []
    for line in code:
        if line.text.strip():
            margin = line.text[: len(line.text) - len(line.text.lstrip())]
            depths.append(0 if margin.strip(" ") else len(margin))
    return min(depths, default=0)
