r"""
# Shapes as data

What `mkdocs-annotated trace` found, one JSON file per module, kept with the sources. Each file says
which text it was made from: a build that meets another text stops, so that no page shows the shape
that a line had last week.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.source.files import SourceFile, display_path
from mkdocs_annotated.source.scan import read_source

COMMAND = "mkdocs-annotated trace"
# `# [B, n, c]` behind code: the author has said it, saying it again would be noise.
SAID = re.compile(r"#\s*\[[^\]#]*\][^#]*$")


@dataclass(frozen=True)
class Traced:
    """A module with an example, and the file of its shapes."""

    source: SourceFile
    example: Path
    example_shown: str
    data: Path
    data_shown: str

    def hashes(self) -> dict[str, str]:
        """What the shapes were made from."""
        texts = {
            self.source.display_path: read_source(self.source.path, self.source.display_path),
            self.example_shown: read_source(self.example, self.example_shown),
        }
        # The text as Python reads it: a checkout with other line ends has the same shapes.
        return {
            name: hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
            for name, text in texts.items()
        }


def configured(
    base: Path, data: str, examples: Mapping[str, str], sources: Mapping[str, SourceFile]
) -> list[Traced]:
    r"""
    The modules that have an example, in the order of the configuration.

    * `examples` maps modules to scripts, both relative to `base`
    * `sources` are all modules of the site, by the path they are shown with

    Raises `ValueError` for a module or script that does not exist.
    """
    found = []
    for name, script in examples.items():
        source = sources.get(Path(os.path.normpath(name)).as_posix())
        example = (base / script).resolve()
        if source is None:
            raise ValueError(f"no module {name!r} among the sources")
        if not example.is_file():
            raise ValueError(f"no example {script!r} for {name}")
        file = base / data / f"{source.name}.json"
        found.append(
            Traced(source, example, display_path(example, base), file, display_path(file, base))
        )
    return found


def load(base: Path, data: str, modules: list[Traced]) -> dict[str, dict[int, str]]:
    """
    The notes of each module, by its address and by line.

    Raises `SourceError` for data that is missing, stale, unreadable, or of no module.
    """
    expected = {traced.data for traced in modules}
    folder = base / data
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        if path not in expected:
            raise SourceError(display_path(path, base), 1, "belongs to no module with an example")
    return {traced.source.uri: _notes(traced) for traced in modules}


def _notes(traced: Traced) -> dict[int, str]:
    name, module = traced.data_shown, traced.source.display_path
    try:
        values = json.loads(traced.data.read_text(encoding="utf-8"))
        hashes = values["sha256"]
        notes = {
            int(n): str(text).replace("->", "\N{RIGHTWARDS ARROW}")
            for n, text in values["notes"].items()
        }
    except FileNotFoundError as error:
        raise SourceError(name, 1, f"is missing for {module}; run {COMMAND}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(name, 1, f"is no shape data; run {COMMAND}") from error
    for path, digest in traced.hashes().items():
        if not isinstance(hashes, dict) or hashes.get(path) != digest:
            raise SourceError(name, 1, f"is stale for {path}; run {COMMAND}")
    lines = read_source(traced.source.path, module).split("\n")
    return {
        n: text for n, text in notes.items() if n <= len(lines) and not SAID.search(lines[n - 1])
    }


def write(traced: Traced, notes: Mapping[int, str]) -> None:
    """Replaces the data of one module in one go."""
    values = {
        "module": traced.source.display_path,
        "example": traced.example_shown,
        "command": f"{COMMAND} {traced.source.display_path}",
        "sha256": traced.hashes(),
        "notes": {str(line): text for line, text in sorted(notes.items())},
    }
    traced.data.parent.mkdir(parents=True, exist_ok=True)
    aside = traced.data.with_name(f".{traced.data.name}.new")
    aside.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(traced.data)
