r"""Find which scope binds a name, by the rules of Python.

# Scopes

Modules, classes, functions, lambdas and comprehensions are scopes. Methods do not see the names of
their class body, comprehensions keep their variables, and `global` and `nonlocal` refer to outer
scopes.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True)
class ImportedName:
    """The target of an import: `a` and `b` for `from a import b`; `level` counts leading dots."""

    module: str
    name: str = ""
    level: int = 0

    @property
    def path(self) -> str:
        return ".".join(filter(None, (self.module, self.name)))


@dataclass
class Scope:
    r"""A module, class, function, lambda or comprehension.

    * `name` is the qualified name; a lambda or comprehension has that of the scope around it
    * `bound` are the names bound here, `declared` those declared `global` or `nonlocal`
    * `method_of` is the class of a method, and `self_name` its first parameter
    * `bases` are the dotted names of a class's bases
    * `imports` are the targets of the names that an import binds
    * `first_line` and `last_line` are those of a class or function

    >>> module = Scope("", "module", None, bound={"x"})
    >>> Scope("f", "function", module).lookup("x") is module
    True
    """

    name: str
    kind: str
    parent: Scope | None
    bound: set[str] = field(default_factory=set)
    declared: dict[str, str] = field(default_factory=dict)
    method_of: str = ""
    self_name: str = ""
    bases: tuple[str, ...] = ()
    imports: dict[str, ImportedName] = field(default_factory=dict)
    parameters: frozenset[str] = frozenset()
    first_line: int = 0
    last_line: int = 0

    @property
    def label(self) -> str:
        """The name, with `<lambda>` or `<comprehension>` after it where it is not unique."""
        named = self.kind in ("module", "class", "function")
        return self.name if named else f"{self.name}.<{self.kind}>"

    def lookup(self, name: str) -> Scope | None:
        """Return the scope that binds `name` as seen from here, or `None`."""
        scope: Scope | None = self
        from_inner_scope = False
        while scope is not None:
            declared = scope.declared.get(name)
            if declared == "global":
                return scope.module_scope()
            hidden = from_inner_scope and scope.kind == "class"
            if name in scope.bound and not declared and not hidden:
                return scope
            # Comprehensions in a class body do not see its names either.
            from_inner_scope = True
            scope = scope.parent
        return None

    def module_scope(self) -> Scope:
        """Return the scope of the module around this scope."""
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope


def collect_bindings(node: ast.AST, scope: Scope) -> None:
    """Add the names that a node binds in `scope`; do not enter inner scopes."""
    if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        scope.bound.add(node.name)
        return
    if isinstance(node, COMPREHENSIONS):
        # `:=` binds in the scope around a comprehension.
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
            target = ImportedName(node.module or "", alias.name, node.level)
            name = alias.asname or alias.name
        else:
            name = alias.asname or alias.name.partition(".")[0]
            target = ImportedName(alias.name if alias.asname else name)
        scope.bound.add(name)
        scope.imports[name] = target


def dotted_name(node: ast.expr) -> str:
    """Return `a.b.c` as text, or an empty string for another expression such as `f().b`."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def qualified_name(scope: Scope, name: str) -> str:
    """Return the qualified name of a definition in `scope`."""
    return f"{scope.name}.{name}" if scope.name else name
