r"""
# The last good site stays

MkDocs empties the site folder before it reads the first page, and finds dead links only when all
pages are written. So a build goes to a hidden folder beside the site, and moves into place when
nothing is left that could fail. A mistake leaves yesterday's site as it was.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from mkdocs.utils import CountHandler, clean_directory


class Aside:
    """One build that is not yet the site."""

    def __init__(self, site: str, *, strict: bool) -> None:
        self.site = Path(site)
        # A neighbour, so that moving is renaming.
        self.folder = self.site.with_name(f".{self.site.name}.building")
        self.strict = strict
        # MkDocs counts warnings in the same way, but keeps the count to itself.
        self.warnings = CountHandler()
        self.warnings.setLevel(logging.WARNING)
        logging.getLogger("mkdocs").addHandler(self.warnings)

    def publish(self) -> None:
        """Replaces the site, unless MkDocs is about to reject the build for its warnings."""
        self._stop_counting()
        if self.strict and self.warnings.get_counts():
            return
        self.site.mkdir(parents=True, exist_ok=True)
        # Like MkDocs, leave hidden files alone: a site folder may be a checkout.
        clean_directory(str(self.site))
        for entry in self.folder.iterdir():
            place = self.site / entry.name
            if place.is_dir():
                shutil.rmtree(place)
            shutil.move(entry, place)
        shutil.rmtree(self.folder)

    def drop(self) -> None:
        """Forgets a build that failed."""
        self._stop_counting()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _stop_counting(self) -> None:
        logging.getLogger("mkdocs").removeHandler(self.warnings)
