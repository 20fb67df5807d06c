r"""Run an example and record the shapes of the arrays that each line of a module produces.

# Tracing shapes

An example is an ordinary script that calls a module with small inputs. It runs under a line tracer
that watches one file and records, for each line, the shapes of the arrays that the line assigned or
returned. Every object whose `shape` is a tuple counts as an array, of any library.

Only the command `mkdocs-annotated trace` runs user code. A build reads the [stored](shapes.py)
result.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import os
import runpy
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any

from mkdocs_annotated.beside.sizes import SizeNames
from mkdocs_annotated.errors import SourceError

RETURNED = "->"
# Code that runs in its own frame inside a statement; its variables are not those of the statement.
NESTED_CODE = frozenset(("<lambda>", "<genexpr>", "<listcomp>", "<setcomp>", "<dictcomp>"))
SUSPENDS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR

ArrayShape = tuple[object, ...]
# By line and name, the distinct shapes in the order in which they were recorded.
ShapesByLine = dict[int, dict[str, list[tuple[ArrayShape, ...]]]]


@dataclass(frozen=True)
class TracedStatement:
    r"""A statement, or the header of a compound statement, and the targets that it assigns.

    * `line` is its last line, where its note is shown
    * `targets` are the names and attributes that it assigns
    * `body` are the lines of the body of a loop or `with`; the targets are bound only when one of
      these lines runs next
    * `returns` is true for a `return` with a value, `yields` if it contains a `yield`, `suspends`
      if it may suspend its function
    """

    line: int
    targets: tuple[ast.expr, ...] = ()
    body: range | None = None
    returns: bool = False
    yields: bool = False
    suspends: bool = False

    def __or__(self, other: TracedStatement) -> TracedStatement:
        """Join two statements on one line."""
        return TracedStatement(
            max(self.line, other.line),
            self.targets + other.targets,
            None,
            self.returns or other.returns,
            self.yields or other.yields,
            self.suspends or other.suspends,
        )


def statements(source: str) -> dict[int, TracedStatement]:
    """Return the statement that each line belongs to."""
    found: dict[int, TracedStatement] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt):
            statement = _statement(node)
            if statement:
                for line in range(node.lineno, statement.line + 1):
                    found[line] = found[line] | statement if line in found else statement
    return found


def _statement(node: ast.stmt) -> TracedStatement | None:
    own: list[ast.expr]
    targets: list[ast.expr | None]
    body: list[ast.stmt] = []
    if isinstance(node, (ast.For, ast.AsyncFor)):
        own, targets, body = [node.target, node.iter], [node.target], node.body
    elif isinstance(node, (ast.With, ast.AsyncWith)):
        targets = [item.optional_vars for item in node.items]
        own, body = [item.context_expr for item in node.items], node.body
        own += [target for target in targets if target]
    elif isinstance(node, (ast.If, ast.While)):
        own, targets = [node.test], []
    elif hasattr(node, "body") or hasattr(node, "cases"):
        return None
    else:
        own = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
        targets = [*node.targets] if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AugAssign) or (isinstance(node, ast.AnnAssign) and node.value):
            targets = [node.target]
    header = bool(body) or isinstance(node, (ast.If, ast.While))
    last = max(each.end_lineno or each.lineno for each in own) if header else node.end_lineno
    line = last or node.lineno
    inner = [each for expression in own for each in _inside(expression)]
    targets += [each.target for each in inner if isinstance(each, ast.NamedExpr)]
    end = body[-1].end_lineno if body else None
    return TracedStatement(
        line,
        tuple(flat for target in targets if target for flat in _flat(target)),
        range(line + 1, end + 1) if end and end > line else None,
        isinstance(node, ast.Return) and node.value is not None,
        any(isinstance(each, ast.Yield) for each in inner),
        isinstance(node, (ast.AsyncFor, ast.AsyncWith))
        or any(isinstance(each, (ast.Yield, ast.YieldFrom, ast.Await)) for each in inner),
    )


def _inside(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of an expression that run in the frame of its statement."""
    yield node
    if not isinstance(node, ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from _inside(child)


def _flat(target: ast.expr) -> Iterator[ast.expr]:
    if isinstance(target, (ast.Tuple, ast.List)):
        for element in target.elts:
            yield from _flat(element)
    elif isinstance(target, ast.Starred):
        yield from _flat(target.value)
    elif isinstance(target, (ast.Name, ast.Attribute)):
        yield target


class ShapeTracer:
    r"""A context manager that records the shapes of one file, in the current thread.

    * `path` and `source` are the file and its text
    * `recorded` holds the shapes, `ran` whether any code of the file has run

    ```python
    with ShapeTracer(path, path.read_text()) as tracer:
        runpy.run_path("example.py")
    format_notes(tracer.recorded, SizeNames({"B": 5, "n": 7}))
    ```
    """

    def __init__(self, path: Path, source: str) -> None:
        self.path = os.path.realpath(path)
        self.statements = statements(source)
        self.recorded: ShapesByLine = {}
        self.ran = False
        self._watched: dict[str, bool] = {}  # by file name
        self._previous: Any = None

    def __enter__(self) -> ShapeTracer:
        self._previous = sys.gettrace()
        sys.settrace(self._enter_frame)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        sys.settrace(self._previous)

    def _enter_frame(self, frame: FrameType, event: str, arg: Any) -> _FrameTracer | None:
        if not self._is_watched(frame.f_code):
            return None
        self.ran = True
        return _FrameTracer(self, frame)

    def _is_watched(self, code: CodeType) -> bool:
        name = code.co_filename
        if name not in self._watched:
            self._watched[name] = os.path.realpath(name) == self.path
        return self._watched[name] and code.co_name not in NESTED_CODE

    def record(self, line: int, name: str, value: object) -> None:
        """Record the shape of a value, unless it is no array or the shape is already known."""
        shapes = _shapes(value)
        if shapes:
            known = self.recorded.setdefault(line, {}).setdefault(name, [])
            if shapes not in known:
                known.append(shapes)


class _FrameTracer:
    """The local trace function of one frame.

    It belongs to its frame and is freed with it. A table keyed by `id(frame)` would confuse frames,
    because a new frame often gets the address of an old one.
    """

    def __init__(self, tracer: ShapeTracer, frame: FrameType) -> None:
        self.tracer = tracer
        # A generator resumes inside the statement that suspended it.
        resumes = frame.f_code.co_flags & SUSPENDS
        statement = tracer.statements.get(frame.f_lineno) if resumes else None
        suspended = statement if statement and statement.suspends else None
        self.pending = suspended  # the statement that is running
        self.returning = suspended if suspended and suspended.returns else None

    def __call__(self, frame: FrameType, event: str, arg: Any) -> _FrameTracer:
        if event == "line":
            statement = self.tracer.statements.get(frame.f_lineno)
            # A statement of several lines gets several line events.
            if statement is not self.pending or statement is None:
                self.record_targets(frame, frame.f_lineno)
            self.pending = statement
            if statement and statement.returns:
                self.returning = statement
        elif event == "exception":
            # An exception prevents the assignment or return. A `StopIteration` in an `await` does
            # not: some versions of Python report the awaited result as one.
            if not (self.pending and self.pending.suspends and arg[0] is StopIteration):
                self.pending = self.returning = None
        elif event == "return":
            pending = self.pending
            if self.returning:
                self.tracer.record(self.returning.line, RETURNED, arg)
            elif pending and pending.yields:
                self.tracer.record(pending.line, RETURNED, arg)
            if not (pending and pending.suspends):
                self.record_targets(frame, 0)
        return self

    def record_targets(self, frame: FrameType, next_line: int) -> None:
        """Record the targets of the last statement, now that it has finished."""
        statement = self.pending
        if statement is None or (statement.body and next_line not in statement.body):
            return
        for target in statement.targets:
            with contextlib.suppress(Exception):
                self.tracer.record(statement.line, ast.unparse(target), _value(target, frame))


def _value(target: ast.expr, frame: FrameType) -> object:
    if isinstance(target, ast.Name):
        if target.id in frame.f_locals:
            return frame.f_locals[target.id]
        return frame.f_globals[target.id]
    if isinstance(target, ast.Attribute):
        return getattr(_value(target.value, frame), target.attr)
    raise LookupError(ast.unparse(target))


def _shapes(value: object) -> tuple[ArrayShape, ...]:
    """Return the shape of an array, the shapes of up to four arrays, or an empty tuple."""
    if isinstance(value, (tuple, list)) and 0 < len(value) <= 4:
        found = [shape for each in value for shape in [_shape(each)] if shape is not None]
        return tuple(found) if len(found) == len(value) else ()
    shape = _shape(value)
    return () if shape is None else (shape,)


def _shape(value: object) -> ArrayShape | None:
    try:
        shape = getattr(value, "shape", None)
    except Exception:
        return None
    return tuple(shape) if isinstance(shape, tuple) else None


def format_notes(recorded: ShapesByLine, sizes: SizeNames) -> dict[int, str]:
    """Return the text beside each line, such as `z1, z2 [B, n, d_ffn/2]`.

    Raises `ValueError` with the line if two expressions give the same size.
    """
    found = {}
    for line, names in sorted(recorded.items()):
        groups: dict[str, list[str]] = {}
        # The returned value comes last.
        for name, shapes in sorted(names.items(), key=lambda each: each[0] == RETURNED):
            try:
                text = _alternatives(shapes, sizes)
            except ValueError as error:
                raise ValueError(f"line {line}, {name}: {error}") from error
            groups.setdefault(text if name != RETURNED else f"{RETURNED} {text}", []).append(name)
        parts = [
            text if text.startswith(RETURNED) else f"{', '.join(group)} {text}"
            for text, group in groups.items()
        ]
        found[line] = "  ".join(parts)
    return found


def _alternatives(shapes: Sequence[tuple[ArrayShape, ...]], sizes: SizeNames) -> str:
    """Return the first two shapes of a line, and `...` if there are more."""
    texts = list(dict.fromkeys(", ".join(map(sizes.format_shape, each)) for each in shapes))
    return " or ".join([*texts[:2], *(["..."] if len(texts) > 2 else [])])


def trace_example(
    module: Path,
    source: str,
    display_path: str,
    example: Path,
    example_display_path: str,
    roots: Sequence[Path],
) -> dict[int, str]:
    r"""Run an example and return the notes of one module, by line.

    * `module` and `source` are the file of the module and its text
    * `example` is the script to run
    * `display_path` and `example_display_path` are the paths that error messages show
    * `roots` are the folders of the packages; they are imported anew, so that the result does not
      depend on earlier imports

    Raises `SourceError` with the line of the example if the example fails, has no valid `SIZES`,
    runs no code of the module, or if two expressions of its sizes give the same number.
    """
    tracer = ShapeTracer(module, source)
    with _imported_anew(roots):
        try:
            with tracer:
                names = runpy.run_path(str(example))
        except (Exception, SystemExit) as error:
            frames = traceback.extract_tb(error.__traceback__)
            lines = [frame.lineno for frame in frames if frame.filename == str(example)]
            line = (lines[-1] if lines else getattr(error, "lineno", 0)) or 1
            message = " ".join(str(error).split())
            raise SourceError(
                example_display_path, line, f"the example failed: {type(error).__name__}: {message}"
            ) from error
    if not tracer.ran:
        raise SourceError(example_display_path, 1, f"the example runs no code of {display_path}")
    sizes = names.get("SIZES")
    if not isinstance(sizes, dict):
        raise SourceError(
            example_display_path, 1, 'the example must define SIZES, such as {"B": 5, "n": 7}'
        )
    try:
        return format_notes(tracer.recorded, SizeNames(sizes))
    except ValueError as error:
        raise SourceError(example_display_path, _line_of_sizes(example), str(error)) from error


def _line_of_sizes(example: Path) -> int:
    lines = example.read_text(encoding="utf-8").split("\n")
    return next((n for n, line in enumerate(lines, start=1) if line.startswith("SIZES")), 1)


@contextlib.contextmanager
def _imported_anew(roots: Sequence[Path]) -> Iterator[None]:
    """Import the packages of `roots` anew, and restore the old modules on exit."""
    packages = {root.name for root in roots}
    replaced = {
        name: module for name, module in sys.modules.items() if name.partition(".")[0] in packages
    }
    path, bytecode = sys.path[:], sys.dont_write_bytecode
    for name in replaced:
        del sys.modules[name]
    sys.path[:0] = [str(root.parent) for root in roots]
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
            del sys.modules[name]
        sys.modules.update(replaced)
        sys.path[:], sys.dont_write_bytecode = path, bytecode
