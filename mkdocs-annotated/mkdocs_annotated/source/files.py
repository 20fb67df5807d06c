r"""
# Which files become pages

A source folder is shown under its own name: `src/shapes/circle.py` of the source `src/shapes` has
the address `shapes/circle.md` inside MkDocs and `shapes/circle.html` on the site. A mounted folder
keeps its Markdown pages, and the pictures and data they show, at an address of the author's choice.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOUNTED_SUFFIXES = frozenset((".md", ".png", ".svg", ".jpg", ".json", ".jsonl", ".csv"))


@dataclass(frozen=True)
class SourceFile:
    r"""
    * `path` is the Python file, `shown` its path as the author would type it
    * `place` is its path inside the site
    * `uri` is the virtual Markdown file that MkDocs turns into a page
    * `name` is the dotted name of the module
    """

    path: Path
    display_path: str
    site_path: str
    uri: str
    name: str


@dataclass(frozen=True)
class MountedFile:
    """A file of a folder outside of the documentation, and its address inside."""

    path: Path
    uri: str


def find_modules(folder: Path, base: Path) -> Iterator[SourceFile]:
    """All Python files under `folder`, the package itself before what it holds."""
    for path in _files(folder):
        if path.suffix != ".py":
            continue
        parts = (folder.name, *path.relative_to(folder).with_suffix("").parts)
        package = parts[-1] == "__init__"
        dotted = ".".join(parts[:-1] if package else parts)
        page = (*parts[:-1], "index") if package else parts
        place = "/".join(parts) + ".py"
        yield SourceFile(path, display_path(path, base), place, "/".join(page) + ".md", dotted)


def find_mounted_files(folder: Path, address: str) -> Iterator[MountedFile]:
    """Everything under `folder` that a page can be or show."""
    for path in _files(folder):
        if path.suffix.lower() in MOUNTED_SUFFIXES:
            inner = path.relative_to(folder).as_posix()
            yield MountedFile(path, f"{address}/{inner}" if address else inner)


def display_path(path: Path, base: Path) -> str:
    """As seen from the configuration file, so that no page or message names a machine's folders."""
    try:
        return Path(os.path.relpath(path, base)).as_posix()
    except ValueError:  # another drive
        return path.name


def _files(folder: Path) -> Iterator[Path]:
    """Files in a fixed order, those of a folder before its subfolders, hidden ones left out."""
    entries = sorted(
        folder.iterdir(), key=lambda path: (path.is_dir(), path.name != "__init__.py", path.name)
    )
    for path in entries:
        if path.name.startswith(".") or path.name == "__pycache__":
            continue
        if path.is_dir():
            yield from _files(path)
        elif path.is_file():
            yield path
