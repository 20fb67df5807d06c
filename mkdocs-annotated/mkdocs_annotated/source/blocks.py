r"""
# Blocks to take away

A reader who takes a class into a project of their own wants its code and its docstrings, but not
the prose that explains it line by line. The page holds docstrings only as rendered text, so the
source without its comments lies beside it, in a script that a page loads when somebody copies.

    annotatedBlocks = [[line or null, ...], [[first, last], ...]]

A line is null where a comment was all of it. The spans are those of classes and functions with
their decorators, in the order of the source. Indents stay as they are: moving a method to the left
would change its docstring.
"""

from __future__ import annotations

import ast
import io
import json
import tokenize
from dataclasses import dataclass

from mkdocs_annotated.source.files import SourceFile
from mkdocs_annotated.source.scan import STRING_ENDS, STRING_STARTS

DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class CopyableCode:
    """`spans` count lines from one, both ends included."""

    lines: tuple[str | None, ...]
    spans: tuple[tuple[int, int], ...]

    def text(self, first: int, last: int) -> str:
        """What a reader gets: the lines of a span that are more than a comment."""
        return "".join(f"{line}\n" for line in self.lines[first - 1 : last] if line is not None)


def copyable_code(source: str) -> CopyableCode:
    r"""
    The code of a module without its comments.

    * `source` has `\n` as its only line end, and is Python
    """
    texts = source.split("\n")
    if not texts[-1]:
        texts.pop()
    lines: list[str | None] = [*texts]
    ended = source if source.endswith("\n") else source + "\n"
    inside = 0
    for token in tokenize.generate_tokens(io.StringIO(ended).readline):
        # A comment inside the braces of a formatted string is left: its line is no line of code.
        inside += (token.type in STRING_STARTS) - (token.type in STRING_ENDS)
        if token.type == tokenize.COMMENT and not inside:
            row, column = token.start
            lines[row - 1] = texts[row - 1][:column].rstrip() or None
    spans = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DEFINITIONS):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            spans.append((first, node.end_lineno or node.lineno))
    # Of two that begin on one line, the outer one is longer and comes first.
    spans.sort(key=lambda span: (span[0], -span[1]))
    return CopyableCode(tuple(lines), tuple(spans))


def to_script(found: CopyableCode) -> str:
    """The blocks as a browser loads them."""
    packed = json.dumps([found.lines, found.spans], ensure_ascii=False, separators=(",", ":"))
    return "annotatedBlocks=" + packed.encode("utf-8", "replace").decode("utf-8") + "\n"


def script_path(source: SourceFile) -> str:
    """Where the script of a module lies on the site."""
    return source.site_path.removesuffix(".py") + ".blocks.js"
