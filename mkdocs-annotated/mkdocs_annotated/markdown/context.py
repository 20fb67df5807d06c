r"""The state of one page while Markdown renders it.

# Context of a page

Markdown extensions see the lines of a document, not the file they came from. A `RenderContext` maps
document lines to file lines. It collects errors, so that one build can report all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mkdocs_annotated.errors import SourceError


def unchanged(url: str) -> str:
    return url


def no_drawing(url: str) -> str:
    return ""


@dataclass
class RenderContext:
    r"""The page that Markdown renders: its file, its lines, and the errors found in them.

    * `path` is the source file, for error messages
    * `source_lines` holds the file line of each document line; if it is empty, the document is the
      file itself without its first `line_offset` lines
    * `trusted` allows raw HTML and all attributes
    * `marker` begins the paragraph before each row of a source page
    * `row_starts` holds the document line at which each row begins
    * `row_names` holds the names that each row defines
    * `resolve_link` turns an address in the Markdown into the address of a page
    * `draw` returns the HTML of the drawing at the address of a page, or an empty string
    * `drawings` counts the drawings on the page, so that their ids differ
    * `lenient` turns LaTeX errors into `warnings`, and shows the LaTeX as code

    >>> context = RenderContext("docs/index.md", line_offset=3)
    >>> context.report(0, "the formula is empty")
    >>> print(context.errors[0])
    docs/index.md:4: the formula is empty
    """

    path: str = "<string>"
    source_lines: Sequence[int] = ()
    line_offset: int = 0
    trusted: bool = True
    marker: str = ""
    row_starts: Sequence[int] = ()
    row_names: Sequence[Sequence[str]] = ()
    resolve_link: Callable[[str], str] = unchanged
    draw: Callable[[str], str] = no_drawing
    drawings: int = 0
    lenient: bool = False
    errors: list[SourceError] = field(default_factory=list)
    warnings: list[SourceError] = field(default_factory=list)

    def report(self, index: int, message: str, *, is_warning: bool = False) -> None:
        """Add an error or a warning at document line `index`, counted from zero."""
        if self.source_lines:
            line = self.source_lines[min(index, len(self.source_lines) - 1)]
        else:
            line = index + 1 + self.line_offset
        messages = self.warnings if is_warning else self.errors
        messages.append(SourceError(self.path, line, message))
