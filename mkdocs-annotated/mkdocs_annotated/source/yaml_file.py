r"""Read a YAML file so that every value knows its line.

# YAML files with line numbers

Inventories, symbols, exhibits and the coverage of a paper are YAML files written by hand. An error
in one should name its line. Plain values have no line numbers, so this module returns YAML nodes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml

from mkdocs_annotated.errors import SourceError

NodeType = TypeVar("NodeType", bound=yaml.Node)


def read_yaml(
    path: Path, display_path: str, root_type: type[NodeType], expected: str
) -> NodeType | None:
    """Read a YAML file and return its root node, or `None` if the file is empty.

    * `display_path` is the path that error messages show
    * `root_type` is `yaml.MappingNode` or `yaml.SequenceNode`
    * `expected` describes the root in the error message for another type, such as "a list of
      exhibits"

    Raises `SourceError` with the line if the file cannot be read, is not UTF-8, is not valid YAML,
    is nested too deeply, or has a root of another type.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(display_path, 1, f"cannot read the file: {error.strerror}") from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"the file must be UTF-8, got byte 0x{data[error.start]:02x}"
        raise SourceError(display_path, line, message) from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"not valid YAML: control character U+{error.character:04X}"
        raise SourceError(display_path, line, message) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SourceError(display_path, line, f"not valid YAML: {error.problem}") from error
    except RecursionError as error:
        raise SourceError(display_path, 1, "not valid YAML: nested too deeply") from error
    if root is not None and not isinstance(root, root_type):
        raise SourceError(display_path, line_of(root), f"the file must contain {expected}")
    return root


def line_of(node: yaml.Node) -> int:
    """Return the line on which a node begins, counted from one."""
    return int(node.start_mark.line) + 1
