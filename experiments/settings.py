r"""
# Settings and flags

An experiment states its settings once, as a frozen dataclass. The command line is made from it:
each field is a flag, its type checks the value, its default is the default, and its help is the
bullet that the dataclass's docstring gives it. Nothing else defines a flag.
"""

import argparse
import dataclasses
import io
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")


class UserError(Exception):
    """A mistake that the caller can mend, told in one sentence. A command ends with status 2."""


@contextmanager
def user_errors() -> Iterator[None]:
    r"""
    ## Errors of the caller

    Turns what the checks of settings, corpora and layers raise into `UserError`. It belongs around
    what happens before the work begins; afterwards a `ValueError` is our own mistake and
    deserves its traceback.
    """
    try:
        yield
    except (ValueError, TypeError) as e:
        raise UserError(str(e)) from e
    except OSError as e:
        raise UserError(f"{e.filename or 'file'}: {e.strerror or e}") from e
    except RuntimeError as e:
        # What torch says in several lines, often with a stack of its own below the first.
        text = (str(e).splitlines() or [type(e).__name__])[0]
        too_large = any(word in text.lower() for word in ("memory", "storage size"))
        raise UserError(f"model must fit into memory, got: {text}" if too_large else text) from e


def is_first_process() -> bool:
    """Of those that torchrun or Fabric has started, by what they were told of themselves."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK"))


@contextmanager
def told_once() -> Iterator[None]:
    """What all processes find wrong, the first one says; the others end with the same status."""
    try:
        yield
    except UserError:
        if is_first_process():
            raise
        raise SystemExit(2) from None


def run_command(command: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> int:
    r"""
    ## A command and its status

    Runs `command` on its arguments. What the caller can mend becomes one line on standard error.

    Returns the exit status: 0, 2 for a mistake or a full disk, 130 for Ctrl-C, 141 if nobody reads
    the output any more.
    """
    # A text may hold characters that a terminal cannot show; they must not end the run.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        command(arguments)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has enough. Python would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as e:
        # A full disk, most of all. What was written before is whole.
        print(f"error: {e.filename or 'output'}: {e.strerror or e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as e:
        if is_first_process():
            # A run that has begun says which it is.
            run = e.args[0] if e.args else "RUN"
            print(f"stopped; --resume {run} goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


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


def given(cls: type, namespace: argparse.Namespace) -> dict[str, Any]:
    """The fields of `cls` that were given on the command line, with their values."""
    names = {field.name for field in dataclasses.fields(cls)}
    return {name: value for name, value in vars(namespace).items() if name in names}


def changed(asked: dict[str, Any], present: dict[str, Any]) -> tuple[str, Any, Any] | None:
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


def check_positive(settings: Any, names: Sequence[str]) -> None:
    """Raises `ValueError` for the first of the named fields that is not above 0."""
    for name in names:
        value = getattr(settings, name)
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}")


# `int | None` on the command line is an `int`: leaving the flag out is how one says `None`.
def _converter(hint: Any) -> Any:
    if isinstance(hint, types.UnionType):
        return next(h for h in typing.get_args(hint) if h is not types.NoneType)
    return hint
