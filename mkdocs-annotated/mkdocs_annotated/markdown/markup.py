r"""Make Markdown behave as on code hosts, and reject HTML that could run a script.

# Lists, links and unsafe HTML

A list may follow a line of text without a blank line, and links name files by their path. Comments
are not trusted: their HTML is shown as text, so that a page made from a package runs none of its
scripts.
"""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as etree
from urllib.parse import urlsplit

from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor
from markdown.treeprocessors import Treeprocessor
from markdown.util import AMP_SUBSTITUTE

from mkdocs_annotated.markdown.context import RenderContext

ITEM = re.compile(r"(?P<margin> *)(?:[*+-]|1\.) +\S")
ANY_ITEM = re.compile(r" *(?:[*+-]|\d+\.) ")
NOT_TEXT = re.compile(r" *(?:#|\||>|\x02|\[\^|!!! |={3,}$|-{3,}$)")
ALLOWED_SCHEMES = frozenset(("", "http", "https", "mailto"))


class MarkupExtension(Extension):
    r"""Python-Markdown extension for lists, links, row anchors, wide tables and unsafe HTML.

    * `context` is the page that is being rendered; the plugin sets it for each page

    >>> print(Markdown(extensions=[MarkupExtension()]).convert("Two:\n* a\n* b"))
    <p>Two:</p>
    <ul>
    <li>a</li>
    <li>b</li>
    </ul>
    """

    def __init__(self, context: RenderContext | None = None) -> None:
        super().__init__()
        self.context = context or RenderContext()

    def extendMarkdown(self, md: Markdown) -> None:
        if not self.context.trusted:
            md.preprocessors.deregister("html_block", strict=False)
            md.inlinePatterns.deregister("html", strict=False)
            md.treeprocessors.register(_RejectUnsafe(md, self.context), "annotated_refuse", 3)
        # After fences are extracted (25).
        md.preprocessors.register(_ListsAfterText(md), "annotated_lists", 24)
        # Before the table of contents chooses ids (5), so that definitions keep theirs.
        md.treeprocessors.register(_RowAnchors(md, self.context), "annotated_names", 6)
        # Before MkDocs checks links (0).
        md.treeprocessors.register(_Links(md, self.context), "annotated_links", 4)
        md.treeprocessors.register(_Tables(md), "annotated_tables", 2)


class _ListsAfterText(Preprocessor):
    """Adds the blank line before a list that Python-Markdown needs and most authors omit."""

    def run(self, lines: list[str]) -> list[str]:
        out: list[str] = []
        block: list[str] = []  # the lines since the last blank one
        for line in lines:
            item = ITEM.match(line)
            if item and self.interrupts(item["margin"], block, out):
                out.append("")
                block = []
            block = [*block, line] if line.strip() else []
            out.append(line)
        return out

    def interrupts(self, margin: str, block: list[str], out: list[str]) -> bool:
        """Return whether the lines above are a plain paragraph with the same margin."""
        if not block or any(ANY_ITEM.match(line) for line in block):
            return False
        last = block[-1]
        if NOT_TEXT.match(last) or len(last) - len(last.lstrip()) != len(margin):
            return False
        if len(margin) < 4:
            return True
        # Deeper text is code, unless it belongs to a list item, an admonition or a footnote.
        for line in reversed(out):
            if line.strip() and len(line) - len(line.lstrip()) < len(margin):
                return bool(ANY_ITEM.match(line) or re.match(r" *(?:!!! |\[\^)", line))
        return False


class _RowAnchors(Treeprocessor):
    """Adds the names defined in a row to its marker, so that headings get other ids."""

    def __init__(self, md: Markdown, context: RenderContext) -> None:
        super().__init__(md)
        self.context = context

    def run(self, root: etree.Element) -> None:
        for element in root:
            row = row_of_marker(element, self.context)
            if row is not None and row < len(self.context.row_names):
                for name in self.context.row_names[row]:
                    etree.SubElement(element, "span", id=name)


class _Links(Treeprocessor):
    """Resolves the addresses of links and images, and replaces images that are drawings."""

    def __init__(self, md: Markdown, context: RenderContext) -> None:
        super().__init__(md)
        self.markdown = md
        self.context = context

    def run(self, root: etree.Element) -> None:
        for element in root.iter():
            key = {"a": "href", "img": "src"}.get(element.tag)
            url = element.get(key) if key else None
            if key and url and AMP_SUBSTITUTE not in url:
                element.set(key, self.context.resolve_link(url))
        for parent in list(root.iter()):
            for image in parent.findall("img") if parent.tag != "a" else ():
                html = self.context.draw(image.get("src", ""))
                if html:
                    self.replace(parent, image, self.markdown.htmlStash.store(html))

    def replace(self, parent: etree.Element, image: etree.Element, placeholder: str) -> None:
        at = list(parent).index(image)
        text = placeholder + (image.tail or "")
        if at:
            parent[at - 1].tail = (parent[at - 1].tail or "") + text
        else:
            parent.text = (parent.text or "") + text
        parent.remove(image)


class _RejectUnsafe(Treeprocessor):
    """Reports attributes and addresses that could run a script."""

    def __init__(self, md: Markdown, context: RenderContext) -> None:
        super().__init__(md)
        self.context = context

    def run(self, root: etree.Element) -> None:
        start = 0
        for child in root:
            row = row_of_marker(child, self.context)
            if row is not None and row < len(self.context.row_starts):
                start = self.context.row_starts[row] + 2
            for element in child.iter():
                for key, value in element.items():
                    self.check(start, key.lower(), value)

    def check(self, start: int, key: str, value: str) -> None:
        if key.startswith("on") or (key == "style" and "(" in value):
            self.context.report(start, f"the attribute {key} is not allowed in a comment")
        elif key in ("href", "src") and AMP_SUBSTITUTE not in value:
            # Browsers remove white space and decode entities before they read the scheme.
            url = re.sub(r"[\s\x00-\x1f]", "", html.unescape(value))
            if _scheme(url) not in ALLOWED_SCHEMES:
                self.context.report(start, f"the link {value} is not allowed in a comment")


class _Tables(Treeprocessor):
    """Puts tables into a box that scrolls, so that a wide table does not widen the page.

    The empty corner of a table is no heading; screen readers would announce it as one.
    """

    def run(self, root: etree.Element) -> None:
        for heading in root.iter("th"):
            if not len(heading) and not (heading.text or "").strip():
                heading.tag = "td"
        for parent in list(root.iter()):
            for i, child in enumerate(parent):
                if child.tag == "table" and parent.get("class") != "scroll":
                    box = etree.Element("div", {"class": "scroll", "tabindex": "0"})
                    box.tail, child.tail = child.tail, None
                    box.append(child)
                    parent[i] = box


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme.lower()
    except ValueError:
        return "?"


def row_of_marker(element: etree.Element, context: RenderContext) -> int | None:
    """Return the number of the row after a marker paragraph, or `None` for another element."""
    text = (element.text or "").strip()
    if context.marker and element.tag == "p" and text.startswith(f"{context.marker}x"):
        number = text[len(context.marker) + 1 :]
        return int(number) if number.isdecimal() else None
    return None
