r"""
# Shapes from a real run

An example is an ordinary script that calls a module with small inputs. It runs here under a line
tracer that looks at one file only and notes, for each line, the shapes of the arrays that the line
assigned or returned. Anything with a `shape` that is a tuple is an array, whatever made it.

This is the only part that runs the code of others, and only the command does so: a build reads
what the command [wrote](shapes.py).
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

from mkdocs_annotated.beside.sizes import Sizes
from mkdocs_annotated.errors import SourceError

RETURNED = "->"
# Frames of their own inside a statement; what they bind is not what the statement assigns.
INNER = frozenset(("<lambda>", "<genexpr>", "<listcomp>", "<setcomp>", "<dictcomp>"))
SUSPENDS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR

Shape = tuple[object, ...]
Seen = dict[int, dict[str, list[tuple[Shape, ...]]]]


@dataclass(frozen=True)
class Step:
    r"""
    One statement, or the header of a loop or `with`.

    * `line` is its last line, beside which its note stands
    * `targets` are the names and attributes it assigns
    * `body` are the lines behind a header: its targets are bound on the way into these only
    * `returns`, `yields` and `suspends` say how it may leave the function
    """

    line: int
    targets: tuple[ast.expr, ...] = ()
    body: range | None = None
    returns: bool = False
    yields: bool = False
    suspends: bool = False

    def __or__(self, other: Step) -> Step:
        """Two steps on one line."""
        return Step(
            max(self.line, other.line),
            self.targets + other.targets,
            None,
            self.returns or other.returns,
            self.yields or other.yields,
            self.suspends or other.suspends,
        )


def steps(source: str) -> dict[int, Step]:
    """The step that each line belongs to."""
    found: dict[int, Step] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt):
            step = _step(node)
            if step:
                first = node.lineno
                for line in range(first, step.line + 1):
                    found[line] = found[line] | step if line in found else step
    return found


def _step(node: ast.stmt) -> Step | None:
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
    return Step(
        line,
        tuple(flat for target in targets if target for flat in _flat(target)),
        range(line + 1, end + 1) if end and end > line else None,
        isinstance(node, ast.Return) and node.value is not None,
        any(isinstance(each, ast.Yield) for each in inner),
        isinstance(node, (ast.AsyncFor, ast.AsyncWith))
        or any(isinstance(each, (ast.Yield, ast.YieldFrom, ast.Await)) for each in inner),
    )


def _inside(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of an expression that run in the frame of its statement."""
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


class Tracer:
    r"""
    Watches the lines of one file while it is entered; other threads go unwatched.

    * `seen` holds the distinct shapes of each name by line, in the order they were met
    """

    def __init__(self, path: Path, source: str) -> None:
        self.path = os.path.realpath(path)
        self.steps = steps(source)
        self.seen: Seen = {}
        self.ran = False
        self._ours: dict[str, bool] = {}
        self._before: Any = None

    def __enter__(self) -> Tracer:
        self._before = sys.gettrace()
        sys.settrace(self._enter_frame)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        sys.settrace(self._before)

    def _enter_frame(self, frame: FrameType, event: str, arg: Any) -> _Activation | None:
        if not self._is_ours(frame.f_code):
            return None
        self.ran = True
        return _Activation(self, frame)

    def _is_ours(self, code: CodeType) -> bool:
        name = code.co_filename
        if name not in self._ours:
            self._ours[name] = os.path.realpath(name) == self.path
        return self._ours[name] and code.co_name not in INNER

    def note(self, line: int, name: str, value: object) -> None:
        shapes = _shapes(value)
        if shapes:
            known = self.seen.setdefault(line, {}).setdefault(name, [])
            if shapes not in known:
                known.append(shapes)


class _Activation:
    """
    What is known about one running function.

    It hangs on the frame itself and goes with it. A table by `id(frame)` would mix functions up,
    as a new frame often gets the address of the last one.
    """

    def __init__(self, tracer: Tracer, frame: FrameType) -> None:
        self.tracer = tracer
        # A generator comes back in the middle of the statement it left.
        step = tracer.steps.get(frame.f_lineno) if frame.f_code.co_flags & SUSPENDS else None
        self.pending = step if step and step.suspends else None
        self.returning = step if step and step.suspends and step.returns else None

    def __call__(self, frame: FrameType, event: str, arg: Any) -> _Activation:
        if event == "line":
            step = self.tracer.steps.get(frame.f_lineno)
            # A statement of several lines is visited more than once.
            if step is not self.pending or step is None:
                self.settle(frame, frame.f_lineno)
            self.pending = step
            if step and step.returns:
                self.returning = step
        elif event == "exception":
            # What was being assigned or returned has not been. Only what is waited for hands its
            # result over in a `StopIteration`, and some versions of Python report that.
            if not (self.pending and self.pending.suspends and arg[0] is StopIteration):
                self.pending = self.returning = None
        elif event == "return":
            pending = self.pending
            if self.returning:
                self.tracer.note(self.returning.line, RETURNED, arg)
            elif pending and pending.yields:
                self.tracer.note(pending.line, RETURNED, arg)
            if not (pending and pending.suspends):
                self.settle(frame, 0)
        return self

    def settle(self, frame: FrameType, following: int) -> None:
        """Notes what the last step assigned, now that it is over."""
        step = self.pending
        if step is None or (step.body and following not in step.body):
            return
        for target in step.targets:
            with contextlib.suppress(Exception):
                self.tracer.note(step.line, ast.unparse(target), _value(target, frame))


