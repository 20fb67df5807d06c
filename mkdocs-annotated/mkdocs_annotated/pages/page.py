r"""
# Prose and code side by side

The one place where the HTML of a source page is put together. The style sheet decides about
columns; without it the page still reads from top to bottom, prose before its code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from mkdocs_annotated.markdown.prose import RenderedRows
from mkdocs_annotated.source.code import Mark, highlight, to_html
from mkdocs_annotated.source.parse import Module, Row

# Code of this many lines may stick under the header while its prose scrolls by. Longer code would
# keep its end below the edge of a small screen.
STICKY_LINES = 24


@dataclass(frozen=True)
class Extras:
    r"""
    What other parts know about a page.

    * `marks` are the names in the code that link somewhere or stand for a symbol, by line
    * `notes` are texts that stand beside a line of code, by line; they are shown by the style sheet
      and are no part of the text, so that whatever copies or searches code finds code alone
    * `exhibits` is HTML that stands below the code of a row, or below its prose if the code is
      long, by the index of the row
    """

    marks: Mapping[int, Sequence[Mark]] = field(default_factory=dict)
    notes: Mapping[int, str] = field(default_factory=dict)
    exhibits: Mapping[int, str] = field(default_factory=dict)


NOTHING = Extras()


def assemble(module: Module, pieces: RenderedRows, extras: Extras = NOTHING) -> str:
    r"""
    The HTML of all rows.

    * line 81 has the address `#L81`, and a definition that of its qualified name
    * line numbers are drawn by the style sheet, so that whatever copies or reads code finds code
      alone; it counts, and hears of a number only where a row begins or leaves lines out
    """
    tokens = highlight(module.source)
    lines = [to_html(line, extras.marks.get(n, ())) for n, line in enumerate(tokens, start=1)]
    out = ['<div class="annotated">']
    for i, (row, prose) in enumerate(zip(module.rows, pieces.rows, strict=True)):
        out.append(_row(row, prose, lines, extras.notes, extras.exhibits.get(i, "")))
    if pieces.footnotes:
        out.append(f'<div class="row tail"><div class="prose">{pieces.footnotes}</div></div>')
    out.append("</div>")
    return "\n".join(out)


def addresses(module: Module) -> set[str]:
    """Every `id` that the code of a page brings along."""
    found = {f"L{n}" for row in module.rows for n in row.lines}
    return found | {anchor.name for row in module.rows for anchor in row.anchors}


def _row(row: Row, prose: str, lines: list[str], notes: Mapping[int, str], exhibit: str) -> str:
    names = {anchor.line: escape(anchor.name, quote=True) for anchor in row.anchors}
    # Whoever follows a link to a name wants to see its prose too: the row carries the first one.
    first = row.anchors[0].line if row.anchors and prose else None
    own = f' id="{names.pop(first)}"' if first else ""
    # Lines that became prose, or white space, are addresses as well.
    coded = {line.number for line in row.code}
    hidden = [f"L{n}" for n in row.lines if n not in coded]
    if hidden and not own:
        own = f' id="{hidden.pop(0)}"'
    bare = "" if prose else " bare"
    head = f'<div class="row{bare}"{own}>'
    tall = len(row.code) > STICKY_LINES
    # Below long code a figure would be far from the words about it, and the room is on the left.
    if prose and tall:
        prose, exhibit = prose + exhibit, ""
    if hidden:
        head += "<i>" + "".join(f'<wbr id="{each}">' for each in hidden) + "</i>"
    left = f'<div class="prose">{prose}</div>' if prose else ""
    if not row.code:
        return f"{head}{left}{exhibit}</div>"
    classes = "code tall" if tall else "code"
    indent = f' style="--d:{row.indent}"' if row.indent else ""
    shown = []
    expected = None
    for line in row.code:
        n = line.number
        number = "" if n == expected else f' style="--n:{n}"'
        expected = n + 1
        name = f'<wbr id="{names[n]}">' if n in names else ""
        note = f'<i class="note" data-note="{escape(notes[n])}"></i>' if n in notes else ""
        shown.append(f'<b id="L{n}"{number}>{name}{lines[n - 1]}{note}\n</b>')
    code = "".join(shown)
    block = f'<pre class="{classes}"{indent}><code>{code}</code></pre>'
    if exhibit:
        block = f'<div class="beside">{block}{exhibit}</div>'
    return f"{head}{left}{block}</div>"
