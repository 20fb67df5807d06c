r"""A module and its prose before rendering.

# Articles
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
    r"""A source file, its parsed module, its prose as one document, and its front matter.

    ```python
    article = read_article(source)
    article.document.markdown
    ```
    """

    source: SourceFile
    module: Module
    document: Document
    front_matter: dict[str, Any]

    @property
    def names(self) -> frozenset[str]:
        """The qualified names that the module defines."""
        return frozenset(anchor.name for row in self.module.rows for anchor in row.anchors)

    def context(self, *, trusted: bool, link: Callable[[str], str]) -> RenderContext:
        """Return the state for rendering the document.

        * `trusted` allows raw HTML
        * `link` turns a link between files into a link between pages
        """
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
    """Read and parse a source file.

    Raises `SourceError` if the file cannot be decoded or is not valid Python, if its front matter
    is not closed or is not a YAML mapping, if a code fence in its prose is not closed, or if its
    lists and quotations are nested too deeply.
    """
    module = parse(read_source(source.path, source.display_path), source.display_path)
    prose = join_rows(module, source.name, source.display_path)
    return Article(source, module, prose, _front_matter(module, source.display_path))


def _front_matter(module: Module, path: str) -> dict[str, Any]:
    """Return the YAML at the head of a module docstring: `title`, `summary`, keys of the theme."""
    if not module.front_matter:
        return {}
    first = module.front_matter[0].number
    try:
        values = yaml.safe_load("\n".join(line.text for line in module.front_matter))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = first + (mark.line if mark else 0)
        raise SourceError(path, line, "the front matter is not valid YAML") from error
    if not isinstance(values, dict):
        raise SourceError(path, first, "the front matter must be `key: value` lines")
    return values