def _value(target: ast.expr, frame: FrameType) -> object:
    if isinstance(target, ast.Name):
        if target.id in frame.f_locals:
            return frame.f_locals[target.id]
        return frame.f_globals[target.id]
    if isinstance(target, ast.Attribute):
        return getattr(_value(target.value, frame), target.attr)
    raise LookupError(ast.unparse(target))


def _shapes(value: object) -> tuple[Shape, ...]:
    """The shape of an array, the shapes of a few of them, or nothing."""
    if isinstance(value, (tuple, list)) and 0 < len(value) <= 4:
        found = [shape for each in value for shape in [_shape(each)] if shape is not None]
        return tuple(found) if len(found) == len(value) else ()
    shape = _shape(value)
    return () if shape is None else (shape,)


def _shape(value: object) -> Shape | None:
    try:
        shape = getattr(value, "shape", None)
    except Exception:
        return None
    return tuple(shape) if isinstance(shape, tuple) else None


def notes(seen: Seen, sizes: Sizes) -> dict[int, str]:
    """
    The text beside each line, such as `z1, z2 [B, n, d_ffn/2]`.

    Raises `ValueError` for a size that reads in two ways, with the line.
    """
    found = {}
    for line, names in sorted(seen.items()):
        groups: dict[str, list[str]] = {}
        # What is returned stands by itself, behind what is assigned.
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


def _alternatives(shapes: Sequence[tuple[Shape, ...]], sizes: Sizes) -> str:
    """Two of the shapes that a line made; more would be a list and no note."""
    texts = list(dict.fromkeys(", ".join(map(sizes.shape, each)) for each in shapes))
    return " or ".join([*texts[:2], *(["..."] if len(texts) > 2 else [])])


def run(
    module: Path, source: str, shown: str, example: Path, example_shown: str, roots: Sequence[Path]
) -> dict[int, str]:
    r"""
    Runs an example and returns the notes of one module.

    * `roots` are the folders of packages; they are imported afresh, so that the result does not
      depend on what ran before

    Raises `SourceError`, at the line of the example, for an example that fails, that has no proper
    `SIZES`, that runs nothing of the module, or whose sizes read in two ways.
    """
    tracer = Tracer(module, source)
    with _fresh(roots):
        try:
            with tracer:
                names = runpy.run_path(str(example))
        except (Exception, SystemExit) as error:
            frames = traceback.extract_tb(error.__traceback__)
            lines = [frame.lineno for frame in frames if frame.filename == str(example)]
            line = (lines[-1] if lines else getattr(error, "lineno", 0)) or 1
            message = " ".join(str(error).split())
            raise SourceError(
                example_shown, line, f"failed: {type(error).__name__}: {message}"
            ) from error
    if not tracer.ran:
        raise SourceError(example_shown, 1, f"runs nothing of {shown}")
    sizes = names.get("SIZES")
    if not isinstance(sizes, dict):
        raise SourceError(example_shown, 1, 'must define SIZES, such as {"B": 5, "n": 7}')
    try:
        return notes(tracer.seen, Sizes(sizes))
    except ValueError as error:
        raise SourceError(example_shown, _line_of_sizes(example), str(error)) from error


def _line_of_sizes(example: Path) -> int:
    lines = example.read_text(encoding="utf-8").split("\n")
    return next((n for n, line in enumerate(lines, start=1) if line.startswith("SIZES")), 1)


@contextlib.contextmanager
def _fresh(roots: Sequence[Path]) -> Iterator[None]:
    """Imports come from `roots` first, and what was imported from them before is set aside."""
    packages = {root.name for root in roots}
    aside = {
        name: module for name, module in sys.modules.items() if name.partition(".")[0] in packages
    }
    path, bytecode = sys.path[:], sys.dont_write_bytecode
    for name in aside:
        del sys.modules[name]
    sys.path[:0] = [str(root.parent) for root in roots]
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
            del sys.modules[name]
        sys.modules.update(aside)
        sys.path[:], sys.dont_write_bytecode = path, bytecode
