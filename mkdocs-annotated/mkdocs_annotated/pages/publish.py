r"""Build the site in a staging folder, and replace the old site only if the build succeeds.

# Publishing

MkDocs empties the site folder before it reads the first page, and finds dead links only after all
pages have been written. The plugin therefore builds into a hidden folder beside the site and moves
the result into place at the end. A failed build leaves the old site unchanged.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from mkdocs.utils import CountHandler, clean_directory


class StagedBuild:
    r"""A build in a staging folder, which becomes the site when it is published.

    * `site` is the folder of the site
    * `strict` rejects a build that logged a warning

    ```python
    build = StagedBuild("site", strict=True)  # write the pages to build.folder, then:
    build.publish()
    ```
    """

    def __init__(self, site: str, *, strict: bool) -> None:
        self.site = Path(site)
        # In the same parent folder, so that moving is renaming.
        self.folder = self.site.with_name(f".{self.site.name}.building")
        self.strict = strict
        # MkDocs counts warnings too, but does not expose its count.
        self.warnings = CountHandler()
        self.warnings.setLevel(logging.WARNING)
        logging.getLogger("mkdocs").addHandler(self.warnings)

    def publish(self) -> None:
        """Replace the site, unless the build is strict and logged a warning."""
        self._stop_counting()
        if self.strict and self.warnings.get_counts():
            return
        self.site.mkdir(parents=True, exist_ok=True)
        # Like MkDocs, keep hidden files: the site folder may be a git checkout.
        clean_directory(str(self.site))
        for entry in self.folder.iterdir():
            target = self.site / entry.name
            if target.is_dir():
                shutil.rmtree(target)
            shutil.move(entry, target)
        shutil.rmtree(self.folder)

    def discard(self) -> None:
        """Delete the staging folder of a failed build."""
        self._stop_counting()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _stop_counting(self) -> None:
        logging.getLogger("mkdocs").removeHandler(self.warnings)
