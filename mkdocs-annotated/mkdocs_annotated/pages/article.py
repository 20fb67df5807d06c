r"""
# A module on its way to its page

Everything that is known of one source file before anything is rendered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.markdown.context import RenderContext
from mkdocs_annotated.markdown.prose import Document, join_rows
from mkdocs_annotated.source.files import SourceFile
from mkdocs_annotated.source.parse import Module, parse
from mkdocs_annotated.source.scan import read_source


@dataclass(frozen=True)
class Article:
    """A module, its prose as a document, and the values of its front matter."""

    source: SourceFile
    module: Module
    document: Document
    front: dict[str, Any]

    @property
    def names(self) -> frozenset[str]:
        """What the module defines."""
        return frozenset(anchor.name for row in self.module.rows for anchor in row.anchors)

    def context(self, *, trusted: bool, link: Callable[[str], str]) -> RenderContext:
        """What is known while its document renders; `link` leads from file to page."""
        return RenderContext(
            path=self.source.display_path,
            source_lines=self.document.source_lines,
            trusted=trusted,
            marker=self.document.marker,
            row_starts=self.document.row_starts,
            row_names=[[anchor.name for anchor in row.anchors] for row in self.module.rows],
            resolve_link=link,
        )


def read_article(source: SourceFile) -> Article:
    """Raises `SourceError` for a file that is not Python, and for prose that cannot be joined."""
    module = parse(read_source(source.path, source.display_path), source.display_path)
    doc = join_rows(module, source.name, source.display_path)
    return Article(source, module, doc, _front(module, source.display_path))


def _front(module: Module, path: str) -> dict[str, Any]:
    """The YAML at the head of a module docstring: `title`, `summary`, whatever a theme reads."""
    if not module.front_matter:
        return {}
    first = module.front_matter[0].number
    try:
        values = yaml.safe_load("\n".join(line.text for line in module.front_matter))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = first + (mark.line if mark else 0)
        raise SourceError(path, line, "the front matter is not YAML") from error
    if not isinstance(values, dict):
        raise SourceError(path, first, "the front matter must be `key: value` lines")
    return values
