r"""Find the Python files that become pages, and the files of mounted folders.

# Source files and their pages

A source folder keeps its own name on the site: `src/shapes/circle.py` in the source folder
`src/shapes` is `shapes/circle.md` inside MkDocs and `shapes/circle.html` on the site. A mounted
folder contributes Markdown pages, pictures and data under an address that the author chooses.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOUNTED_SUFFIXES = frozenset((".md", ".png", ".svg", ".jpg", ".json", ".jsonl", ".csv"))


@dataclass(frozen=True)
class SourceFile:
    r"""A Python file and its addresses.

    * `path` is the file on disk
    * `display_path` is its path relative to the configuration file
    * `site_path` is its path on the site, such as `shapes/circle.py`
    * `uri` is the Markdown file that MkDocs renders for it
    * `name` is the dotted name of the module
    """

    path: Path
    display_path: str
    site_path: str
    uri: str
    name: str


@dataclass(frozen=True)
class MountedFile:
    """A file from a mounted folder; `uri` is its address inside MkDocs."""

    path: Path
    uri: str


def find_modules(folder: Path, base: Path) -> Iterator[SourceFile]:
    """Yield all Python files under `folder`; `__init__.py` comes before the rest of its package.

    * `base` is the folder of the configuration file
    """
    for path in _files(folder):
        if path.suffix != ".py":
            continue
        parts = (folder.name, *path.relative_to(folder).with_suffix("").parts)
        package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if package else parts)
        page = (*parts[:-1], "index") if package else parts
        site_path = "/".join(parts) + ".py"
        yield SourceFile(path, display_path(path, base), site_path, "/".join(page) + ".md", name)


def find_mounted_files(folder: Path, address: str) -> Iterator[MountedFile]:
    """Yield the pages, pictures and data files under `folder`."""
    for path in _files(folder):
        if path.suffix.lower() in MOUNTED_SUFFIXES:
            inner = path.relative_to(folder).as_posix()
            yield MountedFile(path, f"{address}/{inner}" if address else inner)


def display_path(path: Path, base: Path) -> str:
    """Return `path` relative to `base`, so that pages and messages show no absolute path."""
    try:
        return Path(os.path.relpath(path, base)).as_posix()
    except ValueError:  # another drive
        return path.name


def _files(folder: Path) -> Iterator[Path]:
    """Yield files in sorted order, each folder's files before its subfolders; skip hidden files."""
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
