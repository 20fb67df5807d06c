r"""Show the code of two sources side by side in a table, with the words that differ marked.

# Comparing two sources

A fenced block on a Markdown page names two sources, each as `file.py`, `file.py#Class` or
`file.py#Class.method`:

    ```difference
    shapes/circle.py#Circle.area
    shapes/polygon.py#Polygon.area
    ```

The block becomes a table of their code, with equal and similar lines in one row. A line that
differs begins with `-` on the left and `+` on the right, so the table can be read without a style
sheet. Docstrings, comments and blank lines are omitted; a third line, `with: prose`, keeps
docstrings and comments.
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
from mkdocs_annotated.source.blocks import copyable_code
from mkdocs_annotated.source.code import Token, highlight, slice_tokens, to_html
from mkdocs_annotated.source.parse import Module
from mkdocs_annotated.source.scan import DEFINITIONS, Line, definition_span

TABLE = '<table class="diff">'
PROSE = "with: prose"


# A module, and the address of its page relative to the page that compares it.
ModulePage = tuple[Module, str]


@dataclass(frozen=True)
class Side:
    r"""One side of a comparison.

    * `path` and `name` are the parts of the source before and after the `#`
    * `url` is the address of its page
    * `lines` are the lines to compare, and `tokens` those of the whole file
    """

    path: str
    name: str
    url: str
    lines: tuple[Line, ...]
    tokens: tuple[tuple[Token, ...], ...] = field(repr=False)

    @property
    def margin(self) -> int:
        """The number of spaces that all lines begin with; the table omits them."""
        return min((len(each.text) - len(each.text.lstrip(" ")) for each in self.lines), default=0)


class DifferenceExtension(Extension):
    r"""Python-Markdown extension for `difference` blocks.

    * `context` is the page that is being rendered; the plugin sets it for each page
    * `sources` are the modules that a page may compare, by path; `None` on the page of a module

    >>> extension = DifferenceExtension()
    >>> Markdown(extensions=[extension]).convert("~~~difference\na.py\nb.py\n~~~")
    '<p></p>'
    >>> print(extension.context.errors[0].message)
    unknown module a.py; name a file of the source folders
    """

    def __init__(self) -> None:
        super().__init__()
        self.context = RenderContext()
        self.sources: Mapping[str, ModulePage] | None = {}

    def extendMarkdown(self, md: Markdown) -> None:
        # After white space is normalised (30), before formulas change the number of lines (28).
        md.preprocessors.register(_ReplaceFences(md, self), "annotated_difference", 29)


class _ReplaceFences(Preprocessor):
    """Replaces `difference` blocks with tables."""

    def __init__(self, md: Markdown, owner: DifferenceExtension) -> None:
        super().__init__(md)
        self.markdown = md
        self.owner = owner

    def run(self, lines: list[str]) -> list[str]:
        out = list(lines)
        i = 0
        while i < len(lines):
            end = fence_end(lines, i)
            # Fences in Python-Markdown begin at the margin.
            if end > i and re.fullmatch(r"(`{3,}|~{3,}) *difference *", lines[i]):
                html = self.table(i, lines[i + 1 : end - 1])
                # Keep the number of lines, so that errors further down keep theirs.
                out[i:end] = ["", self.markdown.htmlStash.store(html), *[""] * (end - i - 2)]
            i = max(end, i + 1)
        return out

    def table(self, start: int, lines: list[str]) -> str:
        """Return the table of a block that opens on line `start`, and report its errors."""
        context, sources = self.owner.context, self.owner.sources
        written = [(n, text.strip()) for n, text in enumerate(lines, start + 1) if text.strip()]
        prose = [each for each in written if each[1] == PROSE]
        named = [each for each in written if each[1] != PROSE]
        if sources is None:
            context.report(start, "a difference block must be on a Markdown page, not in a module")
            return ""
        if len(named) != 2:
            context.report(start, f"a difference block must name 2 sources, got {len(named)}")
            return ""
        if len(prose) > 1:
            message = f"a difference block may have {PROSE!r} once, got it {len(prose)} times"
            context.report(start, message)
            return ""
        sides = []
        for n, text in named:
            path, _, name = text.partition("#")
            source = sources.get(path)
            if source is None:
                context.report(n, f"unknown module {path}; name a file of the source folders")
            elif name and definition_lines(source[0].source, name) is None:
                context.report(n, f"{path} does not define {name}")
            else:
                sides.append(make_side(path, name, source, prose=bool(prose)))
        return render_table(sides[0], sides[1]) if len(sides) == 2 else ""


def definition_lines(source: str, name: str) -> tuple[int, int] | None:
    """Return the first and last line of a definition, decorators included, or `None`."""

    def walk(node: ast.AST, outer: str) -> Iterator[tuple[int, int]]:
        for child in ast.iter_child_nodes(node):
            inner = outer
            if isinstance(child, DEFINITIONS):
                if outer + child.name == name:
                    yield definition_span(child)
                inner = f"{outer}{child.name}."
            if inner == outer or name.startswith(inner):
                yield from walk(child, inner)

    return next(walk(ast.parse(source), ""), None)


def make_side(path: str, name: str, source: ModulePage, *, prose: bool = False) -> Side:
    """Return one side of a comparison.

    Raises `ValueError` if the module does not define `name`.
    """
    module, url = source
    text = module.source
    texts = text.split("\n")
    found = definition_lines(text, name) if name else (1, len(texts))
    if found is None:
        raise ValueError(f"{path} does not define {name}")
    code_lines = {line.number for row in module.rows for line in row.code}
    without_comments = copyable_code(text).lines
    lines = []
    for n in range(found[0], found[1] + 1):
        line = texts[n - 1] if prose else without_comments[n - 1] if n in code_lines else None
        if line and line.strip():
            lines.append(Line(n, line))
    return Side(path, name, url, tuple(lines), highlight(text))


def render_table(left: Side, right: Side) -> str:
    """Return the HTML table of two sides."""
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
    """Remove the tables from a page, so that a search finds code only on its own page."""
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
