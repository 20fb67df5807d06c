r"""
# What stands beside the code

[Shapes](shapes.py) and [exhibits](exhibits.py) of a whole site, found by what the configuration
says and handed out page by page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mkdocs_annotated.beside import exhibits, shapes
from mkdocs_annotated.pages.page import Extras
from mkdocs_annotated.source.files import SourceFile, display_path
from mkdocs_annotated.source.parse import Module


@dataclass(frozen=True)
class Beside:
    r"""
    * `notes` are texts by the address of a page and by line
    * `exhibits` are all exhibits, in the order of their file
    """

    notes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    exhibits: tuple[exhibits.Exhibit, ...] = ()

    def pictures(self) -> list[Path]:
        """The files that exhibits show, each once."""
        return list(dict.fromkeys(each.picture for each in self.exhibits if each.picture))

    def extras(self, source: SourceFile, address: Callable[[Path], str]) -> Extras:
        """What belongs to one page; `address` says where, seen from it, a picture is."""
        placed: dict[int, str] = {}
        for each in self.exhibits:
            if each.module == source.display_path:
                placed[each.row] = placed.get(each.row, "") + each.html(address)
        return Extras(notes=self.notes.get(source.uri, {}), exhibits=placed)


@dataclass(frozen=True)
class Configured:
    r"""
    The options, as they stand in the configuration.

    * `base` is the folder that all paths start from
    * `folder` holds the shapes, `examples` maps modules to scripts
    * `exhibits` is a YAML file, or nothing
    """

    base: Path
    folder: str
    examples: Mapping[str, str]
    exhibits: str = ""

    def watched(self) -> list[Path]:
        """The files and folders a live preview depends on."""
        names = [self.folder, *self.examples.values(), *filter(None, [self.exhibits])]
        return [path for path in (self.base / name for name in names) if path.exists()]

    def traced(self, sources: Iterable[SourceFile]) -> list[shapes.Traced]:
        """The modules with an example. Raises `ValueError` for what does not exist."""
        known = {source.display_path: source for source in sources}
        try:
            return shapes.configured(self.base, self.folder, self.examples, known)
        except ValueError as error:
            raise ValueError(f"plugins.annotated.shapes.examples: {error}") from error

    def load(self, modules: Iterable[tuple[SourceFile, Module]]) -> Beside:
        """
        Reads the data behind all pages.

        Raises `ValueError` for a wrong option, `SourceError` for a mistake in a file.
        """
        pairs = list(modules)
        traced = self.traced(source for source, _ in pairs)
        notes = shapes.load(self.base, self.folder, traced)
        if not self.exhibits:
            return Beside(notes)
        path = self.base / self.exhibits
        if not path.is_file():
            raise ValueError(
                f"plugins.annotated.exhibits: no file {self.exhibits!r} in {self.base}"
            )
        parsed = {source.display_path: module for source, module in pairs}
        found = exhibits.load(path, display_path(path, self.base), self.base, parsed)
        return Beside(notes, tuple(found))
