r"""
# Mistakes, with their place

A mistake in a source file is reported in one line that an editor can jump to. The library knows
nothing of MkDocs, so it raises its own error; the adapter turns it into the builder's.
"""

from __future__ import annotations


class SourceError(Exception):
    r"""
    One mistake in a file that somebody wrote by hand.

    * `path` is the file, as the reader would type it
    * `line` is counted from one
    * `message` says which rule was broken, and by what
    """

    def __init__(self, path: str, line: int, message: str) -> None:
        super().__init__(f"{path}:{line}: {message}")
        self.path = path
        self.line = line
        self.message = message
