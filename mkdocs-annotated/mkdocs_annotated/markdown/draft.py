r"""
# What is known about a document while it renders

Markdown extensions see lines of a document, not the file they came from. A `Draft` carries the
way back, and collects the mistakes found on the way, so that one build can report them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mkdocs_annotated.errors import SourceError


def same_url(url: str) -> str:
    return url


@dataclass
class Draft:
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
    lines: Sequence[int] = ()
    offset: int = 0
    trusted: bool = True
    marker: str = ""
    starts: Sequence[int] = ()
    names: Sequence[Sequence[str]] = ()
    link: Callable[[str], str] = same_url
    lenient: bool = False
    problems: list[SourceError] = field(default_factory=list)
    doubts: list[SourceError] = field(default_factory=list)

    def report(self, index: int, message: str, *, doubt: bool = False) -> None:
        """Notes a mistake on line `index` of the document, counted from zero."""
        if self.lines:
            line = self.lines[min(index, len(self.lines) - 1)]
        else:
            line = index + 1 + self.offset
        found = self.doubts if doubt else self.problems
        found.append(SourceError(self.path, line, message))
