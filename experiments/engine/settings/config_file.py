r"""
# Configurations

The settings of a run in a file, for those that are too many to type. A file in YAML names flags and
their values, and may start from others:

```yaml
base: paper.yml
size: ti
image-size: 224
```

The order, from weak to strong: the defaults, the bases one after another, the file itself, the
command line. Names are those of the flags, with `-` or `_`; nothing is nested, so that each value
in a file can be typed as a flag and the other way round.
"""

import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from experiments.engine.settings.errors import check_choice

BASE = "base"
NOTHING = "tag:yaml.org,2002:null"


def read_config(path: Path, *classes: type) -> dict[str, Any]:
    r"""
    ## Reading

    * `path` is that of the file; its bases are relative to it
    * `classes` are the dataclasses whose fields are the flags

    Returns the value of each flag that the file or a base gives.

    Raises `ValueError`, with the file and the line, for a file that is missing, is not YAML or
    holds more than names and values; for a name that is no flag or stands twice; for a value of
    another type than the flag; and for a file that is its own base.
    """
    hints: dict[str, Any] = {}
    for cls in classes:
        hints.update(typing.get_type_hints(cls))
    # A file names others as its bases.
    hints.pop("config", None)
    return _read(path, hints, ())


def _read(path: Path, hints: Mapping[str, Any], above: tuple[Path, ...]) -> dict[str, Any]:
    # The same file may be reached by another name.
    chain = (*above, path)
    if any(path.resolve() == other.resolve() for other in above):
        names = " -> ".join(str(file) for file in chain)
        raise ValueError(f"{BASE} must not lead back to the file, got {names}")
    values: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for key, node in _entries(path):
        where = f"{path}, line {key.start_mark.line + 1}"
        name = str(key.value).replace("-", "_")
        if name in own:
            raise ValueError(f"{key.value} must stand once, got it again in {where}")
        if name == BASE:
            own[name] = None
            for base in _bases(node, where):
                file = path.parent / base
                if not file.is_file():
                    raise ValueError(f"{BASE} must be a file, got {file} in {where}")
                values.update(_read(file, hints, chain))
        elif name in hints:
            own[name] = _value(name, node, hints[name], where)
        else:
            raise ValueError(f"name must be that of a flag, got {key.value!r} in {where}")
    own.pop(BASE, None)
    return {**values, **own}


def _entries(path: Path) -> list[tuple[yaml.Node, yaml.Node]]:
    """The entries of the file's mapping, in their order; none for an empty file."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as e:
        raise ValueError(f"config must be UTF-8 text, got other bytes in {path}") from e
    except OSError as e:
        raise ValueError(f"config must be a file, got {path}: {e.strerror}") from e
    try:
        # Not loaded but composed: the tree knows the line of each part, and no object is built.
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark else 1
        raise ValueError(f"config must be YAML, got {e.problem} in {path}, line {line}") from e
    except yaml.YAMLError as e:
        raise ValueError(f"config must be YAML, got {str(e).splitlines()[0]} in {path}") from e
    if node is None or node.tag == NOTHING:
        return []
    if not isinstance(node, yaml.MappingNode):
        raise ValueError(f"config must be names and values, got {_plain(node)!r} in {path}")
    return node.value


def _bases(node: yaml.Node, where: str) -> list[str]:
    found = []
    for part in node.value if isinstance(node, yaml.SequenceNode) else [node]:
        base = _plain(part)
        if not (isinstance(part, yaml.ScalarNode) and isinstance(base, str)):
            raise ValueError(f"{BASE} must be a file or a list of files, got {base!r} in {where}")
        found.append(base)
    return found


def _plain(node: yaml.Node) -> Any:
    """A single value; of anything else, the kind is told."""
    if not isinstance(node, yaml.ScalarNode):
        return "a mapping" if isinstance(node, yaml.MappingNode) else "a list"
    try:
        return yaml.SafeLoader("").construct_object(node)
    except yaml.YAMLError:
        # A tag that stands for an object of Python, which nothing here builds.
        return node.tag


def _value(name: str, node: yaml.Node, hint: Any, where: str) -> Any:
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kind = next(k for k in kinds if k is not types.NoneType)
    choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else None
    kind = str if choices else kind
    try:
        value = _plain(node)
    except ValueError as e:  # such as the date 2024-13-45
        raise ValueError(f"{name} must be a value, got {node.value!r} in {where}") from e
    scalar = isinstance(node, yaml.ScalarNode) and value != node.tag
    if scalar and value is None and types.NoneType in kinds:
        return None
    if scalar and type(value) is kind:
        if choices:
            check_choice(name, value, choices)
        return value
    if scalar and kind is float and type(value) in (int, str):
        # YAML takes 1e-3 for a text, as it has no point.
        try:
            return float(value)
        except ValueError:
            pass
    if scalar and kind is Path and type(value) is str:
        return Path(value)
    remedy = "; a text may need quotes" if kind in (str, Path) and scalar else ""
    raise ValueError(f"{name} must be of type {kind.__name__}, got {value!r} in {where}{remedy}")
