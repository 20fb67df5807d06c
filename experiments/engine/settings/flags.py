r"""
# Settings and flags

An experiment states its settings once, as a frozen dataclass. The command line is made from it:
each field is a flag, its type checks the value, its default is the default, and its help is the
bullet that the dataclass's docstring gives it. Nothing else defines a flag.
"""

import argparse
import dataclasses
import re
import sys
import types
import typing
from collections.abc import Sequence
from typing import Any, NoReturn, TypeVar

from experiments.engine.settings.errors import is_first_process

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
    help_texts = field_help(cls)
    group = parser.add_argument_group(cls.__name__.lower())
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        default = field.default if defaults is None else getattr(defaults, field.name)
        options: dict[str, Any] = {"help": help_texts[field.name].replace("%", "%%")}
        if default is not dataclasses.MISSING and default is not None:
            options["help"] += f" (default: {default})"
        if field.default is dataclasses.MISSING:
            group.add_argument(field.name, type=_converter(hints[field.name]), **options)
            continue
        flag = "--" + field.name.replace("_", "-")
        if hints[field.name] is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["type"] = _converter(hints[field.name])
            options["metavar"] = _converter(hints[field.name]).__name__.upper()
        group.add_argument(flag, dest=field.name, default=argparse.SUPPRESS, **options)


def field_help(cls: type) -> dict[str, str]:
    r"""
    ## Help texts

    Reads the bullets ``* `name` text`` of a dataclass's docstring, so that page and `--help` say
    the same. Several names may share one bullet: ``* `a` and `b` ...``.

    Raises `KeyError` for a field without one.
    """
    texts: dict[str, str] = {}
    for bullet in re.findall(r"^ *\* (.+(?:\n +[^*\s].*)*)", cls.__doc__ or "", re.MULTILINE):
        plain = re.sub(r"\s+", " ", bullet)
        names, text = re.match(r"((?:`\w+`(?:, | and )?)+) ?(.*)", plain).groups()  # type: ignore[union-attr]
        for name in re.findall(r"`(\w+)`", names):
            texts[name] = re.sub(r"^(?:is|are) |[`$\\]", "", text)
    return {field.name: texts[field.name] for field in dataclasses.fields(cls)}


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
