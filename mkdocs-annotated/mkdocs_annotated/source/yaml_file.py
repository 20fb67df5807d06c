r"""
# YAML files with places

Whoever writes a file by hand wants to know the line of a mistake, so the files are read as nodes,
which know their lines, and not as values.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from mkdocs_annotated.errors import SourceError


def compose(path: Path, shown: str, name: str) -> yaml.Node | None:
    """
    The root node of a file; `None` if the file is empty.

    * `shown` is the path as the author would type it, `name` what the file is called in messages

    Raises `SourceError` for a file that cannot be read or is not YAML.
    """
    try:
        return yaml.compose(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(shown, 1, f"this {name} cannot be read") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        raise SourceError(shown, mark.line + 1 if mark else 1, "this is not YAML") from error
