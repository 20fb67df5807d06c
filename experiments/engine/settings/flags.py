r"""Command-line flags made from the fields of a dataclass.

# Flags

Each field of a settings dataclass is a flag. Its annotation is the [type](types.py), its default is
the default, and the comment above it is the help. A `Literal` lists the choices, and a comment
behind the field names the unit.

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
import functools
import inspect
import io
import re
import sys
import textwrap
import tokenize
from typing import Any, NoReturn

from experiments.engine.settings.errors import is_first_process
from experiments.engine.settings.types import field_types, parse_text


class Parser(argparse.ArgumentParser):
    r"""An `ArgumentParser` that reports an error in one line, without listing all flags.

    parser = Parser("python -m experiments.masked", "[--flag value ...]")
    add_flags(parser, Training)
    """

    def __init__(self, prog: str, usage: str, description: str = "") -> None:
        super().__init__(prog, f"{prog} {usage}", description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        if is_first_process():
            print(f"{self.prog}: error: {message} (--help lists the arguments)", file=sys.stderr)
        sys.exit(2)


def add_flags(parser: argparse.ArgumentParser, cls: type, defaults: Any = None) -> None:
    r"""Adds a flag to a parser for each field of a dataclass.

    The parser collects text; [given_values](#given_values) parses it. Flags that are not given are
    absent from the namespace, so they cannot be confused with a given default.

    * `parser` gets the flags
    * `cls` is the dataclass; a field without a default becomes a positional argument
    * `defaults` is an instance whose values the help shows; by default those of the class

    Raises `KeyError` for a field without a comment above it.
    """
    texts, units, kinds = field_help(cls), field_units(cls), field_types(cls)
    title = cls.__name__.removesuffix("Settings") or cls.__name__
    group = parser.add_argument_group(title.lower())
    for field in dataclasses.fields(cls):
        default = field.default if defaults is None else getattr(defaults, field.name)
        options: dict[str, Any] = {"help": texts[field.name]}
        if default not in (dataclasses.MISSING, None, ""):
            value = f"{default} {units.get(field.name, '')}".rstrip()
            options["help"] += f" (default: {value})"
        options["help"] = options["help"].replace("%", "%%")
        if field.default is dataclasses.MISSING:
            group.add_argument(field.name, **options)
            continue
        kind = kinds[field.name]
        if kind.kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            name = kind.kind.__name__.upper()
            options["metavar"] = f"{{{','.join(kind.choices)}}}" if kind.choices else name
        flag = "--" + field.name.replace("_", "-")
        group.add_argument(flag, dest=field.name, default=argparse.SUPPRESS, **options)


def given_values(cls: type, namespace: argparse.Namespace) -> dict[str, Any]:
    r"""The fields of a dataclass that were given on the command line, with their values.

    Raises `ValueError` for text that is not a value of the field's type or not one of its choices.
    """
    return {
        name: parse_text(name, value, field) if isinstance(value, str) else value
        for name, field in field_types(cls).items()
        if (value := getattr(namespace, name, None)) is not None
    }


def field_help(cls: type) -> dict[str, str]:
    r"""The help text of each field of a dataclass: the comment above it, as plain text.

    Raises `KeyError` for a field without a comment above it.
    """
    found = {name: text for name, (text, _) in _field_comments(cls).items() if text}
    return {field.name: found[field.name] for field in dataclasses.fields(cls)}


def field_units(cls: type) -> dict[str, str]:
    """The unit of each field that has a comment behind it."""
    return {name: unit for name, (_, unit) in _field_comments(cls).items() if unit}


@functools.cache
def _field_comments(cls: type) -> dict[str, tuple[str, str]]:
    """For each field, the text of the comment lines above it and the comment behind it."""
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError):
        return {}  # the class has no source file
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
