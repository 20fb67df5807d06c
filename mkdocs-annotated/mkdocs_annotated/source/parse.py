r"""Split a Python file into rows that pair prose with the code it explains.

# From source text to rows

A page is a list of rows, each with prose on the left and code on the right. Each line of the file
belongs to exactly one row. The rules:

* The module docstring is the first row with prose. The imports are beside it.
* A block comment opens a row, at any indent and inside brackets too. Consecutive comment lines are
  one comment, and a lone `#` is a paragraph break.
* A docstring is beside the header of its class or function, decorators included. The code after
  it stays in that row, up to the next comment or docstring.
* A docstring may begin with a sentence, for editors and `help()`, and have its heading as second
  paragraph. The page shows the heading first.
* Lines of a [fold](folds.py) stay in their rows. A fold above a definition begins a row, and so
  does the code after a fold of several rows.
* Inline comments, and directives such as `# noqa`, are code.
* In a module or class body, a definition without a docstring opens a row without prose, and so does
  the statement after a definition, unless a comment already opened one. The first definition of a
  class with a docstring stays beside it: the docstring describes the arguments of `__init__`.
"""

from __future__ import annotations

import ast
import bisect
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.source.folds import Fold, authors_folds, folds_by_rule, opens_definitions
from mkdocs_annotated.source.scan import (
    DEFINITIONS,
    Docstring,
    Line,
    LogicalLine,
    ScannedSource,
    definition_span,
    scan,
)


@dataclass(frozen=True)
class Anchor:
    """A qualified name and the line of its `def` or `class`."""

    name: str
    line: int


@dataclass(frozen=True)
class Row:
    r"""Prose and the code beside it.

    * `lines` are the numbers of all lines in this row, including blank lines and quotes that the
      page does not show
    * `prose` is dedented Markdown; each line keeps its number in the file
    * `code` keeps its line numbers; blank lines at both ends are removed
    * `anchors` are the definitions that begin in this row
    * `indent` is the number of spaces that all code lines begin with; narrow screens omit them
    """

    lines: tuple[int, ...]
    prose: tuple[Line, ...] = ()
    code: tuple[Line, ...] = ()
    anchors: tuple[Anchor, ...] = ()
    indent: int = 0


@dataclass(frozen=True)
class Module:
    r"""A parsed Python file.

    * `source` is the text with `\n` as its only line break
    * `front_matter` is the YAML between `---` lines at the start of the module docstring
    * `folds` are the lines shown as one line, in order
    * `warnings` are messages about escapes and control characters in docstrings
    """

    source: str
    rows: tuple[Row, ...]
    front_matter: tuple[Line, ...] = ()
    warnings: tuple[Line, ...] = ()
    folds: tuple[Fold, ...] = ()


@dataclass
class RowBuilder:
    """A row under construction; `awaits_code` is true for a comment without code so far."""

    prose: tuple[Line, ...] = ()
    lines: list[int] = field(default_factory=list)
    code: list[Line] = field(default_factory=list)
    awaits_code: bool = False


@dataclass(frozen=True)
class Definition:
    """A class or function.

    * `line` is the line of its `def` or `class`, `first` that of its first decorator
    * `header` is the logical line of the `def` or `class`
    * `is_local` is true for a definition inside a function
    """

    name: str
    line: int
    first: int
    header: LogicalLine
    docstring: Docstring | None
    is_local: bool


HEADING = re.compile(r"#{1,6}[ \t]")
# A heading, list, quotation, fence, table, display formula or indented code.
NOT_A_SUMMARY = re.compile(r"#{1,6}[ \t]|[*+-][ \t]|\d+\.[ \t]|>|```|~~~|\||\$\$| {4}")

Statements = Iterable[ast.stmt]


def parse(text: str, path: str = "<string>") -> Module:
    r"""Split the text of a Python file into rows.

    >>> [row] = parse("# The area.\na = w * h\n").rows
    >>> row.prose[0].text, row.code[0].text
    ('The area.', 'a = w * h')

    Raises `SourceError` for a syntax error, a null byte, brackets nested too deeply to parse, and
    front matter without a closing `---`.
    """
    scanned = scan(text, path)
    docstring = scanned.docstring(scanned.tree.body)
    definitions = list(_definitions(scanned, scanned.tree.body, "", is_local=False))
    folds = authors_folds(scanned, path)
    rows = _build_rows(_RowSplitter(scanned, definitions, docstring, folds).rows(), definitions)
    if docstring and rows[0].prose and rows[0].code:
        beside = range(rows[0].code[0].number, rows[0].code[-1].number + 1)
    else:
        beside = range(0)
    folds += tuple(folds_by_rule(scanned, folds, beside))
    front_matter: tuple[Line, ...] = ()
    if docstring:
        front_matter, _ = split_front_matter(docstring.prose)
        _check_front_matter(front_matter, docstring, path)
    documented = [d.docstring for d in definitions if d.docstring]
    warnings = [warning for each in documented for warning in each.warnings]
    warnings += docstring.warnings if docstring else ()
    return Module(
        scanned.source,
        rows,
        front_matter,
        tuple(sorted(warnings, key=_number)),
        tuple(sorted(folds, key=_first_line)),
    )


