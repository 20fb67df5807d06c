r"""
# Exhibits

What a real run made, placed beside the code that made it: a figure, a table or one value, each with
a caption and with the command and commit it came from. A YAML file lists them:

```yaml
- at: shapes/circle.py#Circle.corners
  figure: measured/area.svg
  alt: the area over the number of corners
  caption: The area nears $\pi r^2$.
  from: measured/settings.json
```

* `at` is a module and a name or a line in it, as in any link between files
* `figure` is a picture and needs `alt`; `table` is a CSV or Markdown file; `value` is a number in a
  JSON file, `result.json#validation.loss`. An exhibit is one of the three
* `from` is a JSON file with `environment.command` and `environment.commit`; or `command` and
  `commit` stand in the entry itself
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
from mkdocs_annotated.markdown.markup import MarkupExtension
from mkdocs_annotated.markdown.math import MathExtension
from mkdocs_annotated.source.parse import Module

KINDS = ("figure", "table", "value")
KEYS = frozenset((*KINDS, "at", "alt", "caption", "from", "command", "commit"))


@dataclass(frozen=True)
class Entry:
    """An entry as it stands in the file: texts, and the line of each key."""

    path: str
    line: int
    texts: dict[str, str]
    lines: dict[str, int]

    def fail(self, message: str, key: str = "") -> SourceError:
        return SourceError(self.path, self.lines.get(key, self.line), message)


@dataclass(frozen=True)
class Exhibit:
    r"""
    An exhibit that was found to be whole.

    * `module` is its module as the author names it, `row` the index of its row there
    * `picture` is the file of a figure; `body` the HTML of anything else
    * `caption` is HTML, command and commit included
    """

    module: str
    row: int
    caption: str
    picture: Path | None = None
    alt: str = ""
    size: tuple[int, int] | None = None
    body: str = ""

    def html(self, address: Callable[[Path], str]) -> str:
        """The figure element; `address` says where on the site a picture is."""
        body = self.body
        if self.picture:
            url, alt = escape(address(self.picture), quote=True), escape(self.alt, quote=True)
            size = f' width="{self.size[0]}" height="{self.size[1]}"' if self.size else ""
            image = f'<img src="{url}" alt="{alt}"{size} loading="lazy">'
            body = f'<a href="{url}">{image}</a>'
        return f'<figure class="exhibit">{body}<figcaption>{self.caption}</figcaption></figure>'


def load(path: Path, shown: str, base: Path, modules: Mapping[str, Module]) -> list[Exhibit]:
    r"""
    All exhibits of a file.

    * `base` is the folder that paths in the file start from
    * `modules` are the modules of the site, by their path from there

    Raises `SourceError` for a file that is not such a list, for a key that is missing, unknown or
    one too many, for files, anchors and values that do not exist, and for LaTeX that cannot be
    rendered.
    """
    return [_exhibit(entry, base, modules) for entry in _entries(path, shown)]


def _entries(path: Path, shown: str) -> list[Entry]:
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise SourceError(shown, 1, "is not UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise SourceError(shown, line, "is not YAML") from error
    if root is None:
        return []
    if not isinstance(root, yaml.SequenceNode):
        raise SourceError(shown, 1, "must be a list of exhibits")
    found = []
    for node in root.value:
        line = node.start_mark.line + 1
        if not isinstance(node, yaml.MappingNode):
            raise SourceError(shown, line, "an exhibit must be `key: value` lines")
        texts, lines = {}, {}
        for key, value in node.value:
            at = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.value not in KEYS:
                raise SourceError(shown, at, f"unknown key {getattr(key, 'value', '')!r}")
            if not isinstance(value, yaml.ScalarNode) or not value.value.strip():
                raise SourceError(shown, at, f"{key.value} must be a text")
            if key.value in texts:
                raise SourceError(shown, at, f"{key.value} is given twice")
            texts[key.value], lines[key.value] = value.value.strip(), at
        found.append(Entry(shown, line, texts, lines))
    return found


def _exhibit(entry: Entry, base: Path, modules: Mapping[str, Module]) -> Exhibit:
    for key in ("at", "caption"):
        if key not in entry.texts:
            raise entry.fail(f"an exhibit needs {key}")
    kinds = [kind for kind in KINDS if kind in entry.texts]
    if len(kinds) != 1:
        raise entry.fail(f"an exhibit needs one of {', '.join(KINDS)}")
    kind = kinds[0]
    name, row = _place(entry, modules)
    caption = _markdown(entry, entry.texts["caption"], "caption")
    caption = re.sub(r"\A<p>(.*)</p>\Z", r"\1", caption) if caption.count("<p>") == 1 else caption
    caption += _origin(entry, base)
    text = entry.texts[kind]
    if kind == "value":
        return Exhibit(name, row, caption, body=_value(entry, base, text))
    file = _file(entry, base, kind, text)
    if kind == "table":
        return Exhibit(name, row, caption, body=_table(entry, file))
    if "alt" not in entry.texts:
        raise entry.fail("a figure needs alt, what it shows in words", "figure")
    return Exhibit(name, row, caption, file, entry.texts["alt"], _size(file))


def _place(entry: Entry, modules: Mapping[str, Module]) -> tuple[str, int]:
    name, _, anchor = entry.texts["at"].partition("#")
    module = modules.get(name)
    if module is None:
        raise entry.fail(f"there is no module {name} among the sources", "at")
    for i, row in enumerate(module.rows):
        names = {each.name for each in row.anchors} | {f"L{each.number}" for each in row.code}
        if not anchor or anchor in names:
            return name, i
    raise entry.fail(f"{name} has no {anchor}", "at")


def _file(entry: Entry, base: Path, key: str, name: str) -> Path:
    path = (base / name).resolve()
    if not path.is_file():
        raise entry.fail(f"there is no file {name}", key)
    return path


def _json(entry: Entry, base: Path, key: str, name: str) -> Any:
    try:
        return json.loads(_file(entry, base, key, name).read_text(encoding="utf-8"))
    except ValueError as error:
        raise entry.fail(f"{name} is not JSON", key) from error


def _at(values: Any, keys: str) -> Any:
    """What stands at `validation.loss`, `None` if nothing does."""
    for key in keys.split("."):
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _origin(entry: Entry, base: Path) -> str:
    values = {key: entry.texts.get(key) for key in ("command", "commit")}
    name = entry.texts.get("from")
    record = _json(entry, base, "from", name) if name else None
    for key in values:
        if values[key] is None and name:
            values[key] = _at(record, f"environment.{key}")
            if not isinstance(values[key], str):
                raise entry.fail(f"{name} has no environment.{key}", "from")
        if not values[key]:
            raise entry.fail(f"an exhibit needs {key}, or from")
    command, commit = (escape(values[key] or "", quote=False) for key in ("command", "commit"))
    return f'<span class="origin"><code>{command}</code> at commit <code>{commit}</code></span>'


def _value(entry: Entry, base: Path, text: str) -> str:
    name, _, keys = text.partition("#")
    value = _at(_json(entry, base, "value", name), keys)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise entry.fail(f"{name} has no number at {keys or 'an empty key'}", "value")
    shown = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return f'<data value="{value}">{shown}</data>'


def _table(entry: Entry, file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise entry.fail(f"{file.name} is not UTF-8", "table") from error
    if file.suffix.lower() == ".md":
        return _markdown(entry, text, "table")
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if file.suffix.lower() != ".csv" or not rows:
        raise entry.fail(f"{file.name} must be CSV with a header, or Markdown", "table")
    out = ['<div class="scroll" tabindex="0"><table><thead>', _cells(rows[0], "th")]
    out += ["</thead><tbody>", *(_cells(row, "td") for row in rows[1:]), "</tbody></table></div>"]
    return "".join(out)


def _cells(row: list[str], tag: str) -> str:
    cells = "".join(f"<{tag}>{escape(cell, quote=False)}</{tag}>" for cell in row)
    return f"<tr>{cells}</tr>"


def _markdown(entry: Entry, text: str, key: str) -> str:
    context = RenderContext(entry.path, (entry.lines[key],), trusted=False)
    html = markdown.markdown(
        text, extensions=["tables", "sane_lists", MathExtension(context), MarkupExtension(context)]
    )
    if context.errors:
        raise context.errors[0]
    return html


def _size(path: Path) -> tuple[int, int] | None:
    """Width and height, so that a page does not jump when a picture arrives."""
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR" and len(head) >= 24:
        width, height = struct.unpack(">II", head[16:24])
        return width, height
    box = re.search(rb"<svg\b[^>]*\bviewBox=[\"']\S+\s+\S+\s+([\d.]+)\s+([\d.]+)[\"']", head)
    return (round(float(box[1])), round(float(box[2]))) if box else None
