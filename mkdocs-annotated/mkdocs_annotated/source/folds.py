r"""Find the lines that a page shows as one line until a reader opens them.

# Folded lines

A reader of an algorithm skips argument checks, long parameter lists and imports. A page folds them:

* lines below a comment `# fold: LABEL` of the author. The fold reaches to the next prose at the
  same indent, to the next definition, or to the end of the block, whichever is first. Directly
  above a definition it holds all definitions up to the next prose or the end of the block. A
  comment `# end fold` ends a fold explicitly; it may then hold prose and definitions.
* a parameter list of more than two lines
* the imports beside the docstring of a module

Folds do not overlap: those of authors come first.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.source.scan import END_FOLD, ScannedSource, definition_span

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# A parameter list of at most this many lines stays as it is.
SHORT_SIGNATURE = 2
LABEL_WIDTH = 64  # characters


@dataclass(frozen=True)
class Fold:
    r"""Lines `first` to `last` of a file, and the text that stands for them.

    * `indent` is the number of spaces before the text
    * `is_code` is true for the short form of a parameter list
    """

    first: int
    last: int
    label: str
    indent: int = 0
    is_code: bool = False

    def __contains__(self, line: int) -> bool:
        return self.first <= line <= self.last


def authors_folds(scanned: ScannedSource, path: str) -> tuple[Fold, ...]:
    """Return the folds that comments ask for.

    Raises `SourceError` for a fold without a label or without code, for `# end fold` without a
    fold, and for a fold inside another.
    """
    found: list[Fold] = []
    for n, mark in sorted(scanned.fold_marks.items()):
        around = found[-1] if found and n in found[-1] else None
        if mark == END_FOLD:
            if around is None or n != around.last:
                raise SourceError(path, n, "`# end fold` ends no fold")
            continue
        if around is not None:
            raise SourceError(path, n, f"this fold is inside the fold of line {around.first}")
        if not mark:
            raise SourceError(path, n, "a fold needs a label, as in `# fold: checks`")
        last = _last_line(scanned, n)
        if all(line in scanned.blank_lines for line in range(n + 1, last + 1)):
            raise SourceError(path, n, "there is nothing to fold below this comment")
        found.append(Fold(n, last, mark, _depth(scanned, n)))
    return tuple(found)


def folds_by_rule(
    scanned: ScannedSource, taken: tuple[Fold, ...], beside_docstring: range
) -> Iterator[Fold]:
    """Yield the long parameter lists and the imports that are in no other fold.

    * `beside_docstring` are the lines of code beside the docstring of the module
    """
    for fold in (*_signatures(scanned), *_imports(scanned, beside_docstring)):
        if not any(fold.first in other for other in taken):
            yield fold


def opens_definitions(scanned: ScannedSource, marker: int) -> bool:
    """Return whether a definition is directly below a comment that opens a fold."""
    return _next_line(scanned, marker) in _definition_starts(scanned)


def _last_line(scanned: ScannedSource, marker: int) -> int:
    indent = _depth(scanned, marker)
    holds_definitions = opens_definitions(scanned, marker)
    starts = _definition_starts(scanned)
    implicit, ended = marker, False
    for n in range(marker + 1, len(scanned.lines) + 1):
        if n in scanned.blank_lines:
            continue
        logical = scanned.logical_lines.get(n)
        # The continuation of a statement, such as a string, may have any indent.
        if logical is None or not marker < logical.first < n:
            depth = _depth(scanned, n)
            if depth < indent:
                break
            if depth == indent:
                if scanned.fold_marks.get(n) == END_FOLD:
                    return n
                if n in scanned.fold_marks:
                    break
                ended = ended or n in scanned.block_comments
                ended = ended or (n in starts and not holds_definitions)
        if not ended:
            implicit = n
    return implicit


def _next_line(scanned: ScannedSource, line: int) -> int:
    line += 1
    while line in scanned.blank_lines:
        line += 1
    return line


def _depth(scanned: ScannedSource, line: int) -> int:
    text = scanned.lines[line - 1].text.expandtabs()
    return len(text) - len(text.lstrip())


def _definition_starts(scanned: ScannedSource) -> frozenset[int]:
    return frozenset(
        definition_span(node)[0]
        for node in ast.walk(scanned.tree)
        if isinstance(node, (*FUNCTIONS, ast.ClassDef))
    )


def _signatures(scanned: ScannedSource) -> Iterator[Fold]:
    for node in ast.walk(scanned.tree):
        if not isinstance(node, FUNCTIONS):
            continue
        header = scanned.logical_line(node.lineno)
        lines = range(header.first, header.last + 1)
        # A comment among the parameters is prose, and explains the parameter below it.
        if len(lines) > SHORT_SIGNATURE and scanned.block_comments.keys().isdisjoint(lines):
            indent = _depth(scanned, header.first)
            yield Fold(header.first, header.last, _signature(node), indent, is_code=True)


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Return the head of a function in one short line, without annotations.

    >>> _signature(ast.parse("def f(a: int, *, b: str = 'x') -> int: ...").body[0])
    "def f(a, *, b='x')"
    """
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    parts = [_parameter(*pair) for pair in zip(positional, defaults, strict=True)]
    if arguments.posonlyargs:
        parts.insert(len(arguments.posonlyargs), "/")
    if arguments.vararg:
        parts.append(f"*{arguments.vararg.arg}")
    elif arguments.kwonlyargs:
        parts.append("*")
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    parts += [_parameter(*pair) for pair in pairs]
    if arguments.kwarg:
        parts.append(f"**{arguments.kwarg.arg}")
    head = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    text = f"{head} {node.name}({', '.join(parts)})"
    if len(text) <= LABEL_WIDTH:
        return text
    while parts and len(f"{head} {node.name}({', '.join(parts)}, …)") > LABEL_WIDTH:
        parts.pop()
    if parts and parts[-1] in ("*", "/"):
        parts.pop()
    return f"{head} {node.name}({', '.join([*parts, '…'])})"


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    if default is None:
        return argument.arg
    value = " ".join(ast.unparse(default).split())
    return f"{argument.arg}={value}"


def _imports(scanned: ScannedSource, lines: range) -> Iterator[Fold]:
    first = last = 0
    for node in scanned.tree.body:
        if node.lineno not in lines:
            continue
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            break
        first = first or node.lineno
        last = scanned.logical_line(node.lineno).last
    if last > first:
        yield Fold(first, last, "imports")
