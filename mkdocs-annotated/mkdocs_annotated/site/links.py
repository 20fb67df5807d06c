r"""
# Where names are defined

An index over all modules of a site. A name is followed the way Python would: through the module's
own imports, through what a package's `__init__` hands on, to members of a class and of its bases.
What ends outside of the site may have an address in the inventory. What cannot be known without
running the code, such as the class of a local variable, has no link.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.source.names import ModuleNames, Name
from mkdocs_annotated.source.scopes import Scope
from mkdocs_annotated.source.yaml_file import compose

DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
DEPTH = 20  # imports in a circle end somewhere


@dataclass(frozen=True)
class Target:
    """A place on the site, or the `url` of another one."""

    uri: str = ""
    fragment: str = ""
    url: str = ""


@dataclass(frozen=True)
class Place:
    """Where a name is defined; `open` means that prose may name it without its class."""

    fragment: str
    open: bool


@dataclass(frozen=True)
class Entry:
    r"""
    One module.

    * `name` is its dotted name, `uri` its page, `path` its file as the author would type it
    * `anchors` are the qualified names that the page has an address for
    """

    name: str
    uri: str
    names: ModuleNames
    anchors: frozenset[str]
    package: bool = False
    path: str = ""
    places: dict[str, Place] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind in ("definition", "variable", "attribute"):
            for name in self.names.occurrences:
                if name.kind == kind and name.stores:
                    qualified = self.defines(name)
                    if qualified:
                        fragment = qualified if qualified in self.anchors else f"L{name.line}"
                        free = kind == "definition" or (kind == "variable" and not name.scope)
                        self.places.setdefault(qualified, Place(fragment, free))

    def defines(self, name: Name) -> str:
        """The qualified name that a binding makes reachable from outside, if any."""
        scope = self.names.scopes.get(name.scope)
        if scope is None:
            return ""
        if name.kind == "attribute":
            mine = scope.self_name and name.dotted == f"{scope.self_name}.{name.text}"
            return f"{scope.method_of}.{name.text}" if mine and name.bound_in == scope.name else ""
        if name.bound_in != name.scope:
            return ""
        # The variables of a function are its own, the functions inside it have an address.
        if scope.kind == "function" and name.kind != "definition":
            return ""
        return f"{name.scope}.{name.text}" if name.scope else name.text

    def scope_at(self, line: int) -> Scope:
        """The innermost class or function around a line."""
        found = self.names.scopes[""]
        for scope in self.names.scopes.values():
            if scope.first_line <= line <= scope.last_line and scope.first_line >= found.first_line:
                found = scope
        return found

    def absolute(self, dotted: str) -> str:
        """A path of an import with its leading dots resolved, as seen from this module."""
        level = len(dotted) - len(dotted.lstrip("."))
        if not level:
            return dotted
        parts = self.name.split(".")
        keep = len(parts) - level + (1 if self.package else 0)
        return ".".join([*parts[: max(0, keep)], *filter(None, [dotted.lstrip(".")])])


class Index:
    def __init__(self, entries: Sequence[Entry], inventory: Mapping[str, str]) -> None:
        self.entries = {entry.name: entry for entry in entries}
        self.inventory = inventory
        self.owners: dict[str, list[Entry]] = {}
        for entry in entries:
            for qualified, place in entry.places.items():
                if place.open or "." in qualified:
                    self.owners.setdefault(qualified, []).append(entry)

    def absolute(self, dotted: str, depth: int = 0) -> Target | None:
        """What a full dotted name means, in the site or in the inventory."""
        parts = dotted.split(".")
        for n in range(len(parts), 0, -1):
            entry = self.entries.get(".".join(parts[:n]))
            if entry is not None:
                if n == len(parts):
                    return Target(entry.uri)
                return self.member(entry, parts[n:], depth + 1)
        url = self.inventory.get(dotted)
        return Target(url=url) if url else None

    def member(self, entry: Entry, parts: Sequence[str], depth: int = 0) -> Target | None:
        """What a dotted name means at the top level of a module."""
        if depth > DEPTH:
            return None
        place = entry.places.get(".".join(parts))
        top = entry.names.scopes[""]
        binding = top.imports.get(parts[0])
        if binding is not None:
            path = entry.absolute("." * binding.level + binding.path)
            return self.absolute(".".join([path, *parts[1:]]), depth + 1)
        if place is not None:
            return Target(entry.uri, place.fragment)
        if len(parts) > 1:
            return self.inherited(entry, ".".join(parts[:-1]), parts[-1], depth)
        return None

    def inherited(self, entry: Entry, owner: str, name: str, depth: int) -> Target | None:
        scope = entry.names.scopes.get(owner)
        for base in scope.bases if scope and scope.kind == "class" else ():
            # Only a base of the site has members here; those of torch are too many to list.
            found = self.member(entry, [*base.split("."), name], depth + 1)
            if found:
                return found
        return None

    def code(self, entry: Entry) -> Iterator[tuple[Name, Target]]:
        """
        The names of a module that lead somewhere else.

        An address outside of the site is given once in each class and function: it is long, and
        the third `Tensor` of a signature tells nobody anything new.
        """
        given: set[tuple[str, str]] = set()
        for name in entry.names.occurrences:
            target = self.of(entry, name)
            if target is None or target == Target(entry.uri):
                continue
            if target == Target(entry.uri, f"L{name.line}"):
                continue
            if target.url and (name.scope, target.url) in given:
                continue
            given.add((name.scope, target.url))
            yield name, target

    def of(self, entry: Entry, name: Name) -> Target | None:
        if name.kind in ("keyword", "parameter", "definition"):
            return None
        if name.kind == "import":
            return self.absolute(entry.absolute(name.dotted))
        if name.stores and name.kind == "variable":
            return None
        parts = name.dotted.split(".")
        scope = entry.names.scopes.get(name.bound_in)
        if scope is None:
            return None
        if name.bound_in == "":
            return self.member(entry, parts)
        if scope.kind == "function" and scope.self_name == parts[0] and len(parts) > 1:
            return self.member(entry, [*scope.method_of.split("."), *parts[1:]])
        binding = scope.imports.get(parts[0])
        if binding is not None:
            path = entry.absolute("." * binding.level + binding.path)
            return self.absolute(".".join([path, *parts[1:]]))
        return self.member(entry, [*scope.name.split("."), *parts])

    def prose(self, text: str, entry: Entry | None = None, within: str = "") -> Target | None:
        r"""
        What a name in backticks means: first in its class and module, then in the whole site.

        * `within` is the qualified name of the definition that the prose belongs to
        """
        called = text.endswith("()")
        text = text.removesuffix("()")
        if not DOTTED.fullmatch(text):
            return None
        if entry is not None:
            known, found = self.nearby(entry, within, text.split("."))
            if known:
                own = Target(entry.uri, within)
                return None if found in (own, Target(entry.uri)) else found
        found = self.absolute(text) if "." in text else None
        if found:
            return None if entry and found == Target(entry.uri) else found
        # `gmlp` or `train` on another page is more often a word than that one function.
        owners = self.owners.get(text, []) if called or not text.islower() or "_" in text else []
        if len(owners) != 1:
            return None
        return Target(owners[0].uri, owners[0].places[text].fragment)

    def nearby(self, entry: Entry, within: str, parts: Sequence[str]) -> tuple[bool, Target | None]:
        """True if the module knows the name, be it as an argument that stays plain."""
        scope: Scope | None = entry.names.scopes.get(within)
        while scope is not None and scope.kind != "module":
            first = entry.names.scopes.get(f"{scope.name}.__init__", scope)
            if parts[0] == (scope.self_name or first.self_name) and len(parts) > 1:
                return True, self.member(entry, [*first.method_of.split("."), *parts[1:]])
            if parts[0] in scope.parameters | first.parameters:
                return True, None
            qualified = ".".join([scope.name, *parts])
            if qualified in entry.places:
                place = entry.places[qualified]
                return True, Target(entry.uri, place.fragment) if place.open else None
            scope = scope.parent
        found = self.member(entry, parts)
        return found is not None, found


def read_inventory(path: Path, shown: str) -> dict[str, str]:
    """A YAML file of `dotted.name: address` lines, with the place of each mistake."""
    root = compose(path, shown, "inventory")
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise SourceError(shown, 1, "an inventory holds `dotted.name: address` lines")
    found: dict[str, str] = {}
    for key, value in root.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or not DOTTED.fullmatch(key.value):
            raise SourceError(shown, line, f"{key.value!r} is no dotted name")
        if not isinstance(value, yaml.ScalarNode) or not re.match(r"https?://\S+$", value.value):
            raise SourceError(shown, line, f"the address of {key.value} must begin with https://")
        if key.value in found:
            raise SourceError(shown, line, f"{key.value} stands here twice")
        found[key.value] = value.value
    return found
