r"""Settings in a YAML file, which may extend other files.

# Configuration files

A file maps the names of flags to values, and may extend other files:

```yaml
base: paper.yml
size: ti
image-size: 224
```

From lowest to highest priority: the defaults, the bases in their order, the file itself, the
command line. Names are written with `-` or `_`. Nothing is nested, so each entry corresponds to one
flag.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from experiments.engine.settings.types import FieldType, check_value, field_types

BASE = "base"
NOTHING = "tag:yaml.org,2002:null"


def read_config(path: Path, *classes: type) -> dict[str, Any]:
    r"""The settings of a configuration file and its bases, by name.

        values = read_config(Path("experiments/configs/gmlp_ti.yml"), Settings, Training, Launch)

    * `path` is the file; its bases are relative to it
    * `classes` are the dataclasses whose fields may be set

    Raises `ValueError`, with the file and if possible the line, if a file is missing, is not UTF-8,
    is not YAML, is not a mapping or nests values; if a name is unknown or set twice; if a value has
    the wrong type or is not one of the choices; or if the bases form a cycle.
    """
    fields = {name: field for cls in classes for name, field in field_types(cls).items()}
    # A file extends others with `base`, not with `config`.
    fields.pop("config", None)
    return _read(path, fields, ())


def _read(path: Path, fields: Mapping[str, FieldType], above: tuple[Path, ...]) -> dict[str, Any]:
    chain = (*above, path)
    if any(path.resolve() == other.resolve() for other in above):
        names = " -> ".join(str(file) for file in chain)
        raise ValueError(f"{BASE} must not form a cycle, got {names}")
    values: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for key, node in _entries(path):
        where = f"{path}, line {key.start_mark.line + 1}"
        name = str(key.value).replace("-", "_")
        if name in own:
            raise ValueError(f"{key.value} must be set once, got it again in {where}")
        if name == BASE:
            own[name] = None
            for base in _bases(node, where):
                file = path.parent / base
                if not file.is_file():
                    raise ValueError(f"{BASE} must be a file, got {file} in {where}")
                values.update(_read(file, fields, chain))
        elif name in fields:
            own[name] = _value(name, node, fields[name], where)
        else:
            raise ValueError(f"unknown setting {key.value!r} in {where}")
    own.pop(BASE, None)
    return {**values, **own}


def _entries(path: Path) -> list[tuple[yaml.Node, yaml.Node]]:
    """The keys and values of the file's mapping, in order; none for an empty file."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as e:
        raise ValueError(f"config must be UTF-8, got byte {e.start} of {path}") from e
    except OSError as e:
        raise ValueError(f"config must be a file, got {path}: {e.strerror}") from e
    try:
        # Composing keeps the line of each node and builds no object.
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark else 1
        raise ValueError(
            f"config must be valid YAML, got {e.problem} in {path}, line {line}"
        ) from e
    except yaml.YAMLError as e:
        raise ValueError(
            f"config must be valid YAML, got {str(e).splitlines()[0]} in {path}"
        ) from e
    if node is None or node.tag == NOTHING:
        return []
    if not isinstance(node, yaml.MappingNode):
        raise ValueError(f"config must map names to values, got {_plain(node)!r} in {path}")
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
    """The value of a scalar, or "a mapping" or "a list"."""
    if not isinstance(node, yaml.ScalarNode):
        return "a mapping" if isinstance(node, yaml.MappingNode) else "a list"
    try:
        return yaml.SafeLoader("").construct_object(node)
    except yaml.YAMLError:
        # The tag names a Python object, which is never built.
        return node.tag


def _value(name: str, node: yaml.Node, field: FieldType, where: str) -> Any:
    try:
        value = _plain(node)
    except ValueError as e:  # such as the date 2024-13-45
        raise ValueError(
            f"{name} must be {field.description}, got {node.value!r} in {where}"
        ) from e
    if not isinstance(node, yaml.ScalarNode) or value == node.tag:
        raise ValueError(f"{name} must be {field.description}, got {value!r} in {where}")
    if field.kind is float and isinstance(value, str) and node.style is None:
        # YAML 1.1 reads 1e-3 as text, because it has no point.
        with contextlib.suppress(ValueError):
            value = float(value)
    try:
        return check_value(name, value, field)
    except ValueError as e:
        remedy = "; put text in quotes" if field.kind in (str, Path) else ""
        raise ValueError(f"{e} in {where}{remedy}") from e
