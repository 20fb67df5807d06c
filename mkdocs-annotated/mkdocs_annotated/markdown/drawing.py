r"""Read SVG drawings, and write them into a page so that its colours and symbols apply to them.

# Drawings

An SVG file whose root has the class `drawing` becomes part of the page that shows it. Other SVG
files, such as charts, stay pictures. A drawing must be safe and complete on its own: it may hold
only shapes, text, gradients and links, and nothing from another file.

```xml
<svg xmlns="http://www.w3.org/2000/svg" class="drawing" viewBox="0 0 320 60">
  <title>The area of a circle</title>
  <a href="../shapes/circle.py#eq-1"><g data-s="A"><text y="20">A</text></g></a>
</svg>
```

* the `title` is its text alternative; `desc` may say more
* links are relative to the SVG file, as links in prose are relative to theirs
* `data-s` names a symbol of the site
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from urllib.parse import urlsplit
from xml.parsers import expat

from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.markdown.markup import ALLOWED_SCHEMES

ROOT = re.compile(rb"<svg\b[^>]*\sclass=[\"'](?:[^\"']*\s)?drawing[\s\"']")
ELEMENTS = frozenset(
    (
        *("svg", "g", "defs", "title", "desc", "a", "text", "tspan", "textPath", "path", "rect"),
        *("circle", "ellipse", "line", "polyline", "polygon", "use", "symbol", "marker", "stop"),
        *("linearGradient", "radialGradient", "clipPath", "mask", "pattern"),
    )
)
TEXTS = frozenset(("text", "tspan", "textPath", "title", "desc"))
REFERENCE = re.compile(r"url\(\s*[\"']?(#?)([^)\"']*)[\"']?\s*\)")
FONT_SIZE = re.compile(r"\s*([\d.]+)(?:px)?\s*$")
SMALLEST_LABEL = 9.5  # pixels on the screen
NARROW_COLUMN = 326  # pixels, on a screen of 360
MAX_DEPTH = 50


@dataclass
class Element:
    """An element of a drawing with its line; `children` are elements and texts."""

    tag: str
    line: int
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    def elements(self) -> Iterator[Element]:
        """Yield this element and all elements inside it."""
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child.elements()

    def text(self) -> str:
        parts = [each if isinstance(each, str) else each.text() for each in self.children]
        return " ".join("".join(parts).split())


@dataclass(frozen=True)
class Drawing:
    r"""A drawing that may become part of a page.

    * `path` is its file as error messages show it
    * `title` is its text alternative
    * `size` are width and height of its view box
    """

    path: str
    root: Element
    title: str
    size: tuple[float, float]

    def symbols(self) -> Iterator[tuple[str, int]]:
        """Yield the id and the line of each symbol."""
        for element in self.root.elements():
            if "data-s" in element.attributes:
                yield element.attributes["data-s"], element.line

    def html(self, number: int, link: Callable[[str, int], str]) -> str:
        r"""Return the drawing as HTML.

        * `number` tells the drawings of a page apart; their ids begin with it
        * `link` turns an address at a line of the file into an address on the page
        """
        width, height = (f"{side:g}" for side in self.size)
        root = self.root
        kept = ("viewBox", "class", "fill", "stroke", "font-size", "font-family", "text-anchor")
        attributes = {key: root.attributes[key] for key in kept if key in root.attributes}
        # A picture may not contain links for assistive technology, a group may.
        has_links = any(each.tag == "a" for each in root.elements())
        attributes |= {"role": "group" if has_links else "img", "aria-label": self.title}
        description = next((e for e in root.elements() if e.tag == "desc"), None)
        if description:
            description.attributes.setdefault("id", "desc")
            attributes["aria-describedby"] = description.attributes["id"]
        attributes |= {"width": width, "height": height}
        writer = _Writer(f"drawing{number}-", link)
        # The root's title would be a tooltip of the whole drawing.
        children = [c for c in root.children if not (isinstance(c, Element) and c.tag == "title")]
        svg = writer.html(Element("svg", root.line, attributes, children))
        needed = self.least_width()
        if needed <= NARROW_COLUMN:
            return svg
        svg = svg.replace("<svg", f'<svg style="min-width:{needed}px"', 1)
        return f'<span class="scroll">{svg}</span>'

    def least_width(self) -> int:
        """Return the width in pixels at which the smallest label can still be read."""
        found = [FONT_SIZE.match(e.attributes.get("font-size", "")) for e in self.root.elements()]
        sizes = [float(each[1]) for each in found if each and float(each[1]) > 0]
        return round(self.size[0] * SMALLEST_LABEL / min(sizes)) if sizes else 0


def read_drawing(path: Path, display_path: str) -> Drawing | None:
    """Read an SVG file; return `None` if its root does not have the class `drawing`.

    * `display_path` is the path that error messages show

    Raises `SourceError` with the line if the file is not well-formed, if it contains a script, an
    event handler, a style sheet, anything from another file, or an element that is not a shape,
    text, gradient or link, or if it has no `title` or no `viewBox`.
    """
    if path.suffix.lower() != ".svg":
        return None
    data = path.read_bytes()
    if not ROOT.search(data[:4096]):
        return None
    root = _Reader(display_path).read(data)
    box = root.attributes.get("viewBox", "").replace(",", " ").split()
    try:
        size = (float(box[2]), float(box[3]))
    except (ValueError, IndexError):
        message = "a drawing needs a viewBox of four numbers"
        raise SourceError(display_path, root.line, message) from None
    titles = [each for each in root.children if isinstance(each, Element) and each.tag == "title"]
    title = titles[0].text() if titles else ""
    if not title:
        message = "a drawing needs a <title> as its text alternative"
        raise SourceError(display_path, root.line, message)
    return Drawing(display_path, root, title, size)


class _Reader:
    """Parses SVG and refuses everything that is not part of a drawing."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.data
        self.parser.StartDoctypeDeclHandler = self.doctype
        self.open: list[Element] = []
        self.root = Element("svg", 1, {})

    def read(self, data: bytes) -> Element:
        try:
            self.parser.Parse(data, True)
        except expat.ExpatError as error:
            reason = expat.ErrorString(error.code)
            raise SourceError(self.path, error.lineno, f"not well-formed XML: {reason}") from error
        return self.root

    def refuse(self, message: str) -> None:
        raise SourceError(self.path, self.parser.CurrentLineNumber, message)

    def doctype(self, *declaration: object) -> None:
        self.refuse("a document type is not allowed in a drawing")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag not in ELEMENTS:
            self.refuse(f"<{tag}> is not allowed in a drawing")
        kept = {}
        for key, value in attributes.items():
            key = "href" if key == "xlink:href" else key
            self.check(tag, key.lower(), value)
            if ":" not in key and key != "xmlns":
                kept[key] = value
        element = Element(tag, self.parser.CurrentLineNumber, kept)
        if not self.open:
            self.root = element
        else:
            self.open[-1].children.append(element)
        self.open.append(element)
        if len(self.open) > MAX_DEPTH:
            self.refuse("the elements of a drawing are nested too deeply")

    def check(self, tag: str, key: str, value: str) -> None:
        if key.startswith("on"):
            self.refuse(f"the attribute {key} is not allowed in a drawing")
        elif key == "href" and tag == "a":
            if urlsplit(re.sub(r"[\s\x00-\x1f]", "", value)).scheme.lower() not in ALLOWED_SCHEMES:
                self.refuse(f"the link {value} is not allowed in a drawing")
            return
        is_reference = key in ("href", "src") and not value.startswith("#")
        if is_reference or any(not mark for mark, _ in REFERENCE.findall(value)):
            self.refuse(f"a drawing may use nothing from another file, got {value}")

    def end(self, tag: str) -> None:
        self.open.pop()

    def data(self, text: str) -> None:
        # Space between shapes would only make the page larger.
        if self.open and (text.strip() or self.open[-1].tag in TEXTS):
            self.open[-1].children.append(text)


class _Writer:
    """Writes elements as HTML, with ids that no other drawing of the page has."""

    def __init__(self, prefix: str, link: Callable[[str, int], str]) -> None:
        self.prefix = prefix
        self.link = link

    def html(self, element: Element) -> str:
        pairs = ((k, self.value(element, k, v)) for k, v in element.attributes.items())
        attributes = "".join(f' {key}="{escape(value)}"' for key, value in pairs)
        inner = "".join(
            escape(each, quote=False) if isinstance(each, str) else self.html(each)
            for each in element.children
        )
        head = f"<{element.tag}{attributes}"
        return f"{head}>{inner}</{element.tag}>" if inner else f"{head}/>"

    def value(self, element: Element, key: str, value: str) -> str:
        if key == "id":
            return self.prefix + value
        if key in ("aria-labelledby", "aria-describedby"):
            return " ".join(self.prefix + each for each in value.split())
        if key == "href":
            if element.tag == "a":
                return self.link(value, element.line)
            return f"#{self.prefix}{value[1:]}"
        return REFERENCE.sub(lambda found: f"url(#{self.prefix}{found[2]})", value)
