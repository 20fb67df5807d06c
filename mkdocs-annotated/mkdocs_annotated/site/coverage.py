r"""Read the coverage map of a paper and render its page.

# The coverage of a paper

A YAML file lists the numbered equations, the pseudo-code, the claims and the tables of a paper,
each with the code that implements it and the tests that check it. A name that does not exist is an
error with its line, so a renamed function cannot be forgotten in the map. The page is ordinary
Markdown, generated from the map.

```yaml
title: Coverage of the paper
summary: Text above the table.
sources:                        # optional: how a statement of the paper is known
  read: read in the paper itself
entries:
  - id: Eq. 2
    kind: equation              # equation, pseudo-code, claim, table
    where: section 2.1
    says: $f_{W,b}(Z) = WZ + b$
    source: read                # one or more of the sources above, with commas
    status: reproduced          # reproduced, implemented, not reproduced
    code: [package/gate.py#Gate.forward]
    tests: [tests/test_gate.py::test_equals_the_loop]
    why: what a reader should know; required if the status is `not reproduced`
```

*Reproduced* needs code and a test, *implemented* needs code, *not reproduced* needs a reason. Where
the map has sources, each entry names one. Any page can link to an entry: `docs/coverage.yml#eq-2`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.source.scan import read_source
from mkdocs_annotated.source.yaml_file import line_of, read_yaml

KINDS = {
    "equation": "Equations",
    "pseudo-code": "Pseudo-code",
    "claim": "Claims",
    "table": "Tables",
}
STATUSES = ("reproduced", "implemented", "not reproduced")
TEXTS = ("id", "kind", "where", "says", "source", "status", "why")
LISTS = ("code", "tests")
REQUIRED = ("id", "kind", "where", "says", "status")


@dataclass(frozen=True)
class LocatedText:
    """A text of the map and the line on which it begins."""

    text: str
    line: int


@dataclass(frozen=True)
class CoverageEntry:
    """One statement of the paper; `line` is the line of its entry in the map."""

    line: int
    texts: Mapping[str, LocatedText]
    code: tuple[LocatedText, ...] = ()
    tests: tuple[LocatedText, ...] = ()

    def __getitem__(self, key: str) -> str:
        return self.texts[key].text if key in self.texts else ""

    @property
    def anchor(self) -> str:
        return _slug(self["id"])

    @property
    def sources(self) -> list[str]:
        return [each.strip() for each in self["source"].split(",") if each.strip()]


@dataclass(frozen=True)
class CoverageMap:
    r"""The entries of a coverage map, with the title and the summary of its page.

    * `path` is the map, as error messages show it

    ```python
    coverage, errors = read_coverage(Path("docs/coverage.yml"), "docs/coverage.yml")
    page = render(coverage, lambda anchor: anchor)
    ```
    """

    path: str
    title: str
    summary: LocatedText
    entries: tuple[CoverageEntry, ...]
    sources: Mapping[str, LocatedText] = field(default_factory=dict)


@dataclass(frozen=True)
class CoveragePage:
    """The Markdown of the page, and for each of its lines the line of the map behind it."""

    markdown: str
    lines: tuple[int, ...]


def read_coverage(path: Path, display_path: str) -> tuple[CoverageMap, list[SourceError]]:
    """Read a map and return it with all mistakes in its entries.

    * `display_path` is the path that error messages show

    Raises `SourceError` if the file cannot be read, is not UTF-8 or is not a YAML mapping.
    """
    expected = "`key: value` lines with a list of `entries`"
    root = read_yaml(path, display_path, yaml.MappingNode, expected)
    return _MapReader(display_path).read(root.value if root else ())


def check(
    coverage: CoverageMap, names: Callable[[str], frozenset[str] | None], base: Path
) -> Iterator[SourceError]:
    """Yield an error for each code anchor and each test that does not exist.

    * `names` returns the qualified names that a source file defines, or `None` if it has no page
    * `base` is the folder that the paths of tests are relative to
    """
    tests: dict[str, frozenset[str] | None] = {}
    for entry in coverage.entries:
        for each in entry.code:
            path, _, name = each.text.partition("#")
            known = names(path)
            if known is None:
                yield SourceError(coverage.path, each.line, f"{path} has no page on the site")
            elif name and name not in known:
                yield SourceError(coverage.path, each.line, f"{path} defines no {name!r}")
        for each in entry.tests:
            path, _, name = each.text.partition("::")
            if path not in tests:
                tests[path] = find_tests(base / path, path)
            found = tests[path]
            if found is None:
                yield SourceError(coverage.path, each.line, f"no test file {path}")
            elif name not in found:
                yield SourceError(coverage.path, each.line, f"{path} has no test {name!r}")


def find_tests(path: Path, display_path: str) -> frozenset[str] | None:
    """Return the tests of a file, or `None` if there is no file.

    The name of a method is `TestGate::test_name`.
    """
    if not path.is_file():
        return None
    try:
        tree = ast.parse(read_source(path, display_path))
    except (SourceError, SyntaxError, ValueError):
        return frozenset()
    return frozenset(_tests(tree.body, ""))


def render(
    coverage: CoverageMap,
    code_url: Callable[[str], str],
    test_url: Callable[[str], str] = lambda _: "",
) -> CoveragePage:
    """Return the page of a map.

    * `code_url` turns `package/gate.py#Gate` into the address of its page
    * `test_url` turns `tests/test_gate.py` into a URL, or into an empty string if it has none
    """
    out: list[tuple[str, int]] = [(f"# {coverage.title}", 1), ("", 1)]
    out += _lines(coverage.summary)
    kinds = [kind for kind in KINDS if any(entry["kind"] == kind for entry in coverage.entries)]
    out += [("", 1), *((row, 1) for row in _counts(coverage, kinds))]
    if coverage.sources:
        out += [("", 1), ("## How each statement is known { #sources }", 1)]
    for name, meaning in coverage.sources.items():
        anchor = f"### {name.capitalize()} {{ #source-{_slug(name)} }}"
        out += [("", meaning.line), (anchor, meaning.line), ("", meaning.line), *_lines(meaning)]
    for kind in kinds:
        out += [("", 1), (f"## {KINDS[kind]}", 1)]
        for entry in coverage.entries:
            if entry["kind"] == kind:
                out += _section(entry, code_url, test_url)
    return CoveragePage("\n".join(text for text, _ in out) + "\n", tuple(line for _, line in out))


def _counts(coverage: CoverageMap, kinds: list[str]) -> Iterator[str]:
    yield "| Part | " + " | ".join(status.capitalize() for status in STATUSES) + " |"
    yield "| --- |" + " --: |" * len(STATUSES)
    for kind in (*kinds, ""):
        of_kind = [entry["status"] for entry in coverage.entries if kind in ("", entry["kind"])]
        label = KINDS[kind] if kind else "All"
        counts = " | ".join(str(of_kind.count(status)) for status in STATUSES)
        yield f"| {label} | {counts} |"


def _section(
    entry: CoverageEntry, code_url: Callable[[str], str], test_url: Callable[[str], str]
) -> Iterator[tuple[str, int]]:
    n = entry.line
    yield "", n
    yield f"### {entry['id']} {{ #{entry.anchor} }}", n
    yield "", n
    known = ", ".join(f"[{each}](#source-{_slug(each)})" for each in entry.sources)
    head = f"**{entry['status'].capitalize()}** - {entry['where'].rstrip('.')}"
    yield head + (f" - source: {known}" if known else ""), n
    yield "", n
    yield from _lines(entry.texts["says"])
    if entry["why"]:
        yield "", n
        yield from _lines(entry.texts["why"])
    yield "", n
    for each in entry.code:
        path, _, name = each.text.partition("#")
        yield f"* Code: [`{name or path}`]({code_url(each.text)})", each.line
    for each in entry.tests:
        path, _, name = each.text.partition("::")
        url = test_url(path)
        # The name of a test is a sentence with underscores.
        sentence = name.rpartition("::")[2].removeprefix("test_").replace("_", " ")
        file = f"[`{path}`]({url})" if url else f"`{path}`"
        yield f"* Test: {sentence}, in {file}", each.line


def _lines(value: LocatedText) -> list[tuple[str, int]]:
    return [(text, value.line + i) for i, text in enumerate(value.text.strip("\n").split("\n"))]


class _MapReader:
    """Turns the YAML nodes of a map into entries and collects the mistakes."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.errors: list[SourceError] = []

    def report(self, line: int, message: str) -> None:
        self.errors.append(SourceError(self.path, line, message))

    def read(
        self, pairs: Iterable[tuple[yaml.Node, yaml.Node]]
    ) -> tuple[CoverageMap, list[SourceError]]:
        head = {str(key.value): value for key, value in pairs}
        for key, node in head.items():
            if key not in ("title", "summary", "sources", "entries"):
                message = f"unknown key {key!r}; choose title, summary, sources or entries"
                self.report(line_of(node), message)
        listed = head.get("entries")
        nodes = listed.value if isinstance(listed, yaml.SequenceNode) else []
        if not nodes:
            self.report(1, "the map needs a list of `entries`")
        entries = tuple(map(self.entry, nodes))
        self.check_ids(entries)
        sources = self.sources(head.get("sources"))
        self.check_sources(entries, sources)
        title = self.text("title", head["title"]).text if "title" in head else "Coverage"
        summary = LocatedText("", 1)
        if "summary" in head:
            summary = self.text("summary", head["summary"])
        return CoverageMap(self.path, title, summary, entries, sources), self.errors

    def sources(self, node: yaml.Node | None) -> dict[str, LocatedText]:
        if node is None:
            return {}
        if not isinstance(node, yaml.MappingNode):
            self.report(line_of(node), "`sources` must be `key: value` lines")
            return {}
        return {str(key.value): self.text(str(key.value), value) for key, value in node.value}

    def check_sources(
        self, entries: tuple[CoverageEntry, ...], sources: Mapping[str, LocatedText]
    ) -> None:
        for entry in entries:
            if sources and not entry.sources:
                self.report(entry.line, f"{entry['id']} must name a source")
            for name in entry.sources:
                if name not in sources:
                    known = ", ".join(sources) or "none is defined"
                    message = f"source must be one of {known}, got {name!r}"
                    self.report(entry.texts["source"].line, message)

    def check_ids(self, entries: tuple[CoverageEntry, ...]) -> None:
        seen: dict[str, CoverageEntry] = {}
        for entry in entries:
            other = seen.setdefault(entry.anchor, entry)
            if other is not entry and entry["id"]:
                message = f"the id {entry['id']!r} is already used on line {other.line}"
                self.report(entry.line, message)

    def entry(self, node: yaml.Node) -> CoverageEntry:
        line = line_of(node)
        texts = {"says": LocatedText("", line)}
        if not isinstance(node, yaml.MappingNode):
            self.report(line, "an entry must be `key: value` lines")
            return CoverageEntry(line, texts)
        lists: dict[str, tuple[LocatedText, ...]] = {}
        for key_node, value in node.value:
            key = key_node.value
            if key in TEXTS:
                texts[key] = self.text(key, value)
            elif key in LISTS:
                lists[key] = self.text_list(key, value)
            else:
                known = ", ".join((*TEXTS, *LISTS))
                self.report(line_of(key_node), f"unknown key {key!r}; choose one of {known}")
        entry = CoverageEntry(line, texts, lists.get("code", ()), lists.get("tests", ()))
        self.check_entry(entry)
        return entry

    def check_entry(self, entry: CoverageEntry) -> None:
        for key in REQUIRED:
            if not entry[key].strip():
                self.report(entry.line, f"this entry has no `{key}`")
        for key, known in (("kind", tuple(KINDS)), ("status", STATUSES)):
            value = entry.texts.get(key)
            if value and value.text not in known:
                message = f"{key} must be one of {', '.join(known)}, got {value.text!r}"
                self.report(value.line, message)
        status, name = entry["status"], entry["id"]
        if status in ("reproduced", "implemented") and not entry.code:
            self.report(entry.line, f"{name} is {status}, but names no code")
        if status == "reproduced" and not entry.tests:
            self.report(entry.line, f"{name} is reproduced, but names no test")
        if status == "not reproduced" and not entry["why"]:
            self.report(entry.line, f"{name} is not reproduced, but gives no reason in `why`")

    def text(self, key: str, node: yaml.Node) -> LocatedText:
        if not isinstance(node, yaml.ScalarNode):
            self.report(line_of(node), f"`{key}` must be text")
            return LocatedText("", line_of(node))
        # The text of a block scalar begins on the line after its `|` or `>`.
        return LocatedText(node.value, line_of(node) + (node.style in ("|", ">")))

    def text_list(self, key: str, node: yaml.Node) -> tuple[LocatedText, ...]:
        if not isinstance(node, yaml.SequenceNode):
            self.report(line_of(node), f"`{key}` must be a list")
            return ()
        return tuple(self.text(key, each) for each in node.value)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _tests(body: list[ast.stmt], outer: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if node.name.startswith("test"):
                yield outer + node.name
        elif isinstance(node, ast.ClassDef):
            yield from _tests(node.body, f"{outer}{node.name}::")
