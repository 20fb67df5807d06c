r"""Read the exhibits: figures, tables and values of real runs, shown beside their code.

# Exhibits

Each exhibit has a caption, and the command and the commit that produced it. A YAML file lists them:

```yaml
- at: shapes/circle.py#Circle.corners
  figure: measured/area.svg
  alt: the area over the number of corners
  caption: The area nears $\pi r^2$.
  from: measured/settings.json
```

* `at` is a module and a name or a line in it, written as in a link between files
* each exhibit is one of `figure`, a picture, which needs `alt`; `table`, a CSV or Markdown file; or
  `value`, a number in a JSON file, such as `result.json#validation.loss`
* `from` is a JSON file with `environment.command` and `environment.commit`; alternatively the entry
  gives `command` and `commit` itself
* a [drawing](../markdown/drawing.py) is a figure that needs only `at` and `figure`
"""

from __future__ import annotations

import csv
import io
import json
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import markdown
import yaml

from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.markdown.context import RenderContext
from mkdocs_annotated.markdown.drawing import Drawing, read_drawing
from mkdocs_annotated.markdown.markup import MarkupExtension
from mkdocs_annotated.markdown.math import MathExtension
from mkdocs_annotated.source.parse import Module
from mkdocs_annotated.source.yaml_file import line_of, read_yaml

KINDS = ("figure", "table", "value")
ORIGIN = frozenset(("from", "command", "commit"))
KEYS = frozenset((*KINDS, *ORIGIN, "at", "alt", "caption"))


@dataclass(frozen=True)
class ExhibitEntry:
    """An entry of the file: its texts, and the line of each key."""

    path: str
    line: int
    texts: dict[str, str]
    lines: dict[str, int]

    def error(self, message: str, key: str = "") -> SourceError:
        """Return an error at the line of `key`, or of the entry."""
        return SourceError(self.path, self.lines.get(key, self.line), message)


@dataclass(frozen=True)
class Exhibit:
    r"""A complete exhibit, ready to be placed on its page.

    * `module` is the path of its module, `row` the index of its row on the page
    * `caption` is HTML and includes command and commit
    * `picture` is the file of a figure, with its `alt` text and its `size` in pixels
    * `drawing` is a figure that becomes part of the page
    * `body` is the HTML of a table or a value
    """

    module: str
    row: int
    caption: str
    picture: Path | None = None
    alt: str = ""
    size: tuple[int, int] | None = None
    drawing: Drawing | None = None
    body: str = ""

    def html(self, address: Callable[[Path], str], draw: Callable[[Drawing], str]) -> str:
        """Return a `figure` element.

        * `address` returns the address of a picture, relative to the page
        * `draw` returns the HTML of a drawing on the page
        """
        body = draw(self.drawing) if self.drawing else self.body
        if self.picture:
            url, alt = escape(address(self.picture), quote=True), escape(self.alt, quote=True)
            size = f' width="{self.size[0]}" height="{self.size[1]}"' if self.size else ""
            image = f'<img src="{url}" alt="{alt}"{size} loading="lazy">'
            body = f'<a href="{url}">{image}</a>'
        caption = f"<figcaption>{self.caption}</figcaption>" if self.caption else ""
        return f'<figure class="exhibit">{body}{caption}</figure>'


def load_exhibits(
    path: Path, display_path: str, base: Path, modules: Mapping[str, Module]
) -> list[Exhibit]:
    r"""Read a file of exhibits.

    * `display_path` is the path that error messages show
    * `base` is the folder that the paths in the file are relative to
    * `modules` maps paths, relative to `base`, to the modules of the site

    Raises `SourceError` if the file cannot be read, is not UTF-8 or is not a YAML list of mappings;
    if an entry has a key that is unknown, repeated, empty or missing, or more than one kind; if a
    file, anchor or value does not exist; if a drawing is not valid; or if LaTeX cannot be rendered.
    """
    return [_exhibit(entry, base, modules) for entry in _entries(path, display_path)]


def _entries(path: Path, display_path: str) -> list[ExhibitEntry]:
    root = read_yaml(path, display_path, yaml.SequenceNode, "a list of exhibits")
    found = []
    for node in root.value if root else ():
        line = line_of(node)
        if not isinstance(node, yaml.MappingNode):
            raise SourceError(display_path, line, "an exhibit must be `key: value` lines")
        texts, lines = {}, {}
        for key, value in node.value:
            at = line_of(key)
            if not isinstance(key, yaml.ScalarNode) or key.value not in KEYS:
                raise SourceError(display_path, at, f"unknown key {getattr(key, 'value', '')!r}")
            if not isinstance(value, yaml.ScalarNode) or not value.value.strip():
                raise SourceError(display_path, at, f"{key.value} must be text and not empty")
            if key.value in texts:
                raise SourceError(display_path, at, f"{key.value} is given twice")
            texts[key.value], lines[key.value] = value.value.strip(), at
        found.append(ExhibitEntry(display_path, line, texts, lines))
    return found


