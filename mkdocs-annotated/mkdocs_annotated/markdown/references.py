r"""Turn names in backticks into links to their definitions.

# Names in prose

A name becomes a link if it has exactly one meaning where it is written. Other code stays as it is.
The links lead to Markdown files, so MkDocs checks and rewrites them like an author's links.
"""

from __future__ import annotations

import xml.etree.ElementTree as etree
from collections.abc import Callable

from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor

from mkdocs_annotated.markdown.context import RenderContext
from mkdocs_annotated.markdown.markup import row_of_marker

SKIPPED_TAGS = frozenset(("a", "pre", "h1", "h2", "h3", "h4", "h5", "h6"))


def no_link(text: str, row: int) -> str:
    return ""


class ReferenceExtension(Extension):
    """Python-Markdown extension for names in backticks.

    * `context` is the page that is being rendered; the plugin sets it for each page
    * `resolve` returns the address of a name in a row, or an empty string

    >>> extension = ReferenceExtension()
    >>> extension.resolve = lambda name, row: "circle.md#Circle" if name == "Circle" else ""
    >>> Markdown(extensions=[extension]).convert("A `Circle`.")
    '<p>A <a href="circle.md#Circle"><code>Circle</code></a>.</p>'
    """

    def __init__(self) -> None:
        super().__init__()
        self.context = RenderContext()
        self.resolve: Callable[[str, int], str] = no_link

    def extendMarkdown(self, md: Markdown) -> None:
        # After the links of authors are resolved (4), before MkDocs checks all links (0).
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
            self.link_names(element, row)

    def link_names(self, parent: etree.Element, row: int) -> None:
        if parent.tag in SKIPPED_TAGS:
            return
        for i, child in enumerate(list(parent)):
            if child.tag != "code" or not child.text or len(child):
                self.link_names(child, row)
                continue
            address = self.extension.resolve(child.text, row)
            if address:
                link = etree.Element("a", {"href": address})
                link.tail, child.tail = child.tail, None
                link.append(child)
                parent[i] = link
