r"""Remove the comments from code, so that readers can copy a class or function.

# Code that readers copy

A reader who copies a class wants its code and docstrings, but not the comments that explain it line
by line. The page holds docstrings only as rendered text. The source without comments is therefore a
script of its own, which a page loads when somebody copies:

    annotatedBlocks = [[line or null, ...], [[first, last], ...]]

A line is `null` if it held only a comment. The spans are those of classes and functions with their
decorators, in source order. Indents are kept, because dedenting a method would change its
docstring.
"""

from __future__ import annotations

import ast
import json
import tokenize
from dataclasses import dataclass

from mkdocs_annotated.source.files import SourceFile
from mkdocs_annotated.source.scan import (
    DEFINITIONS,
    STRING_ENDS,
    STRING_STARTS,
    definition_span,
    source_tokens,
)


@dataclass(frozen=True)
class CopyableCode:
    """A module without comments, and the first and last line of each class and function."""

    lines: tuple[str | None, ...]
    spans: tuple[tuple[int, int], ...]

    def text(self, first: int, last: int) -> str:
        """Return lines `first` to `last`, without lines that held only a comment."""
        return "".join(f"{line}\n" for line in self.lines[first - 1 : last] if line is not None)


def copyable_code(source: str) -> CopyableCode:
    r"""Remove the comments of a module.

    * `source` is valid Python with `\n` as its only line break

    >>> copyable_code("x = 1  # metres\n").lines
    ('x = 1',)
    """
    texts = source.split("\n")
    if not texts[-1]:
        texts.pop()
    lines: list[str | None] = [*texts]
    depth = 0
    for token in source_tokens(source):
        # Keep comments in the braces of an f-string: with `=` they are part of its value.
        depth += (token.type in STRING_STARTS) - (token.type in STRING_ENDS)
        if token.type == tokenize.COMMENT and not depth:
            row, column = token.start
            lines[row - 1] = texts[row - 1][:column].rstrip() or None
    nodes = ast.walk(ast.parse(source))
    spans = [definition_span(node) for node in nodes if isinstance(node, DEFINITIONS)]
    # Of two spans that begin on one line, the outer one comes first.
    spans.sort(key=lambda span: (span[0], -span[1]))
    return CopyableCode(tuple(lines), tuple(spans))


def to_script(code: CopyableCode) -> str:
    """Return the script that a page loads."""
    packed = json.dumps([code.lines, code.spans], ensure_ascii=False, separators=(",", ":"))
    return "annotatedBlocks=" + packed.encode("utf-8", "replace").decode("utf-8") + "\n"


def script_path(source: SourceFile) -> str:
    """Return the path of a module's script on the site."""
    return source.site_path.removesuffix(".py") + ".blocks.js"