def _exhibit(entry: ExhibitEntry, base: Path, modules: Mapping[str, Module]) -> Exhibit:
    if "at" not in entry.texts:
        raise entry.error("an exhibit needs at")
    kinds = [kind for kind in KINDS if kind in entry.texts]
    if len(kinds) != 1:
        raise entry.error(f"an exhibit needs one of {', '.join(KINDS)}")
    kind = kinds[0]
    name, row = _find_row(entry, modules)
    text = entry.texts[kind]
    if kind == "figure":
        file = _file(entry, base, kind, text)
        drawing = read_drawing(file, text)
        if drawing:
            if "alt" in entry.texts:
                raise entry.error("a drawing is described by its own <title>, not by alt", "alt")
            measured = not ORIGIN.isdisjoint(entry.texts)
            caption = _caption(entry) + (_origin(entry, base) if measured else "")
            return Exhibit(name, row, caption, drawing=drawing)
    if "caption" not in entry.texts:
        raise entry.error("an exhibit needs caption")
    caption = _caption(entry) + _origin(entry, base)
    if kind == "value":
        return Exhibit(name, row, caption, body=_value(entry, base, text))
    file = _file(entry, base, kind, text)
    if kind == "table":
        return Exhibit(name, row, caption, body=_table(entry, file))
    if "alt" not in entry.texts:
        raise entry.error("a figure needs alt, a text that describes it", "figure")
    return Exhibit(name, row, caption, file, entry.texts["alt"], _size(file))


def _caption(entry: ExhibitEntry) -> str:
    if "caption" not in entry.texts:
        return ""
    caption = _markdown(entry, entry.texts["caption"], "caption")
    return re.sub(r"\A<p>(.*)</p>\Z", r"\1", caption) if caption.count("<p>") == 1 else caption


def _find_row(entry: ExhibitEntry, modules: Mapping[str, Module]) -> tuple[str, int]:
    name, _, anchor = entry.texts["at"].partition("#")
    module = modules.get(name)
    if module is None:
        raise entry.error(f"no module {name} among the sources", "at")
    for i, row in enumerate(module.rows):
        names = {each.name for each in row.anchors} | {f"L{each.number}" for each in row.code}
        if not anchor or anchor in names:
            return name, i
    raise entry.error(f"{name} has no {anchor}", "at")


def _file(entry: ExhibitEntry, base: Path, key: str, name: str) -> Path:
    path = (base / name).resolve()
    if not path.is_file():
        raise entry.error(f"no file {name}", key)
    return path


def _json(entry: ExhibitEntry, base: Path, key: str, name: str) -> Any:
    try:
        return json.loads(_file(entry, base, key, name).read_text(encoding="utf-8"))
    except ValueError as error:
        raise entry.error(f"{name} is not valid JSON", key) from error


def _value_at(values: Any, keys: str) -> Any:
    """Return the value at a dotted key such as `validation.loss`, or `None`."""
    for key in keys.split("."):
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _origin(entry: ExhibitEntry, base: Path) -> str:
    values = {key: entry.texts.get(key) for key in ("command", "commit")}
    name = entry.texts.get("from")
    record = _json(entry, base, "from", name) if name else None
    for key in values:
        if values[key] is None and name:
            values[key] = _value_at(record, f"environment.{key}")
            if not isinstance(values[key], str):
                raise entry.error(f"{name} has no environment.{key}", "from")
        if not values[key]:
            raise entry.error(f"an exhibit needs {key} or from")
    command, commit = (escape(values[key] or "", quote=False) for key in ("command", "commit"))
    made = f"<code>{command}</code> at commit <code>{commit}</code>"
    return f'<details class="origin"><summary>How this was made</summary>{made}</details>'


def _value(entry: ExhibitEntry, base: Path, text: str) -> str:
    name, _, keys = text.partition("#")
    value = _value_at(_json(entry, base, "value", name), keys)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise entry.error(f"{name} has no number at {keys or 'an empty key'}", "value")
    rounded = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return f'<data value="{value}">{rounded}</data>'


def _table(entry: ExhibitEntry, file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise entry.error(f"{file.name} is not UTF-8", "table") from error
    if file.suffix.lower() == ".md":
        return _markdown(entry, text, "table")
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if file.suffix.lower() != ".csv" or not rows:
        raise entry.error(f"{file.name} must be CSV with a header, or Markdown", "table")
    out = ['<div class="scroll" tabindex="0"><table><thead>', _cells(rows[0], "th")]
    out += ["</thead><tbody>", *(_cells(row, "td") for row in rows[1:]), "</tbody></table></div>"]
    return "".join(out)


def _cells(row: list[str], tag: str) -> str:
    cells = "".join(f"<{tag}>{escape(cell, quote=False)}</{tag}>" for cell in row)
    return f"<tr>{cells}</tr>"


def _markdown(entry: ExhibitEntry, text: str, key: str) -> str:
    context = RenderContext(entry.path, (entry.lines[key],), trusted=False)
    html = markdown.markdown(
        text, extensions=["tables", "sane_lists", MathExtension(context), MarkupExtension(context)]
    )
    if context.errors:
        raise context.errors[0]
    return html


def _size(path: Path) -> tuple[int, int] | None:
    """Return width and height, so that the page does not jump when the picture loads."""
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR" and len(head) >= 24:
        width, height = struct.unpack(">II", head[16:24])
        return width, height
    box = re.search(rb"<svg\b[^>]*\bviewBox=[\"']\S+\s+\S+\s+([\d.]+)\s+([\d.]+)[\"']", head)
    return (round(float(box[1])), round(float(box[2]))) if box else None