def split_front_matter(prose: tuple[Line, ...]) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
    """Return the lines between two `---` at the start of a docstring, and the rest."""
    if prose and prose[0].text.rstrip() == "---":
        for i, line in enumerate(prose[1:], start=1):
            if line.text.rstrip() == "---":
                rest = prose[i + 1 :]
                while rest and not rest[0].text.strip():
                    rest = rest[1:]
                return prose[1:i], rest
    return (), prose


def heading_first(prose: tuple[Line, ...]) -> tuple[Line, ...]:
    r"""Move a heading that is the second paragraph of a docstring above the first.

    Editors and `help()` show the first line of a docstring, so it should be a sentence. A page
    should begin with the heading. A docstring can have both:

        '''One half of the channels gates the other.

        ## Spatial gating unit
        '''

    Return the prose unchanged if its second paragraph does not begin with a heading, or if its
    first is a heading, list, quotation, fence, table, display formula or indented code.
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
        raise SourceError(path, first.number, "front matter must end with ---")


def _number(line: Line) -> int:
    return line.number


def _first_line(fold: Fold) -> int:
    return fold.first


def _definitions(
    scanned: ScannedSource, body: Statements, outer: str, *, is_local: bool
) -> Iterator[Definition]:
    """Yield all definitions in source order, including those inside `if` and `try`."""
    for node in body:
        if isinstance(node, DEFINITIONS):
            name = f"{outer}{node.name}"
            header = scanned.logical_line(node.lineno)
            first, _ = definition_span(node)
            docstring = scanned.docstring(node.body)
            # `def f(): "text"` shares its line with code.
            if docstring and docstring.first <= header.last:
                docstring = None
            start = scanned.logical_line(first).first
            yield Definition(name, node.lineno, start, header, docstring, is_local)
            hidden = is_local or not isinstance(node, ast.ClassDef)
            yield from _definitions(scanned, node.body, f"{name}.", is_local=hidden)
        else:
            for block in _blocks(node):
                yield from _definitions(scanned, block, outer, is_local=is_local)


def _blocks(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    """Yield the bodies of a compound statement, such as those of `if`, `try` and `match`."""
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if isinstance(block, list):
            yield block
    for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
        yield part.body


def _first_members(scanned: ScannedSource, body: Statements) -> Iterator[int]:
    """Yield the first line of each definition directly after the docstring of a class."""
    for node in body:
        for block in _blocks(node):
            yield from _first_members(scanned, block)
        if isinstance(node, ast.ClassDef) and scanned.docstring(node.body):
            second = node.body[1] if len(node.body) > 1 else None
            if isinstance(second, DEFINITIONS):
                yield scanned.logical_line(definition_span(second)[0]).first


def _starts_after_definitions(scanned: ScannedSource, body: Statements) -> Iterator[int]:
    """Yield the first line of each statement that follows a definition in a module or class."""
    after_definition = False
    for node in body:
        if isinstance(node, DEFINITIONS):
            if isinstance(node, ast.ClassDef):
                yield from _starts_after_definitions(scanned, node.body)
        else:
            if after_definition:
                yield scanned.logical_line(node.lineno).first
            for block in _blocks(node):
                yield from _starts_after_definitions(scanned, block)
        after_definition = isinstance(node, DEFINITIONS)


class _RowSplitter:
    """Walks down the file once and assigns each line to a row."""

    def __init__(
        self,
        scanned: ScannedSource,
        definitions: list[Definition],
        docstring: Docstring | None,
        folds: tuple[Fold, ...],
    ) -> None:
        self.scanned = scanned
        self.module_docstring = docstring
        self.documented = {d.first: d for d in definitions if d.docstring}
        self.docstring_lines = {
            n for d in self.documented.values() if d.docstring for n in d.docstring.lines
        } | set(docstring.lines if docstring else ())
        beside_class = set(_first_members(scanned, scanned.tree.body))
        self.row_starts = {d.first for d in definitions if not d.docstring and not d.is_local}
        self.row_starts -= beside_class
        self.row_starts.update(_starts_after_definitions(scanned, scanned.tree.body))
        self.folds = folds
        self.fold_starts = {f.first for f in folds if opens_definitions(scanned, f.first)}
        self.builders: list[RowBuilder] = []
        self.leading_blanks: list[int] = []  # blank lines above the first row

    def rows(self) -> list[RowBuilder]:
        documented: Definition | None = None  # the definition whose header we are in
        owner = RowBuilder()  # the row of its docstring
        comment: RowBuilder | None = None  # the row of the comment we are in
        for line in self.scanned.lines:
            n = line.number
            if documented and documented.docstring and n > documented.docstring.last:
                documented = None
            if n in self.documented:
                documented = self.documented[n]
                prose = documented.docstring.prose if documented.docstring else ()
                owner = self.open(RowBuilder(heading_first(prose)))
            text = self.scanned.block_comments.get(n)
            if text is not None:
                if comment is None:
                    comment = self.open_comment(n, documented, owner)
                comment.lines.append(n)
                continue
            comment = None
            if n in self.docstring_lines:
                self.take_docstring_line(n, owner if documented else None)
            elif n in self.scanned.blank_lines:
                if self.builders:
                    self.builders[-1].code.append(line)
                    self.builders[-1].lines.append(n)
                else:
                    self.leading_blanks.append(n)
            else:
                self.take_code(line)
        if self.leading_blanks:
            self.open(RowBuilder())
        return self.builders

    def open(self, builder: RowBuilder) -> RowBuilder:
        builder.lines.extend(self.leading_blanks)
        self.leading_blanks.clear()
        self.builders.append(builder)
        return builder

    def open_comment(self, n: int, documented: Definition | None, owner: RowBuilder) -> RowBuilder:
        """Open a row for a block comment and the code after it.

        Code among decorators, and between a header and its docstring, belongs to the row of the
        docstring: a comment there gets a row without code above it. A comment among the parameters
        takes the parameters after it.
        """
        builder = RowBuilder(self.scanned.comment_prose(n), awaits_code=True)
        if documented is None or documented.header.first < n <= documented.header.last:
            return self.open(builder)
        index = next(i for i, each in enumerate(self.builders) if each is owner)
        self.builders.insert(index, builder)
        return builder

    def take_docstring_line(self, n: int, owner: RowBuilder | None) -> None:
        if owner is None:
            # The module docstring; the row of a shebang above it becomes its row.
            if self.module_docstring and n == self.module_docstring.first:
                prose = heading_first(split_front_matter(self.module_docstring.prose)[1])
                row = self.builders[-1] if self.builders else None
                if row and not row.prose and not row.awaits_code:
                    row.prose = prose
                else:
                    self.open(RowBuilder(prose))
            owner = self.builders[-1]
        owner.lines.append(n)

    def take_code(self, line: Line) -> None:
        current = self.builders[-1] if self.builders else None
        if (
            current is None
            or (line.number in self.row_starts and current.prose and not current.awaits_code)
            or (line.number in self.fold_starts and not current.awaits_code)
            or self.is_after_fold(line.number, current)
        ):
            current = self.open(RowBuilder())
        current.awaits_code = False
        current.code.append(line)
        current.lines.append(line.number)

    def is_after_fold(self, line: int, current: RowBuilder) -> bool:
        """Return whether a line follows a fold that the whole current row belongs to."""
        first = min(current.lines, default=line)
        return any(fold.first < first <= fold.last < line for fold in self.folds)


def _build_rows(builders: list[RowBuilder], definitions: list[Definition]) -> tuple[Row, ...]:
    """Trim the code, give the lines of empty rows to their neighbours, and add the anchors."""
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
    """Return the name defined on each line; a setter does not take the name of its getter."""
    seen: dict[str, int] = {}
    for definition in definitions:
        seen.setdefault(definition.name, definition.line)
    return {line: name for name, line in seen.items()}


def _indent(code: list[Line]) -> int:
    """Return the number of spaces that all lines begin with; 0 if any begins with a tab."""
    depths = []
    for line in code:
        if line.text.strip():
            margin = line.text[: len(line.text) - len(line.text.lstrip())]
            depths.append(0 if margin.strip(" ") else len(margin))
    return min(depths, default=0)
