r"""
# Settings and flags

An experiment states its settings once, as a frozen dataclass. The command line is made from it:
each field is a flag, its type checks the value, its default is the default, and its help is the
comment above the field. A `Literal` type lists the choices, and a comment behind the field names
the unit. Nothing else defines a flag.

```python
@dataclass(frozen=True, kw_only=True)
class Settings:
    # Context length.
    seq_len: int = 64  # tokens
    # Layer to stack.
    layer: Literal["gmlp", "transformer"] = "gmlp"
```
"""

import argparse
import ast
import dataclasses
import inspect
import io
import re
import sys
import textwrap
import tokenize
import types
import typing
from collections.abc import Sequence
from typing import Any, Literal, NoReturn, TypeVar

from experiments.engine.settings.errors import check_choice, is_first_process

T = TypeVar("T")


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that says what is wrong in one line, without the list of all flags."""

    def __init__(self, prog: str, usage: str, description: str = "") -> None:
        super().__init__(prog, f"{prog} {usage}", description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        if is_first_process():
            print(f"{self.prog}: error: {message} (--help lists the arguments)", file=sys.stderr)
        sys.exit(2)


def add_flags(parser: argparse.ArgumentParser, cls: type, defaults: Any = None) -> None:
    r"""
    ## A flag for each field

    * `parser` receives the flags
    * `cls` is the dataclass; a field without a default becomes a positional argument
    * `defaults` is an instance whose values the help shows; `None` shows those of the class

    Flags that are not given are absent from the parsed namespace, so that one can tell a value that
    was asked for from a default.
    """
    texts, units = field_help(cls), field_units(cls)
    group = parser.add_argument_group(cls.__name__.lower())
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        default = field.default if defaults is None else getattr(defaults, field.name)
        options: dict[str, Any] = {"help": texts[field.name]}
        if default is not dataclasses.MISSING and default is not None:
            value = f"{default} {units.get(field.name, '')}".rstrip()
            options["help"] += f" (default: {value})"
        options["help"] = options["help"].replace("%", "%%")
        kind = _converter(hints[field.name])
        if typing.get_origin(kind) is Literal:
            # `from_dict` checks the choice, with the same message as for a file.
            options["metavar"] = f"{{{','.join(typing.get_args(kind))}}}"
        elif kind is not bool:
            options["type"] = kind
        if field.default is dataclasses.MISSING:
            group.add_argument(field.name, **options)
            continue
        flag = "--" + field.name.replace("_", "-")
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        elif "metavar" not in options:
            options["metavar"] = kind.__name__.upper()
        group.add_argument(flag, dest=field.name, default=argparse.SUPPRESS, **options)


def field_help(cls: type) -> dict[str, str]:
    r"""The help text of each field of a dataclass: the comment lines above it, in plain text.

    Raises `KeyError` for a field without a comment.
    """
    found = {name: text for name, (text, _) in _field_comments(cls).items() if text}
    # Until every class has comments: the bullets of its docstring.
    found = {**_bullets(cls), **found}
    return {field.name: found[field.name] for field in dataclasses.fields(cls)}


def field_units(cls: type) -> dict[str, str]:
    """The unit of each field that has one: the comment behind it."""
    return {name: unit for name, (_, unit) in _field_comments(cls).items() if unit}


def _field_comments(cls: type) -> dict[str, tuple[str, str]]:
    """For each field, the text of the comment lines above it and the comment behind it."""
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError):
        return {}  # the class was not written in a file
    lines = source.splitlines()
    comments: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = token.string.lstrip("# ").rstrip()
    found = {}
    body = ast.parse(source).body[0]
    for node in getattr(body, "body", ()):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            first = node.lineno
            while lines[first - 2].strip().startswith("#"):
                first -= 1
            above = " ".join(comments[n] for n in range(first, node.lineno))
            unit = comments.get(node.end_lineno or node.lineno, "")
            found[node.target.id] = (re.sub(r"[`$\\]", "", above), unit)
    return found


def _bullets(cls: type) -> dict[str, str]:
    texts: dict[str, str] = {}
    for bullet in re.findall(r"^ *\* (.+(?:\n +[^*\s].*)*)", cls.__doc__ or "", re.MULTILINE):
        plain = re.sub(r"\s+", " ", bullet)
        names, text = re.match(r"((?:`\w+`(?:, | and )?)+) ?(.*)", plain).groups()  # type: ignore[union-attr]
        for name in re.findall(r"`(\w+)`", names):
            texts[name] = re.sub(r"^(?:is|are) |[`$\\]", "", text)
    return texts


def given_values(cls: type, namespace: argparse.Namespace) -> dict[str, Any]:
    """The fields of `cls` that were given on the command line, with their values."""
    names = {field.name for field in dataclasses.fields(cls)}
    return {name: value for name, value in vars(namespace).items() if name in names}


def first_difference(asked: dict[str, Any], present: dict[str, Any]) -> tuple[str, Any, Any] | None:
    """The first value that `asked` would change: its name, the value asked for, the present one."""
    for name, value in asked.items():
        if value != present[name]:
            return name, value, present[name]
    return None


def from_dict(classes: Sequence[type], values: dict[str, Any]) -> list[Any]:
    r"""
    ## Settings read back

    As the file may have been edited, each value must have the type of its field.

    * `classes` are the dataclasses whose fields `values` holds, all together

    Returns an instance of each.

    Raises `ValueError` that lists the missing and the unknown names if `values` are not those of
    `classes`.
    """
    fields = {field.name for cls in classes for field in dataclasses.fields(cls)}
    unknown = sorted(values.keys() - fields)
    missing = sorted(fields - values.keys())
    if unknown or missing:
        names = " and ".join(cls.__name__ for cls in classes)
        raise ValueError(
            f"settings must be those of {names}, got unknown {unknown}, missing {missing}"
        )
    made = []
    for cls in classes:
        hints = typing.get_type_hints(cls)
        own = {name: value for name, value in values.items() if name in hints}
        for name, value in own.items():
            if typing.get_origin(hints[name]) is Literal:
                check_choice(name, value, typing.get_args(hints[name]))
                continue
            kinds = _kinds(hints[name])
            if type(value) not in kinds:
                raise ValueError(f"{name} must be of type {kinds[-1].__name__}, got {value!r}")
        made.append(cls(**own))
    return made


# JSON writes 1.0 as it was, but a person writes 1.
def _kinds(hint: Any) -> tuple[type, ...]:
    if isinstance(hint, types.UnionType):
        return tuple(kind for part in reversed(typing.get_args(hint)) for kind in _kinds(part))
    return (int, float) if hint is float else (hint,)


# `int | None` on the command line is an `int`: leaving the flag out is how one says `None`.
def _converter(hint: Any) -> Any:
    if isinstance(hint, types.UnionType):
        return next(h for h in typing.get_args(hint) if h is not types.NoneType)
    return hint
