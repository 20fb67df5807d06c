r"""
# Prose of all rows as one document

Rendering each row by itself would cut footnotes from their references and headings from the
table of contents. So the prose of a whole module becomes one Markdown document, with a marker
paragraph before each row; afterwards the HTML is split at the markers again. A marker that went
missing means that a row opened something it did not close, and the build stops there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser

from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.source.parse import Module
from mkdocs_annotated.source.scan import Line

HEADING = re.compile(r"(#{1,6})[ \t]+(.*?)[ \t]*#*$")
# As Python-Markdown reads it: an opening fence at the margin with at most a language behind it.
FENCE = re.compile(r"(~{3,}|`{3,})[ ]*(?:\{[^\n]*\}|\.?[\w#.+-]*[ ]*(?:hl_lines=.*)?)$")
TOO_DEEP = re.compile(r"(?:[ \t]*(?:[*+>-]|\d+\.)[ \t]+){40}")
VOID = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "source", "track", "wbr")
)


@dataclass(frozen=True)
class Document:
    r"""
    * `lines` holds, for each line of `markdown`, the line of the source file it came from
    * `starts` holds the index into `lines` at which each row begins
    """

    path: str
    title: str
    markdown: str
    source_lines: tuple[int, ...]
    marker: str
    row_starts: tuple[int, ...]

    def first_line(self, row: int) -> int:
        """The source line at which the prose of a row begins."""
        return self.source_lines[self.row_starts[max(0, row)]] if self.row_starts else 1


@dataclass(frozen=True)
class RenderedRows:
    """The HTML of each row, and what belongs to no row: the footnotes."""

    rows: tuple[str, ...]
    footnotes: str


def join_rows(module: Module, name: str, path: str) -> Document:
    r"""
    Joins the prose of all rows.

    * `name` is the dotted name of the module, its title where no heading gives one

    Raises `SourceError` for a code fence that its own row does not close.
    """
    marker = "row" + hashlib.sha256(module.source.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    out: list[Line] = []
    heading = _first_heading(module)
    title = plain_text(heading.text) if heading else name
    starts = []
    for i, row in enumerate(module.rows):
        first = row.prose[0].number if row.prose else row.lines[0] if row.lines else 1
        starts.append(len(out))
        out += [Line(first, f"{marker}x{i}"), Line(first, "")]
        if i == 0 and heading is None:
            out += [Line(first, f"# `{name}`"), Line(first, "")]
        _check_fences(row.prose, path)
        _check_depth(row.prose, path)
        for line in _doctests_as_code(row.prose):
            if line == heading:
                # One page has one title, whatever its depth in the docstring.
                line = Line(line.number, "# " + line.text.lstrip("#").lstrip())
            out.append(line)
        out.append(Line(out[-1].number, ""))
    last = out[-1].number if out else 1
    out += [Line(last, f"{marker}x{len(module.rows)}"), Line(last, "")]
    return Document(
        path,
        title,
        "\n".join(line.text for line in out),
        tuple(line.number for line in out),
        marker,
        tuple(starts),
    )


def split_rows(html: str, doc: Document) -> RenderedRows:
    """
    Cuts the rendered document at its markers.

    Raises `SourceError`, naming the row that swallowed a marker or left an element open.
    """
    parts = re.split(rf"<p>{doc.marker}x(\d+)(?:<span id=\"[^\"]*\"></span>)*</p>\n?", html)
    seen = [int(n) for n in parts[1::2]]
    expected = list(range(len(doc.row_starts) + 1))
    if seen != expected:
        lost = next((i for i in expected if i >= len(seen) or seen[i] != i), 0)
        raise SourceError(
            doc.path, doc.first_line(lost - 1), "the Markdown of this row does not end with the row"
        )
    pieces = parts[2::2]
    for i, piece in enumerate(pieces[:-1]):
        wrong = _unbalanced(piece)
        if wrong:
            raise SourceError(
                doc.path, doc.first_line(i), f"the HTML of this row is cut open: {wrong}"
            )
    return RenderedRows(tuple(piece.strip() for piece in pieces[:-1]), pieces[-1].strip())


def plain_text(heading: str) -> str:
    """A heading without its mark-up, for places that show text only."""
    text = HEADING.sub(r"\2", heading)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"[`*$]|\\(?=[A-Za-z])", "", text).strip()


def _first_heading(module: Module) -> Line | None:
    """The first heading of the first row that has prose, outside of code fences."""
    for row in module.rows:
        fence = ""
        for line in row.prose:
            opening = FENCE.match(line.text)
            if opening and not fence:
                fence = opening[1]
            elif fence and line.text.rstrip() == fence:
                fence = ""
            elif not fence and HEADING.match(line.text):
                return line
        if row.prose:
            return None
    return None


def _check_fences(prose: Sequence[Line], path: str) -> None:
    fence: Line | None = None
    mark = ""
    for line in prose:
        opening = FENCE.match(line.text)
        if fence is None and opening:
            fence, mark = line, opening[1]
        elif fence is not None and line.text.rstrip() == mark:
            fence = None
    if fence is not None:
        raise SourceError(path, fence.number, f"the code fence {mark} opened here is never closed")


def _check_depth(prose: Sequence[Line], path: str) -> None:
    """Markdown calls itself for each level, and Python allows only so many calls."""
    for line in prose:
        if TOO_DEEP.match(line.text):
            raise SourceError(path, line.number, "lists and quotations are nested too deep")


def _doctests_as_code(prose: Sequence[Line]) -> list[Line]:
    """To Markdown `>>> f(1)` is a quotation of a quotation; indented, it is code."""
    out: list[Line] = []
    inside = fenced = False
    for line in prose:
        if FENCE.match(line.text):
            fenced = not fenced
        starts = not fenced and not inside and line.text.lstrip().startswith(">>> ")
        if starts and out and out[-1].text.strip():
            out.append(Line(line.number, ""))
        inside = (inside or starts) and bool(line.text.strip())
        out.append(Line(line.number, "    " + line.text) if inside else line)
    return out


class _TagBalance(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element that closes itself leaves nothing open."""

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID or self.wrong:
            return
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.wrong = f"</{tag}> without <{tag}>"


def _unbalanced(html: str) -> str:
    balance = _TagBalance()
    balance.feed(html)
    balance.close()
    return balance.wrong or (f"<{balance.open[-1]}> is not closed" if balance.open else "")
