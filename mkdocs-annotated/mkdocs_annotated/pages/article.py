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
from mkdocs_annotated.markdown.draft import Draft
from mkdocs_annotated.markdown.prose import Document, document
from mkdocs_annotated.source.files import Source
from mkdocs_annotated.source.parse import Module, parse
from mkdocs_annotated.source.scan import read


@dataclass(frozen=True)
class Article:
    """A module, its prose as a document, and the values of its front matter."""

    source: Source
    module: Module
    document: Document
    front: dict[str, Any]

    @property
    def names(self) -> frozenset[str]:
        """What the module defines."""
        return frozenset(anchor.name for row in self.module.rows for anchor in row.anchors)

    def draft(self, *, trusted: bool, link: Callable[[str], str]) -> Draft:
        """What is known while its document renders; `link` leads from file to page."""
        return Draft(
            path=self.source.shown,
            lines=self.document.lines,
            trusted=trusted,
            marker=self.document.marker,
            starts=self.document.starts,
            names=[[anchor.name for anchor in row.anchors] for row in self.module.rows],
            link=link,
        )


def read_article(source: Source) -> Article:
    """Raises `SourceError` for a file that is not Python, and for prose that cannot be joined."""
    module = parse(read(source.path, source.shown), source.shown)
    doc = document(module, source.name, source.shown)
    return Article(source, module, doc, _front(module, source.shown))


def _front(module: Module, path: str) -> dict[str, Any]:
    """The YAML at the head of a module docstring: `title`, `summary`, whatever a theme reads."""
    if not module.front:
        return {}
    first = module.front[0].number
    try:
        values = yaml.safe_load("\n".join(line.text for line in module.front))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = first + (mark.line if mark else 0)
        raise SourceError(path, line, "the front matter is not YAML") from error
    if not isinstance(values, dict):
        raise SourceError(path, first, "the front matter must be `key: value` lines")
    return values
