r"""Load the shapes and the exhibits of a site, and give each page its own.

# Shapes and exhibits of a site
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mkdocs_annotated.beside.exhibits import Exhibit, load_exhibits
from mkdocs_annotated.beside.shapes import TracedModule, load_notes, modules_with_examples
from mkdocs_annotated.markdown.drawing import Drawing
from mkdocs_annotated.pages.page import Extras
from mkdocs_annotated.source.files import SourceFile, display_path
from mkdocs_annotated.source.parse import Module


@dataclass(frozen=True)
class Artifacts:
    r"""The shapes and exhibits of all pages.

    * `notes` are shapes as text, by the URI of a page and by line
    * `exhibits` are all exhibits in the order of their file
    """

    notes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    exhibits: tuple[Exhibit, ...] = ()

    def pictures(self) -> list[Path]:
        """Return the picture files of all exhibits, each once."""
        return list(dict.fromkeys(each.picture for each in self.exhibits if each.picture))

    def for_page(
        self, source: SourceFile, address: Callable[[Path], str], draw: Callable[[Drawing], str]
    ) -> Extras:
        """Return the shapes and exhibits of one page.

        * `address` returns the address of a picture, relative to the page
        * `draw` returns the HTML of a drawing on the page
        """
        by_row: dict[int, str] = {}
        for each in self.exhibits:
            if each.module == source.display_path:
                by_row[each.row] = by_row.get(each.row, "") + each.html(address, draw)
        return Extras(notes=self.notes.get(source.uri, {}), exhibits=by_row)


@dataclass(frozen=True)
class ArtifactPaths:
    r"""The configured paths of shapes, examples and exhibits.

    * `base` is the folder of the configuration; all other paths are relative to it
    * `shapes` is the folder of traced shapes
    * `examples` maps modules to example scripts, or folders of modules to folders of scripts
    * `exhibits` is a YAML file, or empty

    ```python
    paths = ArtifactPaths(Path(), "docs/shapes", {"shapes/circle.py": "docs/examples/circle.py"})
    artifacts = paths.load((article.source, article.module) for article in articles)
    ```
    """

    base: Path
    shapes: str
    examples: Mapping[str, str]
    exhibits: str = ""

    def watched(self) -> list[Path]:
        """Return the files and folders that a live preview must watch."""
        names = [self.shapes, *self.examples.values(), *filter(None, [self.exhibits])]
        return [path for path in (self.base / name for name in names) if path.exists()]

    def traced_modules(self, sources: Iterable[SourceFile]) -> list[TracedModule]:
        """Return the modules that have an example.

        Raises `ValueError` if a module or an example of the configuration does not exist.
        """
        known = {source.display_path: source for source in sources}
        try:
            return modules_with_examples(self.base, self.shapes, self.examples, known)
        except ValueError as error:
            raise ValueError(f"plugins.annotated.shapes.examples: {error}") from error

    def load(self, modules: Iterable[tuple[SourceFile, Module]]) -> Artifacts:
        """Read the shapes and the exhibits of all modules.

        Raises `ValueError` if a module, an example or the file of exhibits does not exist, and
        `SourceError` for the mistakes that `load_notes` and `load_exhibits` list.
        """
        pairs = list(modules)
        traced = self.traced_modules(source for source, _ in pairs)
        notes = load_notes(self.base, self.shapes, traced)
        if not self.exhibits:
            return Artifacts(notes)
        path = self.base / self.exhibits
        if not path.is_file():
            raise ValueError(
                f"plugins.annotated.exhibits: no file {self.exhibits!r} in {self.base}"
            )
        parsed = {source.display_path: module for source, module in pairs}
        exhibits = load_exhibits(path, display_path(path, self.base), self.base, parsed)
        return Artifacts(notes, tuple(exhibits))
