r"""Store the traced shapes of each module in a JSON file, and read them back.

# Stored shapes

`mkdocs-annotated trace` writes one JSON file per module, which is committed with the sources. Each
file contains the hashes of the module and the example that it was made from. If one of them has
changed since, the build stops, so a page never shows an outdated shape.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mkdocs_annotated.errors import SourceError
from mkdocs_annotated.source.files import SourceFile, display_path
from mkdocs_annotated.source.scan import read_source

COMMAND = "mkdocs-annotated trace"
# A line that ends in a comment such as `# [B, n, c]` already gives its shape and gets no note.
SHAPE_COMMENT = re.compile(r"#\s*\[[^\]#]*\][^#]*$")


@dataclass(frozen=True)
class TracedModule:
    r"""A module with an example, and the file of its shapes.

    * `example` is the script that calls the module, `data` the JSON file of its shapes
    * `example_display_path` and `data_display_path` are their paths as error messages show them
    """

    source: SourceFile
    example: Path
    example_display_path: str
    data: Path
    data_display_path: str

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of the module and of the example, by path."""
        texts = {
            self.source.display_path: read_source(self.source.path, self.source.display_path),
            self.example_display_path: read_source(self.example, self.example_display_path),
        }
        # `read_source` normalises line ends, so the hashes do not depend on the checkout.
        return {
            name: hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
            for name, text in texts.items()
        }


def modules_with_examples(
    base: Path, data: str, examples: Mapping[str, str], sources: Mapping[str, SourceFile]
) -> list[TracedModule]:
    r"""Return the modules that have an example, in the order of the configuration.

    * `data` is the folder of the shapes, relative to `base`
    * `examples` maps modules to scripts and folders of modules to folders of scripts, all relative
      to `base`; in a folder, the script of `PATH` is at the same `PATH`
    * `sources` maps paths, relative to `base`, to all modules of the site

    Raises `ValueError` if a module or a script does not exist.
    """
    found = []
    for name, script in _single_examples(base, examples):
        source = sources.get(Path(os.path.normpath(name)).as_posix())
        example = (base / script).resolve()
        if source is None:
            raise ValueError(f"no module {name!r} among the sources")
        if not example.is_file():
            raise ValueError(f"no example {script!r} for {name}")
        file = base / data / f"{source.name}.json"
        found.append(
            TracedModule(
                source, example, display_path(example, base), file, display_path(file, base)
            )
        )
    return found


def _single_examples(base: Path, examples: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each module with its script, those of a folder in alphabetical order."""
    for name, script in examples.items():
        folder = base / script
        if not folder.is_dir():
            yield name, script
        for path in sorted(folder.rglob("*.py")) if folder.is_dir() else ():
            relative = path.relative_to(folder).as_posix()
            yield f"{name}/{relative}", f"{script}/{relative}"


def load_notes(base: Path, data: str, modules: list[TracedModule]) -> dict[str, dict[int, str]]:
    """Return the notes of each module, by the URI of its page and by line.

    Raises `SourceError` if a file of shapes is missing, malformed, outdated, or belongs to no
    module, or if a module or an example cannot be decoded.
    """
    expected = {traced.data for traced in modules}
    folder = base / data
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        if path not in expected:
            raise SourceError(
                display_path(path, base),
                1,
                "no module with an example has these shapes; delete the file",
            )
    return {traced.source.uri: _notes(traced) for traced in modules}


def _notes(traced: TracedModule) -> dict[int, str]:
    name, module = traced.data_display_path, traced.source.display_path
    try:
        values = json.loads(traced.data.read_text(encoding="utf-8"))
        hashes = values["sha256"]
        notes = {
            int(n): str(text).replace("->", "\N{RIGHTWARDS ARROW}")
            for n, text in values["notes"].items()
        }
    except FileNotFoundError as error:
        raise SourceError(name, 1, f"no shapes are stored for {module}; run {COMMAND}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(name, 1, f"the file is not valid shape data; run {COMMAND}") from error
    for path, digest in traced.hashes().items():
        if not isinstance(hashes, dict) or hashes.get(path) != digest:
            raise SourceError(
                name, 1, f"the shapes are outdated, {path} has changed; run {COMMAND}"
            )
    lines = read_source(traced.source.path, module).split("\n")
    return {
        n: text
        for n, text in notes.items()
        if n <= len(lines) and not SHAPE_COMMENT.search(lines[n - 1])
    }


def write_notes(traced: TracedModule, notes: Mapping[int, str]) -> None:
    """Write the shapes of one module, atomically."""
    values = {
        "module": traced.source.display_path,
        "example": traced.example_display_path,
        "command": f"{COMMAND} {traced.source.display_path}",
        "sha256": traced.hashes(),
        "notes": {str(line): text for line, text in sorted(notes.items())},
    }
    traced.data.parent.mkdir(parents=True, exist_ok=True)
    temporary = traced.data.with_name(f".{traced.data.name}.new")
    temporary.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(traced.data)
