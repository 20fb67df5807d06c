r"""
# Two sources, side by side

A fenced block on a Markdown page names two sources, each as `file.py`, `file.py#Class` or
`file.py#Class.method`; in its place stands a table of their code, with equal and similar lines in
one row:

    ```difference
    shapes/circle.py#Circle.area
    shapes/polygon.py#Polygon.area
    ```

Docstrings, comments and blank lines are left out; a third line, `with: prose`, keeps the first two.
Lines that differ have a sign in front of them, `-` on the left and `+` on the right, and the words
that differ are marked. Without a style sheet it is still a table.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor

from mkdocs_annotated.markdown.align import Span, align_lines, changed_words
from mkdocs_annotated.markdown.context import RenderContext
from mkdocs_annotated.markdown.math import fence_end
from mkdocs_annotated.source.blocks import DEFINITIONS, copyable_code
from mkdocs_annotated.source.code import Token, highlight, slice_tokens, to_html
from mkdocs_annotated.source.parse import Module
from mkdocs_annotated.source.scan import Line

TABLE = '<table class="diff">'
PROSE = "with: prose"


# A module of the site, and the address of its page as seen from another one.
ModulePage = tuple[Module, str]


@dataclass(frozen=True)
class Side:
    r"""
    One half of a comparison.

    * `path`, `name` are what the author wrote before and behind the `#`
    * `url` is the address of the page
    * `lines` are those that are compared, `tokens` all of the file
    """

    path: str
    name: str
    url: str
    lines: tuple[Line, ...]
    tokens: tuple[tuple[Token, ...], ...] = field(repr=False)

    @property
    def margin(self) -> int:
        """The spaces that all lines share, which a narrow column can do without."""
        return min((len(each.text) - len(each.text.lstrip(" ")) for each in self.lines), default=0)


class DifferenceExtension(Extension):
    """`draft` and `sources` are replaced for each page; a page of a module has no `sources`."""

    def __init__(self) -> None:
        super().__init__()
        self.context = RenderContext()
        self.sources: Mapping[str, ModulePage] | None = {}

    def extendMarkdown(self, md: Markdown) -> None:
        # After white space is made regular (30), before formulas change the count of lines (28).
        md.preprocessors.register(_ReplaceFences(md, self), "annotated_difference", 29)


class _ReplaceFences(Preprocessor):
    def __init__(self, md: Markdown, owner: DifferenceExtension) -> None:
        super().__init__(md)
        self.markdown = md
        self.owner = owner

    def run(self, lines: list[str]) -> list[str]:
        out = list(lines)
        i = 0
        while i < len(lines):
            end = fence_end(lines, i)
            # At the margin only, as for any fence in Python-Markdown.
            if end > i and re.fullmatch(r"(`{3,}|~{3,}) *difference *", lines[i]):
                html = self.table(i, lines[i + 1 : end - 1])
                # As many lines as before, so that mistakes further down keep their places.
                out[i:end] = ["", self.markdown.htmlStash.store(html), *[""] * (end - i - 2)]
            i = max(end, i + 1)
        return out

    def table(self, start: int, lines: list[str]) -> str:
        """The table for a block that opens on line `start`; mistakes are noted, not raised."""
        context, sources = self.owner.context, self.owner.sources
        given = [(n, text.strip()) for n, text in enumerate(lines, start + 1) if text.strip()]
        prose = [each for each in given if each[1] == PROSE]
        named = [each for each in given if each[1] != PROSE]
        if sources is None:
            context.report(start, "a difference has its place on a Markdown page, not in a module")
            return ""
        if len(named) != 2 or len(prose) > 1:
            count = len(named) if len(named) != 2 else f"{PROSE!r} {len(prose)} times"
            context.report(start, f"a difference has two lines with a source each, got {count}")
            return ""
        sides = []
        for n, text in named:
            path, _, name = text.partition("#")
            source = sources.get(path)
            if source is None:
                context.report(n, f"there is no module {path} among the sources")
            elif name and definition_lines(source[0].source, name) is None:
                context.report(n, f"{path} has no {name}")
            else:
                sides.append(make_side(path, name, source, prose=bool(prose)))
        return render_table(sides[0], sides[1]) if len(sides) == 2 else ""


def definition_lines(source: str, name: str) -> tuple[int, int] | None:
    """The first and last line of a definition with its decorators; `None` if there is none."""

    def walk(node: ast.AST, outer: str) -> Iterator[tuple[int, int]]:
        for child in ast.iter_child_nodes(node):
            inner = outer
            if isinstance(child, DEFINITIONS):
                if outer + child.name == name:
                    first = min([child.lineno, *(each.lineno for each in child.decorator_list)])
                    yield first, child.end_lineno or child.lineno
                inner = f"{outer}{child.name}."
            if inner == outer or name.startswith(inner):
                yield from walk(child, inner)

    return next(walk(ast.parse(source), ""), None)


def make_side(path: str, name: str, source: ModulePage, *, prose: bool = False) -> Side:
    """Raises `ValueError` for a name that is not defined there."""
    module, url = source
    text = module.source
    texts = text.split("\n")
    found = definition_lines(text, name) if name else (1, len(texts))
    if found is None:
        raise ValueError(f"{path} has no {name}")
    # Of the rows of the page, the code; of that, what stands before a comment.
    coded = {line.number for row in module.rows for line in row.code}
    bare = copyable_code(text).lines
    lines = []
    for n in range(found[0], found[1] + 1):
        line = texts[n - 1] if prose else bare[n - 1] if n in coded else None
        if line and line.strip():
            lines.append(Line(n, line))
    return Side(path, name, url, tuple(lines), highlight(text))


def render_table(left: Side, right: Side) -> str:
    """The table of two sides."""
    sides = (left, right)
    heads = [_head(side, sign) for side, sign in zip(sides, "-+", strict=True)]
    out = [f"{TABLE}<thead><tr>", *heads, '</tr></thead><tbody class="code">']
    for pair in align_lines(
        [each.text for each in left.lines], [each.text for each in right.lines]
    ):
        lines = [
            side.lines[n] if n is not None else None
            for side, n in zip(sides, (pair.left, pair.right), strict=True)
        ]
        spans: tuple[Sequence[Span], ...] = ((), ())
        if lines[0] and lines[1] and not pair.equal:
            spans = changed_words(lines[0].text, lines[1].text)
        out.append("<tr>" if pair.equal else '<tr class="x">')
        for side, line, words, sign in zip(sides, lines, spans, "-+", strict=True):
            sign = " " if pair.equal else sign
            out.append(f"<td>{_line(side, line, words, sign) if line else ''}</td>")
        out.append("</tr>")
    return "".join(out) + "</tbody></table>"


def remove_tables(html: str) -> str:
    """A page without its differences: a search finds the code where it stands."""
    return re.sub(TABLE + r".*?</table>", "", html, flags=re.DOTALL)


def _head(side: Side, sign: str) -> str:
    url = escape(side.url + ("#" + side.name if side.name else ""), quote=True)
    name = f"<code>{escape(side.name)}</code> " if side.name else ""
    return f'<th>{sign} <a href="{url}">{name}{escape(side.path)}</a></th>'


def _line(side: Side, line: Line, words: Sequence[Span], sign: str) -> str:
    tokens = side.tokens[line.number - 1]
    out = []
    at = side.margin
    for span in words:
        out.append(to_html(slice_tokens(tokens, at, span.column)))
        out.append(f"<mark>{to_html(slice_tokens(tokens, span.column, span.end))}</mark>")
        at = span.end
    out.append(to_html(slice_tokens(tokens, at, len(line.text))))
    url = escape(f"{side.url}#L{line.number}", quote=True)
    return f'<a href="{url}">{line.number:>4} {sign}</a> ' + "".join(out)
