r"""
# Names in prose

A name in backticks becomes a link to where it is defined, if it means exactly one thing there; all
other code stays as it is. The addresses are those of Markdown files, so that the builder checks
and rewrites them like any link that an author wrote.
"""

from __future__ import annotations

import xml.etree.ElementTree as etree
from collections.abc import Callable

from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor

from mkdocs_annotated.markdown.context import RenderContext
from mkdocs_annotated.markdown.markup import row_of_marker

HEADINGS = frozenset(("a", "pre", "h1", "h2", "h3", "h4", "h5", "h6"))


def no_link(text: str, row: int) -> str:
    return ""


class ReferenceExtension(Extension):
    """`draft` is replaced for each document; `refer` gives the address of a name in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.context = RenderContext()
        self.resolve: Callable[[str, int], str] = no_link

    def extendMarkdown(self, md: Markdown) -> None:
        # After the links of authors are resolved (4), before the builder checks them all (0).
        md.treeprocessors.register(_References(md, self), "annotated_references", 3.5)


class _References(Treeprocessor):
    def __init__(self, md: Markdown, extension: ReferenceExtension) -> None:
        super().__init__(md)
        self.extension = extension

    def run(self, root: etree.Element) -> None:
        row = 0
        for element in list(root):
            number = row_of_marker(element, self.extension.context)
            row = row if number is None else number
            self.inside(element, row)

    def inside(self, parent: etree.Element, row: int) -> None:
        if parent.tag in HEADINGS:
            return
        for i, child in enumerate(list(parent)):
            if child.tag != "code" or not child.text or len(child):
                self.inside(child, row)
                continue
            address = self.extension.resolve(child.text, row)
            if address:
                link = etree.Element("a", {"href": address})
                link.tail, child.tail = child.tail, None
                link.append(child)
                parent[i] = link
