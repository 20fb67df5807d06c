r"""
# What of a paper is here, and what is not

A map in YAML lists the numbered equations, the pseudo-code, the claims and the tables of a paper,
each with the code that implements it and the tests that check it. Names that do not exist are
mistakes with their line, so the map cannot promise what has since been renamed; what is missing
is said with the reason. The page is ordinary Markdown, made from the map.

```yaml
title: Coverage of the paper
summary: Text above the table.
entries:
  - id: Eq. 2
    kind: equation              # equation, pseudo-code, claim, table
    where: section 2.1
    says: $f_{W,b}(Z) = WZ + b$
    status: reproduced          # reproduced, implemented, not reproduced
    code: [package/gate.py#Gate.forward]
    tests: [tests/test_gate.py::test_equals_the_loop]
    why: what a reader should know; required where nothing is reproduced
```

*Reproduced* needs code and a test, *implemented* needs code.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.source.scan import read_source

KINDS = {
    "equation": "Equations",
    "pseudo-code": "Pseudo-code",
    "claim": "Claims",
    "table": "Tables",
}
STATUSES = ("reproduced", "implemented", "not reproduced")
TEXTS = ("id", "kind", "where", "says", "status", "why")
LISTS = ("code", "tests")
REQUIRED = ("id", "kind", "where", "says", "status")


@dataclass(frozen=True)
class Text:
    """A value of the map, and the line of the file it begins on."""

    text: str
    line: int


@dataclass(frozen=True)
class Entry:
    """One thing that the paper says; `line` is where the map speaks of it."""

    line: int
    texts: Mapping[str, Text]
    code: tuple[Text, ...] = ()
    tests: tuple[Text, ...] = ()

    def __getitem__(self, key: str) -> str:
        return self.texts[key].text if key in self.texts else ""

    @property
    def anchor(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self["id"].lower()).strip("-")


@dataclass(frozen=True)
class Coverage:
    path: str
    title: str
    summary: Text
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Rendered:
    """Markdown, and for each of its lines the line of the map behind it."""

    markdown: str
    lines: tuple[int, ...]


@dataclass
class _Reader:
    path: str
    problems: list[SourceError] = field(default_factory=list)

    def report(self, line: int, message: str) -> None:
        self.problems.append(SourceError(self.path, line, message))


def load(text: str, path: str) -> tuple[Coverage, list[SourceError]]:
    """Reads a map; all its mistakes at once, none of them fatal to the rest."""
    reader = _Reader(path)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reader.report(mark.line + 1 if mark else 1, "not YAML")
        root = None
    head: dict[str, yaml.Node] = {}
    if isinstance(root, yaml.MappingNode):
        head = {key.value: value for key, value in root.value}
    elif not reader.problems:
        reader.report(1, "the map must be `key: value` lines with a list of `entries`")
    for key, node in head.items():
        if key not in ("title", "summary", "entries"):
            reader.report(_line(node), f"unknown key {key!r}; known are title, summary, entries")
    listed = head.get("entries")
    nodes = listed.value if isinstance(listed, yaml.SequenceNode) else []
    if head and not nodes:
        reader.report(1, "there is no list of `entries`")
    entries = tuple(_entry(reader, node) for node in nodes)
    seen: dict[str, Entry] = {}
    for entry in entries:
        other = seen.setdefault(entry.anchor, entry)
        if other is not entry and entry["id"]:
            reader.report(entry.line, f"the id {entry['id']!r} is that of line {other.line}")
    title = _text(reader, "title", head["title"]).text if "title" in head else "Coverage"
    summary = _text(reader, "summary", head["summary"]) if "summary" in head else Text("", 1)
    return Coverage(path, title, summary, entries), reader.problems


def check(
    coverage: Coverage, names: Callable[[str], frozenset[str] | None], base: Path
) -> Iterator[SourceError]:
    """
    Anchors and tests that do not exist.

    * `names` gives the qualified names of a source file that has a page, or `None`
    * `base` is the folder that the paths of tests start from
    """
    tests: dict[str, frozenset[str] | None] = {}
    for entry in coverage.entries:
        for each in entry.code:
            path, _, name = each.text.partition("#")
            known = names(path)
            if known is None:
                yield SourceError(coverage.path, each.line, f"{path} has no page")
            elif name and name not in known:
                yield SourceError(coverage.path, each.line, f"{path} defines no {name!r}")
        for each in entry.tests:
            path, _, name = each.text.partition("::")
            if path not in tests:
                tests[path] = find_tests(base / path, path)
            found = tests[path]
            if found is None:
                yield SourceError(coverage.path, each.line, f"there is no test file {path}")
            elif name not in found:
                yield SourceError(coverage.path, each.line, f"{path} has no test {name!r}")


def find_tests(path: Path, shown: str) -> frozenset[str] | None:
    """The tests in a file, those of classes as `TestGate::test_name`; `None` without a file."""
    if not path.is_file():
        return None
    try:
        tree = ast.parse(read_source(path, shown))
    except (SourceError, SyntaxError, ValueError):
        return frozenset()
    return frozenset(_tests(tree.body, ""))


def render(
    coverage: Coverage, page: Callable[[str], str], test_url: Callable[[str], str] = lambda _: ""
) -> Rendered:
    """
    The page of a map.

    * `page` turns `package/gate.py#Gate` into the address of its page
    * `test_url` turns `tests/test_gate.py` into an address, if it has one
    """
    out: list[tuple[str, int]] = [(f"# {coverage.title}", 1), ("", 1)]
    out += _lines(coverage.summary)
    kinds = [kind for kind in KINDS if any(entry["kind"] == kind for entry in coverage.entries)]
    out += [("", 1), *((row, 1) for row in _counts(coverage, kinds))]
    for kind in kinds:
        out += [("", 1), (f"## {KINDS[kind]}", 1)]
        for entry in coverage.entries:
            if entry["kind"] == kind:
                out += _section(entry, page, test_url)
    return Rendered("\n".join(text for text, _ in out) + "\n", tuple(line for _, line in out))


def _counts(coverage: Coverage, kinds: list[str]) -> Iterator[str]:
    yield "| Part | " + " | ".join(status.capitalize() for status in STATUSES) + " |"
    yield "| --- |" + " --: |" * len(STATUSES)
    for kind in (*kinds, ""):
        of_kind = [entry["status"] for entry in coverage.entries if kind in ("", entry["kind"])]
        label = KINDS[kind] if kind else "All"
        counts = " | ".join(str(of_kind.count(status)) for status in STATUSES)
        yield f"| {label} | {counts} |"


def _section(
    entry: Entry, page: Callable[[str], str], test_url: Callable[[str], str]
) -> Iterator[tuple[str, int]]:
    n = entry.line
    yield "", n
    yield f"### {entry['id']} {{ #{entry.anchor} }}", n
    yield "", n
    yield f"**{entry['status'].capitalize()}** - {entry['where'].rstrip('.')}", n
    yield "", n
    yield from _lines(entry.texts["says"])
    if entry["why"]:
        yield "", n
        yield from _lines(entry.texts["why"])
    yield "", n
    for each in entry.code:
        path, _, name = each.text.partition("#")
        yield f"* Code: [`{name or path}`]({page(each.text)})", each.line
    for each in entry.tests:
        path, _, name = each.text.partition("::")
        url = test_url(path)
        # A test's name is a sentence.
        words = name.rpartition("::")[2].removeprefix("test_").replace("_", " ")
        shown = f"[`{path}`]({url})" if url else f"`{path}`"
        yield f"* Test: {words}, in {shown}", each.line


def _lines(value: Text) -> list[tuple[str, int]]:
    return [(text, value.line + i) for i, text in enumerate(value.text.strip("\n").split("\n"))]


def _entry(reader: _Reader, node: yaml.Node) -> Entry:
    line = _line(node)
    if not isinstance(node, yaml.MappingNode):
        reader.report(line, "an entry must be `key: value` lines")
        return Entry(line, {"says": Text("", line)})
    texts: dict[str, Text] = {"says": Text("", line)}
    lists: dict[str, tuple[Text, ...]] = {}
    for key_node, value in node.value:
        key = key_node.value
        if key in TEXTS:
            texts[key] = _text(reader, key, value)
        elif key in LISTS:
            lists[key] = _list(reader, key, value)
        else:
            known = ", ".join((*TEXTS, *LISTS))
            reader.report(_line(key_node), f"unknown key {key!r}; known are {known}")
    entry = Entry(line, texts, lists.get("code", ()), lists.get("tests", ()))
    _check_entry(reader, entry)
    return entry


def _check_entry(reader: _Reader, entry: Entry) -> None:
    for key in REQUIRED:
        if not entry[key].strip():
            reader.report(entry.line, f"this entry has no `{key}`")
    for key, known in (("kind", tuple(KINDS)), ("status", STATUSES)):
        value = entry.texts.get(key)
        if value and value.text not in known:
            reader.report(value.line, f"{key} must be one of {', '.join(known)}, not {value.text}")
    status = entry["status"]
    if status in ("reproduced", "implemented") and not entry.code:
        reader.report(entry.line, f"{entry['id']} is {status}, but names no code")
    if status == "reproduced" and not entry.tests:
        reader.report(entry.line, f"{entry['id']} is reproduced, but names no test")
    if status == "not reproduced" and not entry["why"]:
        reader.report(entry.line, f"{entry['id']} is not reproduced, but says no `why`")


def _text(reader: _Reader, key: str, node: yaml.Node) -> Text:
    if not isinstance(node, yaml.ScalarNode):
        reader.report(_line(node), f"`{key}` must be text")
        return Text("", _line(node))
    # The text of a block begins on the line after its `|`.
    return Text(node.value, _line(node) + (node.style in ("|", ">")))


def _list(reader: _Reader, key: str, node: yaml.Node) -> tuple[Text, ...]:
    if not isinstance(node, yaml.SequenceNode):
        reader.report(_line(node), f"`{key}` must be a list")
        return ()
    return tuple(_text(reader, key, each) for each in node.value)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _tests(body: list[ast.stmt], outer: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if node.name.startswith("test"):
                yield outer + node.name
        elif isinstance(node, ast.ClassDef):
            yield from _tests(node.body, f"{outer}{node.name}::")
