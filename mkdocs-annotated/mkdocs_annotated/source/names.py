r"""Find every name in a Python file, its columns, and the scope that binds it.

# Names in code

Links and symbols are attached to names. The scope distinguishes a class from a local variable of
the same name.

The syntax tree says what a name is, but counts bytes. The tokens count characters. A name is
reported only where a token of that spelling begins or ends at its position. Before Python 3.12 an
f-string is a single token, so names inside f-strings are missing there.
"""

from __future__ import annotations

import ast
import bisect
import sys
import tokenize
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from mkdocs_annotated.source.scan import source_tokens
from mkdocs_annotated.source.scopes import Scope, collect_bindings, dotted_name, qualified_name

UNRESOLVED = "?"


@dataclass(frozen=True)
class Name:
    r"""A name at one position of a file.

    * `line` counts from one; `column` and `end` count characters from zero
    * `text` is the name; `dotted` is the dotted name that ends with it, such as `self.weight` for
      `weight`. For an import it is the path, with its leading dots
    * `scope` is the qualified name of the class or function around it, empty for the module
    * `bound_in` is the label of the scope that binds the first part of `dotted`, such as `f` or
      `f.<lambda>`; `?` if this file does not bind it
    * `kind` is definition, parameter, variable, attribute, keyword or import
    * `stores` is true if the name is assigned here
    """

    line: int
    column: int
    end: int
    text: str
    dotted: str
    scope: str
    bound_in: str
    kind: str
    stores: bool = False


@dataclass(frozen=True)
class ModuleNames:
    """All names of a file in order, and its scopes by qualified name."""

    occurrences: tuple[Name, ...]
    scopes: dict[str, Scope]


def find_names(source: str, tree: ast.Module | None = None) -> ModuleNames:
    r"""Find the names of a module.

    * `source` is valid Python with `\n` as its only line break

    >>> [(name.text, name.kind) for name in find_names("x = norm(x)").occurrences]
    [('x', 'variable'), ('norm', 'variable'), ('x', 'variable')]
    """
    visitor = _NameVisitor(source)
    try:
        visitor.module(tree or ast.parse(source))
    except RecursionError:
        # An expression with thousands of terms: show the code without links.
        return ModuleNames((), {"": Scope("", "module", None)})
    ordered = sorted(visitor.occurrences, key=lambda name: (name.line, name.column))
    return ModuleNames(tuple(ordered), visitor.scopes)


class _NameTokens:
    """The name tokens of a file by their start and end."""

    def __init__(self, source: str) -> None:
        self.rows = source.split("\n")
        self.names = [token for token in source_tokens(source) if token.type == tokenize.NAME]
        self.order = [token.start for token in self.names]
        self.starts = {token.start: i for i, token in enumerate(self.names)}
        self.ends = {token.end: token for token in self.names}

    def column(self, line: int, offset: int) -> int:
        """Return the column of a byte offset of the syntax tree."""
        row = self.rows[line - 1]
        if row.isascii():
            return offset
        return len(row.encode("utf-8", "surrogatepass")[:offset].decode("utf-8", "surrogatepass"))

    def at(self, node: ast.AST) -> int | None:
        """Return the index of the name token at which a node begins, if there is one."""
        line, offset = node.lineno, node.col_offset  # type: ignore[attr-defined]
        return self.starts.get((line, self.column(line, offset)))

    def last(self, node: ast.AST) -> tokenize.TokenInfo | None:
        """Return the name token at which a node ends, if there is one."""
        line, offset = node.end_lineno, node.end_col_offset  # type: ignore[attr-defined]
        return self.ends.get((line, self.column(line, offset)))

    def inside(self, node: ast.AST) -> Iterator[tokenize.TokenInfo]:
        """Yield the name tokens of a node in order."""
        start = (node.lineno, self.column(node.lineno, node.col_offset))  # type: ignore[attr-defined]
        end = (node.end_lineno, self.column(node.end_lineno, node.end_col_offset))  # type: ignore[attr-defined]
        for token in self.names[bisect.bisect_left(self.order, start) :]:
            if token.end > end:
                return
            yield token


