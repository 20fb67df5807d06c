r"""Join the prose of all rows into one Markdown document, and split its HTML into rows again.

# Prose of a module

Footnotes and the table of contents need the whole page, so the rows cannot be rendered one by one.
The prose of a module becomes one document with a marker paragraph before each row. Afterwards the
HTML is split at the markers. If a marker is missing, a row left something open, and the build stops
with its line.
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
# As in Python-Markdown, a fence opens at the margin, with at most a language after it.
FENCE = re.compile(r"(~{3,}|`{3,})[ ]*(?:\{[^\n]*\}|\.?[\w#.+-]*[ ]*(?:hl_lines=.*)?)$")
TOO_DEEP = re.compile(r"(?:[ \t]*(?:[*+>-]|\d+\.)[ \t]+){40}")
VOID = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "source", "track", "wbr")
)


@dataclass(frozen=True)
class Document:
    r"""The Markdown of a module, with the origin of its lines.

    * `source_lines` holds, for each line of `markdown`, its line in the source file
    * `marker` begins the paragraph before each row
    * `row_starts` holds the index into `source_lines` at which each row begins
    """

    path: str
    title: str
    markdown: str
    source_lines: tuple[int, ...]
    marker: str
    row_starts: tuple[int, ...]

    def first_line(self, row: int) -> int:
        """Return the line of the file at which the prose of a row begins."""
        return self.source_lines[self.row_starts[max(0, row)]] if self.row_starts else 1


@dataclass(frozen=True)
class RenderedRows:
    """The HTML of each row, and that of the footnotes, which are below the last row."""

    rows: tuple[str, ...]
    footnotes: str


def join_rows(module: Module, name: str, path: str) -> Document:
    r"""Join the prose of all rows.

    * `name` is the dotted name of the module, which is the title if there is no heading

    Raises `SourceError` for a code fence that its row does not close, and for lists or quotations
    nested 40 levels deep.
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
                # The title is the only `<h1>`, whatever its level in the docstring.
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
    """Split the rendered document at its markers.

    Raises `SourceError` with the line of a row that hides the marker after it, or that leaves an
    HTML element open.
    """
    parts = re.split(rf"<p>{doc.marker}x(\d+)(?:<span id=\"[^\"]*\"></span>)*</p>\n?", html)
    found = [int(n) for n in parts[1::2]]
    expected = list(range(len(doc.row_starts) + 1))
    if found != expected:
        missing = next((i for i in expected if i >= len(found) or found[i] != i), 0)
        message = "the Markdown of this row continues into the next row"
        raise SourceError(doc.path, doc.first_line(missing - 1), message)
    pieces = parts[2::2]
    for i, piece in enumerate(pieces[:-1]):
        reason = _unbalanced(piece)
        if reason:
            message = f"the HTML of this row is not balanced: {reason}"
            raise SourceError(doc.path, doc.first_line(i), message)
    return RenderedRows(tuple(piece.strip() for piece in pieces[:-1]), pieces[-1].strip())


def plain_text(heading: str) -> str:
    """Return a heading without its markup, for places that show plain text."""
    text = HEADING.sub(r"\2", heading)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"[`*$]|\\(?=[A-Za-z])", "", text).strip()


def _first_heading(module: Module) -> Line | None:
    """Return the first heading of the first row with prose; skip fenced code."""
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
    """Raise `SourceError` for a fence that is not closed in its row."""
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
    """Python-Markdown recurses for each level, so reject deep nesting before it does."""
    for line in prose:
        if TOO_DEEP.match(line.text):
            raise SourceError(path, line.number, "lists and quotations are nested too deeply")


def _doctests_as_code(prose: Sequence[Line]) -> list[Line]:
    """Indent doctests, because Markdown reads `>>>` as three quotation marks.

    A doctest that its author has indented is code already.
    """
    out: list[Line] = []
    inside = fenced = indented = False
    for line in prose:
        if FENCE.match(line.text):
            fenced = not fenced
        starts = not fenced and not inside and line.text.lstrip().startswith(">>> ")
        if starts:
            indented = line.text.startswith("    ")
            if out and out[-1].text.strip():
                out.append(Line(line.number, ""))
        inside = (inside or starts) and bool(line.text.strip())
        out.append(Line(line.number, "    " + line.text) if inside and not indented else line)
    return out


class _TagBalance(HTMLParser):
    """Checks that every element is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.error = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Ignore elements that close themselves."""

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID or self.error:
            return
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.error = f"</{tag}> without <{tag}>"


def _unbalanced(html: str) -> str:
    """Return why the elements of `html` are not balanced, or an empty string."""
    balance = _TagBalance()
    balance.feed(html)
    balance.close()
    return balance.error or (f"<{balance.open[-1]}> is not closed" if balance.open else "")
