r"""Find the definition of each name in the code and the prose of a site.

# Links to definitions

`DefinitionIndex` holds the definitions of all modules. A name is resolved as Python would: through
the imports of its module, the re-exports of a package's `__init__`, and the members of a class and
of its bases. The inventory gives URLs for names of other projects. A name whose meaning is known
only when the code runs, such as an attribute of a local variable, gets no link.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.source.names import ModuleNames, Name, find_names
from mkdocs_annotated.source.parse import Module
from mkdocs_annotated.source.scopes import Scope
from mkdocs_annotated.source.yaml_file import line_of, read_yaml

DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
MAX_DEPTH = 20  # ends circular imports


@dataclass(frozen=True)
class LinkTarget:
    """A page of the site with a fragment on it, or the `url` of another site."""

    uri: str = ""
    fragment: str = ""
    url: str = ""


@dataclass(frozen=True)
class DefinitionAnchor:
    """The fragment of a definition; `unqualified` allows prose to omit its class."""

    fragment: str
    unqualified: bool


@dataclass(frozen=True)
class IndexedModule:
    r"""A module with its names and the definitions that other pages may link to.

    * `name` is its dotted name, `uri` its page, `path` its file as error messages show it
    * `anchors` are the qualified names that have an anchor on the page
    * `is_package` is true for an `__init__.py`
    """

    name: str
    uri: str
    names: ModuleNames
    anchors: frozenset[str]
    is_package: bool = False
    path: str = ""
    definitions: dict[str, DefinitionAnchor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind in ("definition", "variable", "attribute"):
            for name in self.names.occurrences:
                if name.kind == kind and name.stores:
                    qualified = self.qualified_name(name)
                    if qualified:
                        fragment = qualified if qualified in self.anchors else f"L{name.line}"
                        unqualified = kind == "definition" or (
                            kind == "variable" and not name.scope
                        )
                        self.definitions.setdefault(
                            qualified, DefinitionAnchor(fragment, unqualified)
                        )

    def qualified_name(self, name: Name) -> str:
        """Return the qualified name of a binding, or an empty string if it is local."""
        scope = self.names.scopes.get(name.scope)
        if scope is None:
            return ""
        if name.kind == "attribute":
            of_self = scope.self_name and name.dotted == f"{scope.self_name}.{name.text}"
            return (
                f"{scope.method_of}.{name.text}" if of_self and name.bound_in == scope.name else ""
            )
        if name.bound_in != name.scope:
            return ""
        # The variables of a function are local; the functions inside it have anchors.
        if scope.kind == "function" and name.kind != "definition":
            return ""
        return f"{name.scope}.{name.text}" if name.scope else name.text

    def scope_at(self, line: int) -> Scope:
        """Return the innermost class or function around a line."""
        found = self.names.scopes[""]
        for scope in self.names.scopes.values():
            if scope.first_line <= line <= scope.last_line and scope.first_line >= found.first_line:
                found = scope
        return found

    def absolute_name(self, dotted: str) -> str:
        """Return the absolute form of a name from an import, which may have leading dots."""
        level = len(dotted) - len(dotted.lstrip("."))
        if not level:
            return dotted
        parts = self.name.split(".")
        keep = len(parts) - level + (1 if self.is_package else 0)
        return ".".join([*parts[: max(0, keep)], *filter(None, [dotted.lstrip(".")])])


def index_module(module: Module, name: str, uri: str, path: str) -> IndexedModule:
    """Return the index entry of a parsed module; the arguments are those of `IndexedModule`."""
    anchors = frozenset(anchor.name for row in module.rows for anchor in row.anchors)
    is_package = path.rpartition("/")[2] == "__init__.py"
    return IndexedModule(name, uri, find_names(module.source), anchors, is_package, path)


class DefinitionIndex:
    r"""The definitions of all modules of a site.

    * `modules` are the modules of the site
    * `inventory` maps dotted names of other projects to URLs

    ```python
    index = DefinitionIndex([index_module(module, "gate", "gate.md", "gate.py")], {})
    index.resolve_prose("Gate.forward")  # LinkTarget(uri="gate.md", fragment="Gate.forward")
    ```
    """

    def __init__(self, modules: Sequence[IndexedModule], inventory: Mapping[str, str]) -> None:
        self.modules = {module.name: module for module in modules}
        self.inventory = inventory
        self.defining_modules: dict[str, list[IndexedModule]] = {}  # by qualified name
        for module in modules:
            for qualified, definition in module.definitions.items():
                if definition.unqualified or "." in qualified:
                    self.defining_modules.setdefault(qualified, []).append(module)

    def resolve(self, dotted: str, depth: int = 0) -> LinkTarget | None:
        """Resolve an absolute dotted name on the site, or else in the inventory."""
        parts = dotted.split(".")
        for n in range(len(parts), 0, -1):
            module = self.modules.get(".".join(parts[:n]))
            if module is not None:
                if n == len(parts):
                    return LinkTarget(module.uri)
                return self.resolve_global(module, parts[n:], depth + 1)
        url = self.inventory.get(dotted)
        return LinkTarget(url=url) if url else None

    def resolve_global(
        self, module: IndexedModule, parts: Sequence[str], depth: int = 0
    ) -> LinkTarget | None:
        """Resolve a dotted name in the global scope of a module."""
        if depth > MAX_DEPTH:
            return None
        binding = module.names.scopes[""].imports.get(parts[0])
        if binding is not None:
            path = module.absolute_name("." * binding.level + binding.path)
            return self.resolve(".".join([path, *parts[1:]]), depth + 1)
        definition = module.definitions.get(".".join(parts))
        if definition is not None:
            return LinkTarget(module.uri, definition.fragment)
        if len(parts) > 1:
            return self.resolve_inherited(module, ".".join(parts[:-1]), parts[-1], depth)
        return None

    def resolve_inherited(
        self, module: IndexedModule, owner: str, name: str, depth: int
    ) -> LinkTarget | None:
        """Resolve a member of the class `owner` in its base classes."""
        scope = module.names.scopes.get(owner)
        for base in scope.bases if scope and scope.kind == "class" else ():
            # Only bases on the site have members here; the inventory does not list inherited ones.
            found = self.resolve_global(module, [*base.split("."), name], depth + 1)
            if found:
                return found
        return None

    def code_links(self, module: IndexedModule) -> Iterator[tuple[Name, LinkTarget]]:
        """Yield the names in the code of a module that link to another place.

        Each external URL is linked once per class and function, because it is long and the third
        `Tensor` of a signature needs no link.
        """
        linked: set[tuple[str, str]] = set()
        for name in module.names.occurrences:
            target = self.resolve_name(module, name)
            if target is None or target == LinkTarget(module.uri):
                continue
            if target == LinkTarget(module.uri, f"L{name.line}"):
                continue
            if target.url and (name.scope, target.url) in linked:
                continue
            linked.add((name.scope, target.url))
            yield name, target

    def resolve_name(self, module: IndexedModule, name: Name) -> LinkTarget | None:
        """Resolve a name in the code of a module."""
        if name.kind in ("keyword", "parameter", "definition"):
            return None
        if name.kind == "import":
            return self.resolve(module.absolute_name(name.dotted))
        if name.stores and name.kind == "variable":
            return None
        parts = name.dotted.split(".")
        scope = module.names.scopes.get(name.bound_in)
        if scope is None:
            return None
        if name.bound_in == "":
            return self.resolve_global(module, parts)
        if scope.kind == "function" and scope.self_name == parts[0] and len(parts) > 1:
            return self.resolve_global(module, [*scope.method_of.split("."), *parts[1:]])
        binding = scope.imports.get(parts[0])
        if binding is not None:
            path = module.absolute_name("." * binding.level + binding.path)
            return self.resolve(".".join([path, *parts[1:]]))
        return self.resolve_global(module, [*scope.name.split("."), *parts])

    def resolve_prose(
        self, text: str, module: IndexedModule | None = None, within: str = ""
    ) -> LinkTarget | None:
        r"""Resolve a name in backticks: in its class and module, then on the whole site.

        * `module` is the module of the page, or `None` on an ordinary page
        * `within` is the qualified name of the definition that the prose describes
        """
        called = text.endswith("()")
        text = text.removesuffix("()")
        if not DOTTED.fullmatch(text):
            return None
        if module is not None:
            known, found = self.resolve_nearby(module, within, text.split("."))
            if known:
                own = LinkTarget(module.uri, within)
                return None if found in (own, LinkTarget(module.uri)) else found
        found = self.resolve(text) if "." in text else None
        if found:
            return None if module and found == LinkTarget(module.uri) else found
        # On another page, `gmlp` or `train` is usually a plain word, not a function.
        linked = called or not text.islower() or "_" in text
        candidates = self.defining_modules.get(text, []) if linked else []
        if len(candidates) != 1:
            return None
        return LinkTarget(candidates[0].uri, candidates[0].definitions[text].fragment)

    def resolve_nearby(
        self, module: IndexedModule, within: str, parts: Sequence[str]
    ) -> tuple[bool, LinkTarget | None]:
        """Resolve a name in the module, from the scope `within` outwards.

        Returns whether the module knows the name, and its target. An argument is known and has no
        target.
        """
        scope: Scope | None = module.names.scopes.get(within)
        while scope is not None and scope.kind != "module":
            first = module.names.scopes.get(f"{scope.name}.__init__", scope)
            if parts[0] == (scope.self_name or first.self_name) and len(parts) > 1:
                return True, self.resolve_global(module, [*first.method_of.split("."), *parts[1:]])
            if parts[0] in scope.parameters | first.parameters:
                return True, None
            definition = module.definitions.get(".".join([scope.name, *parts]))
            if definition is not None:
                target = LinkTarget(module.uri, definition.fragment)
                return True, target if definition.unqualified else None
            scope = scope.parent
        found = self.resolve_global(module, parts)
        return found is not None, found


def read_inventory(path: Path, display_path: str) -> dict[str, str]:
    """Read a YAML file of `dotted.name: URL` lines.

    * `display_path` is the path that error messages show

    Raises `SourceError` if the file cannot be read, is not UTF-8 or is not a YAML mapping, or if a
    line has a key that is no dotted name, a value that is no URL, or a name that is given twice.
    """
    root = read_yaml(path, display_path, yaml.MappingNode, "`dotted.name: URL` lines")
    found: dict[str, str] = {}
    for key, value in root.value if root else ():
        line = line_of(key)
        if not isinstance(key, yaml.ScalarNode) or not DOTTED.fullmatch(key.value):
            raise SourceError(display_path, line, f"{key.value!r} is not a dotted name")
        if not isinstance(value, yaml.ScalarNode) or not re.match(r"https?://\S+$", value.value):
            raise SourceError(
                display_path, line, f"the URL of {key.value} must begin with https:// or http://"
            )
        if key.value in found:
            raise SourceError(display_path, line, f"{key.value} is given twice")
        found[key.value] = value.value
    return found
