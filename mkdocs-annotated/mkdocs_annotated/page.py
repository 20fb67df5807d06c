r"""
# Prose and code side by side

The one place where the HTML of a source page is put together. The style sheet decides about
columns; without it the page still reads from top to bottom, prose before its code.
"""

from __future__ import annotations

from html import escape

from mkdocs_annotated.code import highlight, to_html
from mkdocs_annotated.parse import Module, Row
from mkdocs_annotated.prose import Pieces

# Code of this many lines may stick under the header while its prose scrolls by. Longer code would
# keep its end below the edge of a small screen.
STICKY_LINES = 24


def assemble(module: Module, pieces: Pieces) -> str:
    r"""
    The HTML of all rows.

    * line 81 has the address `#L81`, and a definition that of its qualified name
    * line numbers stand in links that neither selection nor screen readers take for code
    """
    tokens = highlight(module.source)
    lines = [to_html(line) for line in tokens]
    out = ['<div class="annotated">']
    for row, prose in zip(module.rows, pieces.rows, strict=True):
        out.append(_row(row, prose, lines))
    if pieces.tail:
        out.append(f'<div class="row tail"><div class="prose">{pieces.tail}</div></div>')
    out.append("</div>")
    return "\n".join(out)


def addresses(module: Module) -> set[str]:
    """Every `id` that the code of a page brings along."""
    found = {f"L{line.number}" for row in module.rows for line in row.code}
    return found | {anchor.name for row in module.rows for anchor in row.anchors}


def _row(row: Row, prose: str, lines: list[str]) -> str:
    names = {anchor.line: escape(anchor.name, quote=True) for anchor in row.anchors}
    # Whoever follows a link to a name wants to see its prose too: the row carries the first one.
    first = row.anchors[0].line if row.anchors and prose else None
    own = f' id="{names.pop(first)}"' if first else ""
    bare = "" if prose else " bare"
    head = f'<div class="row{bare}"{own}>'
    left = f'<div class="prose">{prose}</div>' if prose else ""
    if not row.code:
        return f"{head}{left}</div>"
    classes = "code" if len(row.code) <= STICKY_LINES else "code tall"
    indent = f' style="--d:{row.indent}"' if row.indent else ""
    shown = []
    for line in row.code:
        n = line.number
        name = f' id="{names[n]}"' if n in names else ""
        number = f'<a id="L{n}" href="#L{n}" tabindex="-1" aria-hidden="true">{n}</a>'
        shown.append(f'<span class="l"{name}>{number}{lines[n - 1]}\n</span>')
    code = "".join(shown)
    return (
        f'{head}{left}<pre class="{classes}" tabindex="0"{indent}><code>{code}</code></pre></div>'
    )
