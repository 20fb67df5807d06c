r"""Build the HTML of a source page: prose on the left, code on the right.

# Prose and code side by side

Only this module writes the HTML of source pages. The style sheet makes the columns. Without it the
page reads from top to bottom, with prose above its code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from mkdocs_annotated.markdown.prose import RenderedRows
from mkdocs_annotated.source.code import Mark, highlight, to_html
from mkdocs_annotated.source.folds import Fold
from mkdocs_annotated.source.parse import Module, Row

# Code of up to this many lines stays below the header while its prose scrolls. Longer code would
# not fit on a small screen.
STICKY_LINES = 24
# A line longer than this may wrap on a narrow screen, and then continues `HANGING` columns deeper.
SHORT_LINE = 32
HANGING = 4


@dataclass(frozen=True)
class Extras:
    r"""The links, symbols, notes and exhibits of a page.

    * `marks` are the linked names and the symbols in the code, by line
    * `notes` are short texts beside a line of code, by line; the style sheet draws them, so they
      are not part of copied or searched text
    * `exhibits` is HTML below the code of a row, or below its prose if the code is long, by the
      index of the row; in the first row it is above the code
    """

    marks: Mapping[int, Sequence[Mark]] = field(default_factory=dict)
    notes: Mapping[int, str] = field(default_factory=dict)
    exhibits: Mapping[int, str] = field(default_factory=dict)


NO_EXTRAS = Extras()

# The end of a docstring that lists the arguments: a list whose items begin with a name, then lists
# and paragraphs only.
ARGUMENTS = re.compile(
    r"<ul>\n<li>(?:<p>)?<code>(?:(?!<h\d|<div|<pre|<table|<blockquote|class=\"eq\").)*\Z", re.DOTALL
)


def assemble(module: Module, rendered: RenderedRows, extras: Extras = NO_EXTRAS) -> str:
    r"""Return the HTML of all rows.

    Line 81 has the anchor `#L81`, and a definition has its qualified name as anchor. The style
    sheet draws the line numbers, so they are not part of copied text. It counts lines itself; the
    HTML gives a number only at the start of a row and after a gap.

    Each fold is a button followed by its lines. The script and the style sheet fold them; without a
    script all lines are shown and the buttons are not.

    * `module` is the parsed module
    * `rendered` is the rendered prose of its rows
    * `extras` are links, symbols, notes and exhibits
    """
    tokens = highlight(module.source)
    lines = [to_html(line, extras.marks.get(n, ())) for n, line in enumerate(tokens, start=1)]
    out = ['<div class="annotated">']
    for i, (row, prose) in enumerate(zip(module.rows, rendered.rows, strict=True)):
        exhibit = extras.exhibits.get(i, "")
        # The figure of a module is above its imports: a reader wants the figure first.
        out.append(_row(row, prose, lines, extras.notes, exhibit, module.folds, is_first=i == 0))
    if rendered.footnotes:
        out.append(f'<div class="row tail"><div class="prose">{rendered.footnotes}</div></div>')
    out.append("</div>")
    return "\n".join(out)


def anchor_ids(module: Module) -> set[str]:
    """Return every `id` that `assemble` gives to lines and definitions."""
    found = {f"L{n}" for row in module.rows for n in row.lines}
    return found | {anchor.name for row in module.rows for anchor in row.anchors}


def _row(
    row: Row,
    prose: str,
    lines: list[str],
    notes: Mapping[int, str],
    exhibit: str,
    folds: Sequence[Fold],
    *,
    is_first: bool,
) -> str:
    names = {anchor.line: escape(anchor.name, quote=True) for anchor in row.anchors}
    # A link to a definition should show its prose too, so the first anchor is on the row.
    first = row.anchors[0].line if row.anchors and prose else None
    row_id = f' id="{names.pop(first)}"' if first else ""
    # Lines that became prose, and blank lines, have anchors as well.
    code_lines = {line.number for line in row.code}
    other_ids = [f"L{n}" for n in row.lines if n not in code_lines]
    if other_ids and not row_id:
        row_id = f' id="{other_ids.pop(0)}"'
    anchors = "".join(f'<wbr id="{each}">' for each in other_ids)
    first_line = min(row.lines, default=0)
    folded = any(fold.first < first_line <= fold.last for fold in folds)
    folds = (
        ()
        if folded
        else [fold for fold in folds if fold.last in code_lines or fold.first in code_lines]
    )
    classes = f"row{'' if prose else ' bare'}{' folded' if folded else ''}"
    head = f'<div class="{classes}"{row_id}>' + (f"<i>{anchors}</i>" if anchors else "")
    tall = sum(all(n not in fold for fold in folds) for n in code_lines) > STICKY_LINES
    # Below long code a figure would be far from its prose, and the left column is empty there.
    if row.anchors:
        prose = _fold_arguments(prose)
    if prose and tall and not is_first:
        prose, exhibit = prose + exhibit, ""
    left = f'<div class="prose">{prose}</div>' if prose else ""
    if not row.code:
        return f"{head}{left}{exhibit}</div>"
    right = _code(row, names, lines, notes, "code tall" if tall else "code", folds)
    if exhibit:
        both = exhibit + right if is_first else right + exhibit
        right = f'<div class="beside">{both}</div>'
    return f"{head}{left}{right}</div>"


def _fold_arguments(prose: str) -> str:
    """Return the prose of a definition with its list of arguments, and what follows, as a fold."""
    found = ARGUMENTS.search(prose)
    if not found:
        return prose
    label = "arguments and errors" if "Raises" in found[0] else "arguments"
    return (
        f'{prose[: found.start()]}<button class="fold quiet" aria-expanded="false">{label}</button>'
        f'<div class="folded">{found[0]}</div>'
    )


def _code(
    row: Row,
    names: Mapping[int, str],
    lines: list[str],
    notes: Mapping[int, str],
    classes: str,
    folds: Sequence[Fold],
) -> str:
    indent = f' style="--d:{row.indent}"' if row.indent else ""
    out = []
    expected = None
    current: Fold | None = None
    for line in row.code:
        n = line.number
        fold = next((fold for fold in folds if n in fold), None)
        if fold is not current:
            # A hidden line is not counted, so the line after it has its number in the HTML.
            expected = None
            out.append("</span>" if current else "")
            out.append(_button(fold, n) if fold else "")
            current = fold
        styles = [] if n == expected else [f"--n:{n}"]
        if len(line.text) > SHORT_LINE:
            depth = len(line.text) - len(line.text.lstrip())
            styles.append(f"--i:{depth + HANGING}")
        style = f' style="{";".join(styles)}"' if styles else ""
        expected = n + 1
        anchor = f'<wbr id="{names[n]}">' if n in names else ""
        note = f'<i class="note" data-note="{escape(notes[n])}"></i>' if n in notes else ""
        out.append(f'<b id="L{n}"{style}>{anchor}<span>{lines[n - 1]}\n</span>{note}</b>')
    out.append("</span>" if current else "")
    return f'<pre class="{classes}"{indent}><code>{"".join(out)}</code></pre>'


def _button(fold: Fold, line: int) -> str:
    """Return the button of a fold; the style sheet keeps its text out of copied text."""
    style = f"--n:{line};--i:{fold.indent}"
    if fold.is_code:
        label, kind = to_html(highlight(fold.label)[0]), ""
    else:
        label, kind = escape(fold.label, quote=False), " quiet"
    return (
        f'<button class="fold{kind}" aria-expanded="false" style="{style}">{label}</button>'
        '<span class="folded">'
    )
