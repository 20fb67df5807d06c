r"""
# Scopes

Which names a module, class, function, lambda or comprehension binds, by the rules of the language:
the body of a class is not seen by its methods, a comprehension keeps its variables, `global` and
`nonlocal` reach out.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True)
class ImportedName:
    r"""What an import binds: `c` to `a.b` for `import a.b as c`; `level` counts leading dots."""

    module: str
    name: str = ""
    level: int = 0

    @property
    def path(self) -> str:
        return ".".join(filter(None, (self.module, self.name)))


@dataclass
class Scope:
    """A module, class or function; lambdas and comprehensions share the name around them."""

    name: str
    kind: str
    parent: Scope | None
    bound: set[str] = field(default_factory=set)
    declared: dict[str, str] = field(default_factory=dict)  # global and nonlocal
    method_of: str = ""  # a method's class
    self_name: str = ""  # a method's first parameter
    bases: tuple[str, ...] = ()
    imports: dict[str, ImportedName] = field(default_factory=dict)
    parameters: frozenset[str] = frozenset()
    first_line: int = 0
    last_line: int = 0

    @property
    def label(self) -> str:
        named = self.kind in ("module", "class", "function")
        return self.name if named else f"{self.name}.<{self.kind}>"

    def lookup(self, name: str) -> Scope | None:
        """The scope that binds `name` as seen from here."""
        here: Scope | None = self
        seen_from_inside = False
        while here is not None:
            outside = here.declared.get(name)
            if outside == "global":
                return here.module_scope()
            hidden = seen_from_inside and here.kind == "class"
            if name in here.bound and not outside and not hidden:
                return here
            # A comprehension in a class body does not see the class either, as in Python.
            seen_from_inside = True
            here = here.parent
        return None

    def module_scope(self) -> Scope:
        here = self
        while here.parent is not None:
            here = here.parent
        return here


def collect_bindings(node: ast.AST, scope: Scope) -> None:
    """Notes the names that a node binds in `scope`, without entering other scopes."""
    if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        scope.bound.add(node.name)
        return
    if isinstance(node, COMPREHENSIONS):
        # Only `:=` reaches out of a comprehension.
        for each in ast.walk(node):
            if isinstance(each, ast.NamedExpr) and isinstance(each.target, ast.Name):
                scope.bound.add(each.target.id)
        return
    if isinstance(node, ast.Lambda):
        return
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        scope.bound.add(node.id)
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
        _bind_import(node, scope)
    elif isinstance(node, (ast.Global, ast.Nonlocal)):
        kind = "global" if isinstance(node, ast.Global) else "nonlocal"
        scope.declared.update((name, kind) for name in node.names)
    elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
        scope.bound.add(node.name)
    elif isinstance(node, ast.MatchMapping) and node.rest:
        scope.bound.add(node.rest)
    for child in ast.iter_child_nodes(node):
        collect_bindings(child, scope)


def _bind_import(node: ast.Import | ast.ImportFrom, scope: Scope) -> None:
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            what = ImportedName(node.module or "", alias.name, node.level)
            name = alias.asname or alias.name
        else:
            name = alias.asname or alias.name.partition(".")[0]
            what = ImportedName(alias.name if alias.asname else name)
        scope.bound.add(name)
        scope.imports[name] = what


def dotted_name(node: ast.expr) -> str:
    """`a.b.c` as text, empty if its head is no name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def qualified_name(scope: Scope, name: str) -> str:
    return f"{scope.name}.{name}" if scope.name else name
