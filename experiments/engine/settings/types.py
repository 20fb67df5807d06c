r"""Type rules of settings, the same for the command line, YAML files and `settings.json`.

# Types of settings

A setting is a field of a dataclass, and its annotation is the rule: `bool`, `int`, `float`, `str`,
`Path`, a `Literal` of names, or one of these `| None`. Text from the command line is parsed. Values
from YAML and JSON must have the type already, except that an integer is accepted as a `float` and
text as a `Path`.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple

from experiments.engine.settings.errors import check_choice

TYPES: dict[type, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "text",
    Path: "a path",
}


class FieldType(NamedTuple):
    r"""The type of a setting, its choices if it is a `Literal`, and whether it may be None.

    >>> parse_text("steps", "100", FieldType(int))
    100
    """

    kind: type
    choices: tuple[str, ...] = ()
    optional: bool = False

    @property
    def description(self) -> str:
        return TYPES[self.kind]


def field_types(cls: type) -> dict[str, FieldType]:
    """The type of each field of a dataclass, by name."""
    hints = typing.get_type_hints(cls)
    return {field.name: _field_type(hints[field.name]) for field in dataclasses.fields(cls)}


def _field_type(hint: Any) -> FieldType:
    optional = typing.get_origin(hint) in (types.UnionType, typing.Union)
    if optional:
        [hint] = (part for part in typing.get_args(hint) if part is not types.NoneType)
    if typing.get_origin(hint) is Literal:
        return FieldType(str, typing.get_args(hint), optional)
    return FieldType(hint, (), optional)


def parse_text(name: str, text: str, field: FieldType) -> Any:
    r"""The value of a setting from the text of a flag.

    Raises `ValueError` if the text is not a value of that type, or not one of the choices.
    """
    if field.choices:
        check_choice(name, text, field.choices)
    try:
        return field.kind(text)
    except ValueError as e:
        raise ValueError(f"{name} must be {field.description}, got {text!r}") from e


def check_value(name: str, value: Any, field: FieldType) -> Any:
    r"""The value of a setting from YAML or JSON, with an integer made a `float` and text a `Path`.

    Raises `ValueError` if the value has another type, or is not one of the choices.
    """
    if value is None and field.optional:
        return None
    # `isinstance` would take true for the integer 1.
    if type(value) is field.kind or (field.kind is Path and isinstance(value, Path)):
        if field.choices:
            check_choice(name, str(value), field.choices)
        return value
    if (field.kind, type(value)) in ((float, int), (Path, str)):
        try:
            return field.kind(value)
        except OverflowError as e:
            size = value.bit_length()
            raise ValueError(f"{name} must fit into a float, got an integer of {size} bits") from e
    raise ValueError(f"{name} must be {field.description}, got {value!r}")


def check_values(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Some fields of a dataclass by name, checked. Raises `ValueError` as `check_value` does."""
    fields = field_types(cls)
    return {name: check_value(name, value, fields[name]) for name, value in values.items()}


def check_choices(settings: Any) -> None:
    """Raises `ValueError` for the first `Literal` field whose value is not one of its choices."""
    for name, field in field_types(type(settings)).items():
        if field.choices and getattr(settings, name) is not None:
            check_choice(name, getattr(settings, name), field.choices)


def to_dict(*parts: Any) -> dict[str, Any]:
    """The fields of several dataclass instances in one dict, as `settings.json` holds them."""
    return {name: value for part in parts for name, value in asdict(part).items()}


def from_dict(classes: Sequence[type], values: Mapping[str, Any]) -> list[Any]:
    r"""An instance of each dataclass, from one dict with the fields of all of them.

        settings, training = from_dict((Settings, Training), record["settings"])

    * `classes` are the dataclasses; no two have a field of the same name
    * `values` are typically read from a `settings.json`, which may have been edited

    Raises `ValueError` if a field is missing, a name is unknown, a value has the wrong type, or a
    class refuses its values.
    """
    fields = {field.name for cls in classes for field in dataclasses.fields(cls)}
    unknown = sorted(values.keys() - fields)
    missing = sorted(fields - values.keys())
    if unknown or missing:
        names = " and ".join(cls.__name__ for cls in classes)
        raise ValueError(
            f"settings must be those of {names}, got unknown {unknown}, missing {missing}"
        )
    return [
        cls(**check_values(cls, {f.name: values[f.name] for f in dataclasses.fields(cls)}))
        for cls in classes
    ]