class _NameVisitor:
    """Walks down the syntax tree with the scope of each node."""

    def __init__(self, source: str) -> None:
        self.tokens = _NameTokens(source)
        self.occurrences: list[Name] = []
        self.scopes: dict[str, Scope] = {}

    def module(self, tree: ast.Module) -> None:
        scope = Scope("", "module", None)
        self.scopes[""] = scope
        self.body(tree.body, scope)

    def body(self, nodes: list[ast.stmt], scope: Scope) -> None:
        for node in nodes:
            collect_bindings(node, scope)
        for node in nodes:
            self.visit(node, scope)

    def add(
        self,
        token: tokenize.TokenInfo | None,
        text: str,
        scope: Scope,
        kind: str,
        *,
        dotted: str = "",
        stores: bool = False,
        bound_in: str | None = None,
    ) -> None:
        if token is None or unicodedata.normalize("NFKC", token.string) != text:
            return
        dotted = dotted or text
        if bound_in is None:
            binder = scope.lookup(dotted.partition(".")[0])
            bound_in = UNRESOLVED if binder is None else binder.label
        line, column = token.start
        self.occurrences.append(
            Name(line, column, token.end[1], text, dotted, scope.name, bound_in, kind, stores)
        )

    def start(self, node: ast.AST) -> tokenize.TokenInfo | None:
        index = self.tokens.at(node)
        return None if index is None else self.tokens.names[index]

    def visit(self, node: ast.AST, scope: Scope) -> None:
        handler = getattr(self, f"visit_{type(node).__name__}", None)
        if handler is not None:
            handler(node, scope)
        else:
            self.children(node, scope)

    def children(self, node: ast.AST, scope: Scope) -> None:
        for child in ast.iter_child_nodes(node):
            self.visit(child, scope)

    def visit_Name(self, node: ast.Name, scope: Scope) -> None:
        stores = not isinstance(node.ctx, ast.Load)
        self.add(self.start(node), node.id, scope, "variable", stores=stores)

    def visit_Attribute(self, node: ast.Attribute, scope: Scope) -> None:
        self.visit(node.value, scope)
        dotted = dotted_name(node)
        # `f(x).y` does not begin with a name.
        bound_in = None if dotted else UNRESOLVED
        self.add(
            self.tokens.last(node),
            node.attr,
            scope,
            "attribute",
            dotted=dotted or f"?.{node.attr}",
            stores=not isinstance(node.ctx, ast.Load),
            bound_in=bound_in,
        )

    def visit_JoinedStr(self, node: ast.JoinedStr, scope: Scope) -> None:
        # Before Python 3.12 the positions inside f-strings are wrong.
        if sys.version_info >= (3, 12):
            self.children(node, scope)

    def visit_keyword(self, node: ast.keyword, scope: Scope) -> None:
        if node.arg:
            self.add(self.start(node), node.arg, scope, "keyword", bound_in=UNRESOLVED)
        self.visit(node.value, scope)

    def visit_alias(self, node: ast.alias, scope: Scope, prefix: str = "") -> None:
        """`import a.b as c` reads `a` and `a.b` and binds `c`; without `as` it binds `a`."""
        inside = list(self.tokens.inside(node))
        parts = node.name.split(".")
        for i, (token, part) in enumerate(zip(inside, parts, strict=False)):
            dotted = prefix + ".".join(parts[: i + 1])
            binds = i == 0 and not node.asname
            self.add(token, part, scope, "import", dotted=dotted, stores=binds, bound_in=UNRESOLVED)
        if node.asname:
            self.add(inside[-1] if inside else None, node.asname, scope, "variable", stores=True)

    def visit_ImportFrom(self, node: ast.ImportFrom, scope: Scope) -> None:
        parts = node.module.split(".") if node.module else []
        inside = list(self.tokens.inside(node))[1:]
        dots = "." * node.level
        for i, (token, part) in enumerate(zip(inside, parts, strict=False)):
            dotted = dots + ".".join(parts[: i + 1])
            self.add(token, part, scope, "import", dotted=dotted, bound_in=UNRESOLVED)
        for alias in node.names:
            self.visit_alias(alias, scope, f"{dots}{node.module}." if parts else dots)

    def visit_ClassDef(self, node: ast.ClassDef, scope: Scope) -> None:
        self.definition(node, scope)
        for each in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(each, scope)
        outer = self.type_parameters(node, scope)
        bases = tuple(filter(None, map(dotted_name, node.bases)))
        inner = Scope(qualified_name(scope, node.name), "class", outer, bases=bases)
        inner.first_line, inner.last_line = node.lineno, node.end_lineno or node.lineno
        self.scopes.setdefault(inner.name, inner)
        self.body(node.body, inner)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope) -> None:
        self.definition(node, scope)
        for each in node.decorator_list:
            self.visit(each, scope)
        outer = self.type_parameters(node, scope)
        inner = Scope(qualified_name(scope, node.name), "function", outer)
        inner.first_line, inner.last_line = node.lineno, node.end_lineno or node.lineno
        static = any(dotted_name(each) == "staticmethod" for each in node.decorator_list)
        first = [*node.args.posonlyargs, *node.args.args][:1]
        if scope.kind == "class" and first and not static:
            inner.method_of, inner.self_name = scope.name, first[0].arg
        self.scopes.setdefault(inner.name, inner)
        self.parameters(node.args, outer, inner)
        if node.returns:
            self.visit(node.returns, outer)
        self.body(node.body, inner)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda, scope: Scope) -> None:
        inner = Scope(scope.name, "lambda", scope)
        self.parameters(node.args, scope, inner)
        collect_bindings(node.body, inner)
        self.visit(node.body, inner)

    def parameters(self, node: ast.arguments, outer: Scope, inner: Scope) -> None:
        """Bind parameters inside the function; look up their types and defaults outside."""
        every = [*node.posonlyargs, *node.args, *node.kwonlyargs]
        every += [each for each in (node.vararg, node.kwarg) if each]
        inner.bound.update(each.arg for each in every)
        inner.parameters = frozenset(each.arg for each in every)
        for each in every:
            self.add(self.start(each), each.arg, inner, "parameter", stores=True)
            if each.annotation:
                self.visit(each.annotation, outer)
        for default in (*node.defaults, *node.kw_defaults):
            if default is not None:
                self.visit(default, outer)

    def type_parameters(self, node: ast.stmt, scope: Scope) -> Scope:
        """Return a scope with the type parameters of a definition, or `scope` if it has none."""
        found = getattr(node, "type_params", ())
        if not found:
            return scope
        inner = Scope(scope.name, "lambda", scope, {each.name for each in found})
        for each in found:
            token = self.start(each)
            self.add(token, each.name, inner, "variable", stores=True)
            self.children(each, inner)
        return inner

    def definition(
        self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope
    ) -> None:
        tokens = self.tokens.inside(node)
        word = next((token for token in tokens if token.string in ("def", "class")), None)
        if word is not None:
            self.add(next(tokens, None), node.name, scope, "definition", stores=True)

    def comprehension(self, node: ast.expr, scope: Scope) -> None:
        """The first iterable is evaluated outside, the rest inside."""
        inner = Scope(scope.name, "comprehension", scope)
        generators: list[ast.comprehension] = node.generators  # type: ignore[attr-defined]
        for each in generators:
            collect_bindings(each.target, inner)
        for i, each in enumerate(generators):
            self.visit(each.iter, inner if i else scope)
            self.visit(each.target, inner)
            for condition in each.ifs:
                self.visit(condition, inner)
        for part in ("key", "value", "elt"):
            if hasattr(node, part):
                self.visit(getattr(node, part), inner)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = comprehension

    def visit_ExceptHandler(self, node: ast.ExceptHandler, scope: Scope) -> None:
        if node.type:
            self.visit(node.type, scope)
        if node.name:
            tokens = self.tokens.inside(node)
            word = next((token for token in tokens if token.string == "as"), None)
            if word is not None:
                self.add(next(tokens, None), node.name, scope, "variable", stores=True)
        for each in node.body:
            self.visit(each, scope)

    def outside(self, node: ast.Global | ast.Nonlocal, scope: Scope) -> None:
        for token, name in zip(list(self.tokens.inside(node))[1:], node.names, strict=False):
            self.add(token, name, scope, "variable")

    visit_Global = visit_Nonlocal = outside

    def capture(self, node: ast.AST, scope: Scope) -> None:
        self.children(node, scope)
        name = getattr(node, "name", None)
        if name:
            self.add(self.tokens.last(node), name, scope, "variable", stores=True)

    visit_MatchAs = visit_MatchStar = capture

    def visit_MatchMapping(self, node: ast.MatchMapping, scope: Scope) -> None:
        self.children(node, scope)
        if node.rest:
            *_, token = self.tokens.inside(node)
            self.add(token, node.rest, scope, "variable", stores=True)
