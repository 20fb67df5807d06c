r"""
# What is known about a document while it renders

Markdown extensions see lines of a document, not the file they came from. A `Draft` carries the
way back, and collects the mistakes found on the way, so that one build can report them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mkdocs_annotated.errors import SourceError


def unchanged(url: str) -> str:
    return url


@dataclass
class RenderContext:
    r"""
    * `path` is the file behind the document, `lines` the line of it behind each document line
    * `offset` is added for documents that are the file, less the front matter above them
    * `trusted` lets raw HTML and any attribute through; prose from source files is not trusted
    * `marker`, `starts` and `names` describe the rows of a source page: what their paragraphs
      begin with, the document lines they begin on, and the names defined in each
    * `lenient` collects LaTeX that cannot be rendered in `doubts`, and shows it as it is written
    * `link` turns an address as the author wrote it into the address of a page
    """

    path: str = "<string>"
    source_lines: Sequence[int] = ()
    line_offset: int = 0
    trusted: bool = True
    marker: str = ""
    row_starts: Sequence[int] = ()
    row_names: Sequence[Sequence[str]] = ()
    resolve_link: Callable[[str], str] = unchanged
    lenient: bool = False
    errors: list[SourceError] = field(default_factory=list)
    warnings: list[SourceError] = field(default_factory=list)

    def report(self, index: int, message: str, *, doubt: bool = False) -> None:
        """Notes a mistake on line `index` of the document, counted from zero."""
        if self.source_lines:
            line = self.source_lines[min(index, len(self.source_lines) - 1)]
        else:
            line = index + 1 + self.line_offset
        found = self.warnings if doubt else self.errors
        found.append(SourceError(self.path, line, message))
